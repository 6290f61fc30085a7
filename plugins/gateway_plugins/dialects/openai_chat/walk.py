"""Reads replies in the Chat dialect, streamed or whole, for any client's writer (`shared/reply_events.py`).

Source: OpenAI's API reference (Chat, Streaming); beyond it what its many servers add: `reasoning_content` and
`reasoning` (vLLM, DeepSeek, OpenRouter), `thinking_blocks` (LiteLLM), `stop_reason` with the sequence that was met
(vLLM). How a reply is written belongs to the writers.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.contract import json_api
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
_READ: Final = frozenset(
    {"role", "content", "refusal", "reasoning_content", "reasoning", "thinking_blocks", "tool_calls", "function_call",
     "annotations", "reasoning_details"}
)  # fmt: skip
"""Members of a delta or message; others that say something are reported."""
_READ_OF_A_CALL: Final = frozenset({"index", "id", "type", "function"})
_HIDDEN: Final = "reasoning.encrypted"
"""Of OpenRouter's `reasoning_details`, which else repeat the reasoning."""
_SPOKEN: Final = (
    "reasoning_content",
    "reasoning",
    "thinking_blocks",
    "content",
    "refusal",
    "annotations",
    "reasoning_details",
)
"""Those of them that are no calls."""
_DONE: Final = b"[DONE]"


@dataclass(slots=True)
class _Call:
    """A call that has not been told to its end."""

    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    """Arguments; all of them, told or not."""
    told: int = 0
    """Pieces that the writer has; -1 when the call itself is not told yet."""

    def is_complete(self) -> bool:
        if not self.pieces or self.pieces[-1].rstrip()[-1:] != "}":  # seldom more has to be read
            return False
        try:
            orjson.loads("".join(self.pieces))
        except orjson.JSONDecodeError:
            return False
        return True


class Reader:
    """One reply. `family` is the model's, for reasoning that comes back to it.

    Calls may be told apart by their index only, in any order; a writer gets one after the other. So a call is told
    while it grows, and one that begins before the one before it is complete JSON waits for the end.
    """

    def __init__(self, names: Names, schema_tool: str, family: str, drop: Drop) -> None:
        self._calls = Calls(names, schema_tool)
        self._family = family
        self._drop = drop
        self._started = self._finished = False
        self._thinking = False
        """Thinking is open in the writer."""
        self._refused = False
        self._waiting: dict[int, _Call] = {}
        self._current: _Call | None = None
        """The call that is open in the writer."""
        self._late: list[Mapping[str, Any]] = []
        """What was said inside of a call, or just now."""

    def event(self, event: Event, to: Writer) -> None:
        if event.payload == _DONE:
            self._done(to)
            return
        data = lenient.mapping(event.data) if event.payload[:1] == b"{" else {}
        if not self._started and data:
            self._started = True
            to.start(lenient.text(data.get("id")))
        for choice in map(lenient.mapping, lenient.sequence(data.get("choices"))):
            if not lenient.whole_number(choice.get("index")):
                self._read(lenient.mapping(choice.get("delta")), to)
                self._end(choice, to)
        self._usage(data, to)

    def whole(self, body: bytes, to: Writer) -> None:
        data = json_api.decoded(body)
        choice = lenient.mapping(next(iter(lenient.sequence(data.get("choices"))), None))
        if not isinstance(choice.get("message"), dict):
            raise BadFrame("the provider's reply has no choices[0].message")
        to.start(lenient.text(data.get("id")))
        self._read(choice["message"], to)
        self._end({**choice, "finish_reason": lenient.text(choice.get("finish_reason")) or "stop"}, to)
        self._usage(data, to)

    def _done(self, to: Writer) -> None:
        """The end of a stream, whose reason some servers leave out, as they do in whole replies."""
        if not self._started:
            raise BadFrame("the provider's stream has nothing but its end")
        self._end({"finish_reason": "stop"}, to)

    def _read(self, said: Mapping[str, Any], to: Writer) -> None:
        """A delta, or a whole message: thinking first, then text, then calls, as models say them.

        No writer takes one block inside of another: what stands between two pieces of a call waits for the end.
        """
        if any(map(said.get, _SPOKEN)):
            self._late.append(said)
            if not self._is_inside_a_call(to):
                self._say_late(to)
        for entry in lenient.sequence(said.get("tool_calls")):
            self._call(lenient.mapping(entry), to)
        if isinstance(said.get("function_call"), dict):  # of before 2023-11
            self._call({"index": 0, "function": said["function_call"]}, to)
        for name, value in said.items():
            if value and name not in _READ:
                self._drop(f"/reply/{name}")

    def _is_inside_a_call(self, to: Writer) -> bool:
        """Whether the open call goes on; it ends here if it need not."""
        call = self._current
        if call is None or call.told < 0:
            return False
        if not call.is_complete():
            return True
        to.block_end()
        call.told = -1
        return False

    def _say_late(self, to: Writer) -> None:
        late, self._late = self._late, []
        for said in late:
            self._speak(said, to)

    def _speak(self, said: Mapping[str, Any], to: Writer) -> None:
        texts, thoughts, others = parts_of(said.get("content"))
        self._reason(said, "".join(thoughts), to)
        for text in filter(None, texts):
            self._close_thinking(to)
            to.text(text)
        for kind in others:
            self._drop(f"/reply/content/{kind}")
        if refusal := lenient.text(said.get("refusal")):
            self._close_thinking(to)
            self._refused = True
            to.refusal(refusal)
        for entry in lenient.sequence(said.get("annotations")):
            self._annotate(lenient.mapping(entry), to)

    def _reason(self, said: Mapping[str, Any], thought: str, to: Writer) -> None:
        """`thought` is what the content has of it."""
        text = lenient.text(said.get("reasoning_content")) or lenient.text(said.get("reasoning")) or thought
        if text:
            self._thinking = True
            to.thinking(text)
        details = map(lenient.mapping, lenient.sequence(said.get("reasoning_details")))
        if any(detail.get("type") == _HIDDEN for detail in details):
            self._drop("/reply/reasoning_details")
        for block in map(lenient.mapping, lenient.sequence(said.get("thinking_blocks"))):
            if data := lenient.text(block.get("data")):
                self._close_thinking(to)
                to.redacted(tagged(self._family, data))
            elif signature := lenient.text(block.get("signature")):
                if not self._thinking:
                    to.thinking(lenient.text(block.get("thinking")))
                self._thinking = False
                to.signature(tagged(self._family, signature))
                to.block_end()

    def _close_thinking(self, to: Writer) -> None:
        """Reasoning without a signature is marked by an empty one of ours, so that it is known when it comes back."""
        if self._thinking:
            self._thinking = False
            to.signature(tagged(self._family, ""))
            to.block_end()

    def _annotate(self, entry: Mapping[str, Any], to: Writer) -> None:
        cited = lenient.mapping(entry.get("url_citation"))
        if url := lenient.text(cited.get("url")):
            to.citation(Citation("web", title=lenient.text(cited.get("title")), source=url))
        else:
            self._drop("/reply/annotations")

    def _call(self, entry: Mapping[str, Any], to: Writer) -> None:
        for name in entry.keys() - _READ_OF_A_CALL:
            if entry[name]:  # such as Gemini's `extra_content`, with the thought's signature
                self._drop(f"/reply/tool_calls/{name}")
        function = lenient.mapping(entry.get("function"))
        tool_id, name = lenient.text(entry.get("id")), lenient.text(function.get("name"))
        call = self._find(entry, tool_id)
        call.id, call.name = call.id or tool_id, call.name or name
        given = function.get("arguments")
        piece = lenient.arguments(given) if given else ""
        if call.told >= 0:
            call.pieces += [piece] if piece else []
        elif piece.strip():
            raise BadFrame("the provider's stream goes on with a tool call whose arguments were complete")
        self._advance(to, over=False)

    def _find(self, entry: Mapping[str, Any], tool_id: str) -> _Call:
        """By index; some servers leave it out, and then an id of its own begins a call."""
        index = entry.get("index")
        if not isinstance(index, int):
            last = max(self._waiting, default=-1)
            again = last >= 0 and (not tool_id or tool_id == self._waiting[last].id)
            index = last if again else last + 1
        return self._waiting.setdefault(index, _Call())

    def _advance(self, to: Writer, *, over: bool) -> None:
        """Tell what can be told: the first call that is not told to its end, and those behind it if it is complete."""
        calls = [call for call in self._waiting.values() if call.told >= 0]
        for at, call in enumerate(calls):
            if call is not self._current:
                if not (call.name or over):
                    return
                self._close_thinking(to)
                self._current = call
                self._calls.begin(call.id or f"call_{uuid.uuid4().hex[:24]}", call.name, to)
            for piece in call.pieces[call.told :]:
                self._calls.arguments(piece, to)
            call.told = len(call.pieces)
            is_last = at == len(calls) - 1
            if not over and (is_last or not call.is_complete()):
                return
            self._calls.end(to)
            to.block_end()
            call.told = -1

    def _end(self, choice: Mapping[str, Any], to: Writer) -> None:
        native = lenient.text(choice.get("finish_reason"))
        if not native or self._finished:
            return
        self._finished = True
        self._close_thinking(to)
        self._advance(to, over=True)
        self._say_late(to)
        self._close_thinking(to)
        reason = self._calls.reason(_REASONS.get(native, reply_events.END_TURN))
        sequence = lenient.text(choice.get("stop_reason"))
        if reason == reply_events.END_TURN and sequence:
            reason = reply_events.STOP_SEQUENCE
        if reason == reply_events.END_TURN and self._refused:
            reason = reply_events.REFUSAL
        to.finish(Stop(reason, native, sequence))

    def _usage(self, data: Mapping[str, Any], to: Writer) -> None:
        if has_tokens(reported := lenient.mapping(data.get("usage"))):
            to.usage(usage_of(reported), lenient.text(data.get("service_tier")))
