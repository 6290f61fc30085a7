"""Reads replies in the Chat dialect, streamed or whole, for the writer of any client (`shared/reply_events.py`).

- Some members are not in OpenAI's reference: `reasoning_content` and `reasoning` (vLLM, DeepSeek, OpenRouter),
  `thinking_blocks` (LiteLLM), `stop_reason` with the stop sequence that ended the text (vLLM).
- The pieces of several calls may come interleaved, with an index that tells the calls apart. A writer must get the
  calls one after the other. So the first call is written while its pieces come. Each other call is held back until the
  arguments of the call before it are complete JSON, or until the reply ends.
- A writer cannot take one block inside another. So text between two pieces of a call is held back until the call ends.

The writers decide the form of a client's reply. Source: OpenAI's API reference (Chat, Streaming).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.contract import json_api, lenient_json
from gateway.contract.errors import BadFrame
from gateway.contract.flag import Drop, Event
from gateway_plugins.dialects.openai_chat.facts import has_tokens, parts_of, usage_of
from gateway_plugins.shared import lenient, reply_events
from gateway_plugins.shared.reasoning import tagged
from gateway_plugins.shared.reply_events import Calls, Citation, Stop, Writer
from gateway_plugins.shared.tools import Names

_REASONS: Final[Mapping[str, str]] = {
    "stop": reply_events.END_TURN,
    "tool_calls": reply_events.TOOL_USE,
    "function_call": reply_events.TOOL_USE,
    "length": reply_events.MAX_TOKENS,
    "content_filter": reply_events.REFUSAL,
}
_CONTENT_MEMBERS: Final = (
    "reasoning_content",
    "reasoning",
    "thinking_blocks",
    "content",
    "refusal",
    "annotations",
    "reasoning_details",
)
"""Members of a delta or message that are read, except those for tool calls."""
_MEMBERS: Final = frozenset({"role", "tool_calls", "function_call", *_CONTENT_MEMBERS})
"""Members of a delta or message that are read. Any other member is reported as dropped, unless its value is empty."""
_CALL_MEMBERS: Final = frozenset({"index", "id", "type", "function"})
_ENCRYPTED: Final = "reasoning.encrypted"
"""Type of the entries in OpenRouter's `reasoning_details` that are reported as dropped.

Entries of other types only repeat the text in `reasoning`.
"""
_DONE: Final = b"[DONE]"


@dataclass(slots=True)
class _Call:
    """State of a tool call in the reply."""

    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    """Pieces of the arguments that have come so far."""
    written: int = 0
    """Number of pieces that have been written."""
    ended: bool = False
    """True if the whole call has been written."""

    def is_complete(self) -> bool:
        if not self.pieces or self.pieces[-1].rstrip()[-1:] != "}":  # avoids parsing after most pieces
            return False
        try:
            lenient_json.loads("".join(self.pieces))
        except orjson.JSONDecodeError:
            return False
        return True


class Reader:
    """Reads one reply. `family` is the family of its model. Models of other families refuse thinking of this family."""

    def __init__(self, names: Names, schema_tool: str, family: str, drop: Drop) -> None:
        self._calls = Calls(names, schema_tool)
        self._family = family
        self._drop = drop
        self._started = self._finished = False
        self._thinking = False
        """True if the writer has an open thinking block."""
        self._refused = False
        self._by_index: dict[int, _Call] = {}
        self._current: _Call | None = None
        """The call whose beginning was written last."""
        self._waiting: list[Mapping[str, Any]] = []
        """Deltas that came between the pieces of a call, held back until that call ends."""

    def event(self, event: Event, writer: Writer) -> None:
        if event.payload == _DONE:
            self._done(writer)
            return
        data = lenient.mapping(event.data) if event.payload[:1] == b"{" else {}
        if not self._started and data:
            self._started = True
            writer.start(lenient.text(data.get("id")))
        for choice in map(lenient.mapping, lenient.sequence(data.get("choices"))):
            if not lenient.whole_number(choice.get("index")):
                self._delta(lenient.mapping(choice.get("delta")), writer)
                self._end(choice, writer)
        self._usage(data, writer)

    def whole(self, body: bytes, writer: Writer) -> None:
        data = json_api.json_object(body)
        choice = lenient.mapping(next(iter(lenient.sequence(data.get("choices"))), None))
        if not isinstance(choice.get("message"), dict):
            raise BadFrame("the provider's reply has no choices[0].message")
        writer.start(lenient.text(data.get("id")))
        self._delta(choice["message"], writer)
        self._end({**choice, "finish_reason": lenient.text(choice.get("finish_reason")) or "stop"}, writer)
        self._usage(data, writer)

    def _done(self, writer: Writer) -> None:
        """End the reply with the reason `stop` if no finish reason has come. Some servers send none."""
        if not self._started:
            raise BadFrame("the provider's stream has nothing but its end")
        self._end({"finish_reason": "stop"}, writer)

    def _delta(self, delta: Mapping[str, Any], writer: Writer) -> None:
        """Read a delta or a whole message, in the order in which models write: thinking, text, calls."""
        if any(map(delta.get, _CONTENT_MEMBERS)):
            self._waiting.append(delta)
            if not self._is_inside_call(writer):
                self._release(writer)
        for entry in lenient.sequence(delta.get("tool_calls")):
            self._call(lenient.mapping(entry), writer)
        if isinstance(delta.get("function_call"), dict):  # the form of a call before November 2023
            self._call({"index": 0, "function": delta["function_call"]}, writer)
        for name, value in delta.items():
            if value and name not in _MEMBERS:
                self._drop(f"/reply/{name}")

    def _is_inside_call(self, writer: Writer) -> bool:
        """Return whether a call is open and not complete. End the open call if its arguments are complete."""
        call = self._current
        if call is None or call.ended:
            return False
        if not call.is_complete():
            return True
        self._calls.end(writer)
        writer.block_end()
        call.ended = True
        return False

    def _release(self, writer: Writer) -> None:
        waiting, self._waiting = self._waiting, []
        for delta in waiting:
            self._content(delta, writer)

    def _content(self, delta: Mapping[str, Any], writer: Writer) -> None:
        texts, thoughts, others = parts_of(delta.get("content"))
        self._reasoning(delta, "".join(thoughts), writer)
        for text in filter(None, texts):
            self._close_thinking(writer)
            writer.text(text)
        for kind in others:
            self._drop(f"/reply/content/{kind}")
        if refusal := lenient.text(delta.get("refusal")):
            self._close_thinking(writer)
            self._refused = True
            writer.refusal(refusal)
        for entry in lenient.sequence(delta.get("annotations")):
            self._annotation(lenient.mapping(entry), writer)

    def _reasoning(self, delta: Mapping[str, Any], in_content: str, writer: Writer) -> None:
        """Read the thinking in a delta. `in_content` is the thinking in the parts of its `content`."""
        text = lenient.text(delta.get("reasoning_content")) or lenient.text(delta.get("reasoning")) or in_content
        if text:
            self._thinking = True
            writer.thinking(text)
        details = map(lenient.mapping, lenient.sequence(delta.get("reasoning_details")))
        if any(detail.get("type") == _ENCRYPTED for detail in details):
            self._drop("/reply/reasoning_details")
        for block in map(lenient.mapping, lenient.sequence(delta.get("thinking_blocks"))):
            if data := lenient.text(block.get("data")):
                self._close_thinking(writer)
                writer.redacted(tagged(self._family, data))
            elif signature := lenient.text(block.get("signature")):
                if not self._thinking:
                    writer.thinking(lenient.text(block.get("thinking")))
                self._thinking = False
                writer.signature(tagged(self._family, signature))
                writer.block_end()

    def _close_thinking(self, writer: Writer) -> None:
        """End the open thinking block, if any, with an empty signature that has the tag of the model's family.

        If the client sends the block back, the gateway recognises by this tag that the block is unsigned.
        """
        if self._thinking:
            self._thinking = False
            writer.signature(tagged(self._family, ""))
            writer.block_end()

    def _annotation(self, entry: Mapping[str, Any], writer: Writer) -> None:
        cited = lenient.mapping(entry.get("url_citation"))
        if url := lenient.text(cited.get("url")):
            writer.citation(Citation("web", title=lenient.text(cited.get("title")), source=url))
        else:
            self._drop("/reply/annotations")

    def _call(self, entry: Mapping[str, Any], writer: Writer) -> None:
        for name in entry.keys() - _CALL_MEMBERS:
            if entry[name]:  # such as Gemini's `extra_content`, which has the signature of thinking
                self._drop(f"/reply/tool_calls/{name}")
        function = lenient.mapping(entry.get("function"))
        tool_id, name = lenient.text(entry.get("id")), lenient.text(function.get("name"))
        call = self._find(entry, tool_id)
        call.id, call.name = call.id or tool_id, call.name or name
        given = function.get("arguments")
        piece = lenient.arguments(given) if given else ""
        if not call.ended:
            call.pieces += [piece] if piece else []
        elif piece.strip():
            raise BadFrame("the provider's stream goes on with a tool call whose arguments were complete")
        self._write_calls(writer, at_end=False)

    def _find(self, entry: Mapping[str, Any], tool_id: str) -> _Call:
        """Return the call to which an entry belongs, by the entry's index.

        Some servers send no index. Then an entry with a new id begins a call, and other entries continue the last call.
        """
        index = entry.get("index")
        if not isinstance(index, int):
            last = max(self._by_index, default=-1)
            is_last = last >= 0 and (not tool_id or tool_id == self._by_index[last].id)
            index = last if is_last else last + 1
        return self._by_index.setdefault(index, _Call())

    def _write_calls(self, writer: Writer, *, at_end: bool) -> None:
        """Write the first call that has not ended, and each later call if all calls before it are complete."""
        calls = [call for call in self._by_index.values() if not call.ended]
        for position, call in enumerate(calls):
            if call is not self._current:
                if not call.name and not at_end:
                    return
                self._close_thinking(writer)
                self._current = call
                self._calls.begin(call.id or f"call_{uuid.uuid4().hex[:24]}", call.name, writer)
            for piece in call.pieces[call.written :]:
                self._calls.arguments(piece, writer)
            call.written = len(call.pieces)
            is_last = position == len(calls) - 1
            if not at_end and (is_last or not call.is_complete()):
                return
            self._calls.end(writer)
            writer.block_end()
            call.ended = True

    def _end(self, choice: Mapping[str, Any], writer: Writer) -> None:
        native = lenient.text(choice.get("finish_reason"))
        if not native or self._finished:
            return
        self._finished = True
        self._close_thinking(writer)
        self._write_calls(writer, at_end=True)
        self._release(writer)
        self._close_thinking(writer)
        reason = self._calls.reason(_REASONS.get(native, reply_events.END_TURN))
        sequence = lenient.text(choice.get("stop_reason"))
        if reason == reply_events.END_TURN and sequence:
            reason = reply_events.STOP_SEQUENCE
        if reason == reply_events.END_TURN and self._refused:
            reason = reply_events.REFUSAL
        writer.finish(Stop(reason, native, sequence))

    def _usage(self, data: Mapping[str, Any], writer: Writer) -> None:
        if has_tokens(reported := lenient.mapping(data.get("usage"))):
            writer.usage(usage_of(reported), lenient.text(data.get("service_tier")))
