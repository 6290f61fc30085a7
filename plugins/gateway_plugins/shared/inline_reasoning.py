"""Thinking that a model writes between tags at the start of its text, such as `<think>plan</think>Answer`.

- Some models' replies look like this if the provider does not separate thinking from text. `Caps.inline_reasoning` has
  the tags of each model.
- If the reply is translated, the client gets the thinking as a thinking block. If client and provider have the same
  dialect, the client gets the text unchanged.
- Only a tag at the start of the text begins thinking. A later tag may belong to an answer about such tags.
- The thinking ends at the first closing tag. Nested tags are not matched, because models rarely close them in pairs.
- The gateway writes the tags, and the white space around them, into the signature of the thinking block. The client
  sends the signature back in the next turn. From the signature, the gateway restores the model's exact text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol

from gateway.contract.flag import Drop, Event, Target, Usage
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.reasoning import Maker, Reasoning
from gateway_plugins.shared.reply_events import END_TURN, Citation, Reader, Stop, Writer
from gateway_plugins.shared.tools import Names

FORM: Final = "text"
_MAX_SPACE: Final = 1024
"""Maximum number of white-space characters that are held back to wait for the text after them."""
_START, _THINKING, _CLOSED, _TEXT = "start", "thinking", "closed", "text"


def original_text(thinking: Reasoning, maker: Maker) -> str | None:
    """Return thinking together with the tags around it, exactly as the model wrote them.

    Return None if the thinking was not written between tags, or was not written by the model family `maker`.
    """
    tags = maker.decoded(FORM, thinking.signature) if maker.inline else None
    if not isinstance(tags, list) or [type(tag) for tag in tags] != [str, str]:
        return None
    return f"{tags[0]}{thinking.text}{tags[1]}"


class InlineReasoning:
    """Separates thinking from text, and passes both to the writer of the reply.

    This class is a `reply_events.Writer` too, so a reader of replies can write to it.
    """

    def __init__(self, writer: Writer, tags: Sequence[str], maker: Maker) -> None:
        self._writer = writer
        self._maker = maker
        self._opening = re.compile(rf"\s*<({'|'.join(map(re.escape, tags))})>")
        self._tags = [f"<{tag}>" for tag in tags]
        self._state = _START
        self._held = ""
        """Text that is held back until later text shows whether it belongs to a tag, to thinking or to the answer."""
        self._before = self._after = ""
        """The opening tag (`_before`) and the closing tag of the thinking, with the white space around them."""
        self._close = ""
        self._thought: list[str] = []
        """Pieces of the current thinking that have been written."""
        self._answered = False
        """True if the reply has text or a call."""
        self._is_block_over = False
        """True if the provider ended a text block inside thinking, before the closing tag came."""

    def text(self, piece: str) -> None:
        if self._is_block_over:
            self._flush()
        if self._state == _TEXT:
            self._writer.text(piece)
            return
        self._held += piece
        steps = {_START: self._read_start, _THINKING: self._read_thinking, _CLOSED: self._read_space}
        while self._state in steps and self._held and steps[self._state]():
            pass
        if self._state == _TEXT:
            self._pass_text()

    def refusal(self, piece: str) -> None:
        self._flush()
        self._writer.refusal(piece)

    def start(self, reply_id: str = "") -> None:
        self._writer.start(reply_id)

    def citation(self, citation: Citation) -> None:
        self._flush()
        self._writer.citation(citation)

    def thinking(self, piece: str) -> None:
        self._flush()
        self._writer.thinking(piece)

    def signature(self, value: str) -> None:
        self._writer.signature(value)

    def redacted(self, data: str) -> None:
        self._flush()
        self._writer.redacted(data)

    def tool(self, tool_id: str, name: str) -> None:
        self._flush()
        self._answered = True
        self._writer.tool(tool_id, name)

    def arguments(self, fragment: str) -> None:
        self._writer.arguments(fragment)

    def block_end(self) -> None:
        if self._state == _THINKING:
            # only the end of the reply tells whether the thought is the answer
            self._is_block_over = True
            return
        self._flush()
        self._writer.block_end()

    def usage(self, usage: Usage, tier: str = "") -> None:
        self._writer.usage(usage, tier)

    def finish(self, stop: Stop) -> None:
        """End the reply.

        Kimi K2 Thinking sometimes writes its answer as thinking without a closing tag (recorded traffic). If the whole
        reply is thinking without a closing tag, and the model ended its turn by itself, the thinking is also written as
        text.
        """
        is_answer = self._state == _THINKING and not self._answered and stop.reason == END_TURN
        if is_answer:
            self._think(self._held)
            self._held, answer = "", "".join(self._thought)
            self._end_thinking(self._maker.tagged(""))
            self._writer.text(answer)
        self._flush()
        self._writer.finish(stop)

    def _read_start(self) -> bool:
        """Look for an opening tag at the beginning of the text, or directly after thinking.

        Return False if more text is needed to decide whether there is a tag.
        """
        if opened := self._opening.match(self._held):
            self._state, self._close, self._thought = _THINKING, f"</{opened[1]}>", []
            self._before, self._held = opened[0], self._held[opened.end() :]
            return True
        visible = self._held.lstrip()
        if len(self._held) - len(visible) <= _MAX_SPACE and any(tag.startswith(visible) for tag in self._tags):
            return False
        self._state = _TEXT
        return True

    def _read_thinking(self) -> bool:
        end = self._held.find(self._close)
        if end >= 0:
            inner, rest = self._held[:end], self._held[end + len(self._close) :]
            self._think(inner.rstrip())
            self._after = inner[len(inner.rstrip()) :] + self._close
            self._state, self._held = _CLOSED, rest
            return True
        sure = self._held[: len(self._held) - _overlap(self._held, self._close)].rstrip()
        if len(self._held) - len(sure) > _MAX_SPACE:
            sure = self._held[: -len(self._close)]
        self._think(sure)
        self._held = self._held[len(sure) :]
        return False

    def _think(self, piece: str) -> None:
        """Write a piece of thinking. White space at the start of the thinking is kept as a part of the opening tag."""
        if not self._thought:
            visible = piece.lstrip()
            self._before += piece[: len(piece) - len(visible)]
            piece = visible
        if piece:
            self._thought.append(piece)
            self._writer.thinking(piece)

    def _read_space(self) -> bool:
        """Read the white space after the closing tag, which is kept as a part of the tag.

        Return False if more text is needed to find the end of the white space.
        """
        visible = self._held.lstrip()
        if not visible and len(self._held) <= _MAX_SPACE:
            return False
        self._after += self._held[: len(self._held) - len(visible)]
        self._held = visible
        self._end_thinking()
        return True

    def _end_thinking(self, signature: str | None = None) -> None:
        if self._thought:
            tags = [self._before, self._after]
            self._writer.signature(self._maker.encoded(FORM, tags) if signature is None else signature)
            self._writer.block_end()
        self._state, self._before, self._after = _START, "", ""

    def _pass_text(self) -> None:
        held, self._held, self._answered = self._held, "", True
        if held:
            self._writer.text(held)

    def _flush(self) -> None:
        """Pass on the text that is held back, because other content follows or the reply ends."""
        self._is_block_over = False
        if self._state == _THINKING:
            self._think(self._held)
            self._held = ""
            self._end_thinking()
        elif self._state == _CLOSED:
            self._after, self._held = self._after + self._held, ""
            self._end_thinking()
        elif self._held:
            self._state = _TEXT
            self._pass_text()


def _overlap(text: str, tag: str) -> int:
    """Return the number of characters at the end of `text` that may be the beginning of `tag`.

    For "plan </t" and "</think>", the result is 3.
    """
    return next((size for size in range(min(len(text), len(tag) - 1), 0, -1) if text.endswith(tag[:size])), 0)


class Create(Protocol):
    """A class that reads replies, such as `Reader` in `dialects/<dialect>/walk.py`. It is called to create a reader."""

    def __call__(self, names: Names, schema_tool: str, maker: Maker, drop: Drop) -> Reader: ...


def reply_reader(create: Create, names: Names, schema_tool: str, target: Target, drop: Drop) -> Reader:
    """Return the reader of a reply. If the model writes thinking between tags, the reader separates it from text.

    `create` is the class of the reader for the provider's dialect. `schema_tool` is the name of the tool whose input is
    the answer, or "".
    """
    maker, tags = Maker.of(target), target.caps.inline_reasoning
    reader = create(names, schema_tool, maker, drop)
    return _SeparatingReader(reader, tags, maker) if tags else reader


class _SeparatingReader:
    """Reads a reply with another reader, and separates thinking from text with an `InlineReasoning`."""

    def __init__(self, reader: Reader, tags: Sequence[str], maker: Maker) -> None:
        self._reader = reader
        self._tags = tags
        self._maker = maker
        self._stream: InlineReasoning | None = None

    def event(self, event: Event, writer: Writer) -> None:
        self._stream = self._stream or InlineReasoning(writer, self._tags, self._maker)
        self._reader.event(event, self._stream)

    def whole(self, body: bytes, writer: Writer) -> None:
        self._stream = InlineReasoning(writer, self._tags, self._maker)
        self._reader.whole(body, self._stream)

    def end(self, writer: Writer, marks: Marks) -> None:
        self._reader.end(self._stream or writer, marks)
