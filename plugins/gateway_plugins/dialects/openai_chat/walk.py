"""Reads replies in the Chat dialect, streamed or whole, and calls the writer of the client's reply.

- Some fields are not in OpenAI's reference: `reasoning_content` and `reasoning` (vLLM, DeepSeek, OpenRouter),
  `thinking_blocks` (LiteLLM), `stop_reason` with the stop sequence that ended the text (vLLM), and fields with
  encrypted reasoning that the provider requires back (`carried.py`).
- The pieces of several tool calls may come interleaved, but a writer must get one call after the other. So only one
  call is written while its pieces come. The pieces of a later call wait until the call before it is complete, or until
  the reply ends. `call_numbers.py` tells the calls apart.
- For the same reason, text between two pieces of a call waits until the call ends.

`shared/reply_events.py` defines the writers. Source: OpenAI's API reference (Chat, Streaming).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.contract import json_api
from gateway.contract.errors import BadFrame, UpstreamFailed
from gateway.contract.flag import Drop, Event
from gateway_plugins.dialects.openai_chat import carried
from gateway_plugins.dialects.openai_chat.call_numbers import CallNumbers, is_complete
from gateway_plugins.dialects.openai_chat.facts import TEXT, THINKING, failure, finish_reason, ordered_parts
from gateway_plugins.dialects.openai_chat.usage import Reports
from gateway_plugins.shared import lenient, reply_events
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.reasoning import Maker
from gateway_plugins.shared.reply_events import Calls, Citation, Stop, Writer
from gateway_plugins.shared.tools import Names

_REASONS: Final[Mapping[str, str]] = {
    "stop": reply_events.END_TURN,
    "tool_calls": reply_events.TOOL_USE,
    "function_call": reply_events.TOOL_USE,
    "length": reply_events.MAX_TOKENS,
    "max_tokens": reply_events.MAX_TOKENS,
    "model_length": reply_events.CONTEXT,
    "model_context_window_exceeded": reply_events.CONTEXT,
    "content_filter": reply_events.REFUSAL,
    "safety": reply_events.REFUSAL,
    "sensitive": reply_events.REFUSAL,
}
"""Stop reason for each finish reason (in lower case). Any other finish reason counts as the end of the turn.

OpenAI's reference has only five of them. The others come from Mistral (`model_length`), Z.ai (`sensitive`,
`model_context_window_exceeded`), and servers that pass on the reasons of Anthropic or Gemini."""
_CONTENT_MEMBERS: Final = (
    "content",
    "reasoning_content",
    "reasoning",
    "thinking_blocks",
    "refusal",
    "annotations",
    *sorted(carried.MESSAGE),
)
"""Fields of a delta or message that are read, except the fields for tool calls."""
_MEMBERS: Final = frozenset({"role", "tool_calls", "function_call", *_CONTENT_MEMBERS})
"""Fields of a delta or message that are read. Any other field is reported as dropped if its value is not empty."""
_REASONING: Final = frozenset({carried.TEXT, "reasoning", carried.DETAILS, carried.BLOCKS})
"""Fields with thinking, as text or as blocks. Most deltas have none of them."""
_CALL_MEMBERS: Final = frozenset({"index", "id", "type", "function"}) | carried.CALL
_DONE: Final = b"[DONE]"


class _Call(msgspec.Struct):
    """State of a tool call in the reply."""

    id: str = ""
    name: str = ""
    pieces: list[str] = msgspec.field(default_factory=list)
    """Pieces of the arguments that have come so far."""
    written: int = 0
    """Number of elements of `pieces` that have been written."""
    ended: bool = False
    """True if the complete tool call has been written."""
    is_empty: bool = False
    """True if the first piece of the arguments was `{}`. The piece is held back, because some servers send `{}` before
    the real arguments."""
    carried: dict[str, Any] = msgspec.field(default_factory=dict)
    """Fields with encrypted reasoning that have not been written yet."""

    def add(self, piece: str) -> None:
        """Add a piece of the arguments."""
        if piece.strip() == "{}" and not self.pieces:
            self.is_empty = True
        elif piece and (self.pieces or piece.strip()):
            self.pieces.append(piece)

    def is_complete(self) -> bool:
        return is_complete(self.pieces) or (self.is_empty and not self.pieces)


class Reader:
    """Reads one reply, and puts the gateway's tag before each signature of thinking.

    The tag names the model's family (`shared/reasoning.py`).
    """

    def __init__(self, names: Names, schema_tool: str, maker: Maker, drop: Drop) -> None:
        self._calls = Calls(names, schema_tool)
        self._schema_tool = schema_tool
        self._maker = maker
        self._gathered = carried.Gathered(maker, drop)
        self._drop = drop
        self._started = self._finished = self._over = False
        self._thinking = ""
        """Name of the provider's field with the thinking of the open block. It is "" if no thinking block is open."""
        self._in_text = False
        """True if the content that was written last is text."""
        self._refused = self._is_whole = False
        self._numbers = CallNumbers()
        self._by_number: dict[int, _Call] = {}
        self._reports = Reports()
        self._tier = ""
        self._current: _Call | None = None
        """The call that was begun last."""
        self._waiting: list[Mapping[str, Any]] = []
        """Deltas that came between the pieces of a call, held back until that call ends."""

    def event(self, event: Event, writer: Writer) -> None:
        if event.payload == _DONE:
            self._done(writer)
            self._over = True
            return
        data = lenient.mapping(event.data) if event.payload[:1] == b"{" else {}
        if not self._started and data:
            self._started = True
            writer.start(lenient.text(data.get("id")))
        for choice in map(lenient.mapping, lenient.sequence(data.get("choices"))):
            if not lenient.whole_number(choice.get("index")) and not self._over:
                self._delta(lenient.mapping(choice.get("delta")), writer)
                _check(choice)
                self._end(choice, writer)
        self._usage(data)

    def whole(self, body: bytes, writer: Writer) -> None:
        data = json_api.json_object(body)
        choice = lenient.mapping(next(iter(lenient.sequence(data.get("choices"))), None))
        if not isinstance(choice.get("message"), dict):
            raise BadFrame("the provider's reply has no choices[0].message")
        _check({**choice, "error": choice.get("error") or data.get("error")})
        writer.start(lenient.text(data.get("id")))
        self._is_whole = True
        self._delta(choice["message"], writer)
        self._end({**choice, "finish_reason": finish_reason(choice) or "stop"}, writer)
        self._usage(data)

    def end(self, writer: Writer, marks: Marks) -> None:
        if self._reports.reported:
            writer.usage(self._reports.part(marks).usage, self._tier)

    def _done(self, writer: Writer) -> None:
        """End the reply, with the finish reason `stop`. Some servers send no finish reason."""
        if not self._started:
            raise BadFrame("the provider's stream has nothing but its end")
        self._end({"finish_reason": "stop"}, writer)

    def _delta(self, delta: Mapping[str, Any], writer: Writer) -> None:
        """Read a delta or a whole message, in the order in which models write: thinking, text, tool calls."""
        if any(map(delta.get, _CONTENT_MEMBERS)):
            self._waiting.append(delta)
            if not self._is_inside_call(writer):
                self._release(writer)
        entries = lenient.sequence(delta.get("tool_calls"))
        if isinstance(delta.get("function_call"), dict):  # the form of a call before November 2023
            entries = [*entries, {"index": 0, "function": delta["function_call"]}]
        for number, entry in self._numbers.read(entries, whole=self._is_whole):
            self._call(self._by_number.setdefault(number, _Call()), entry, writer)
        for name, value in delta.items():
            if value and name not in _MEMBERS:
                self._drop(f"/reply/{name}")

    def _is_inside_call(self, writer: Writer) -> bool:
        """Return whether a tool call is open whose arguments are incomplete.

        An open call with complete arguments is ended first.
        """
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
        if self._is_whole:
            self._gathered.add_whole(delta)
        elif not carried.MESSAGE.isdisjoint(delta):
            self._gathered.add(delta)
        if not _REASONING.isdisjoint(delta):
            self._reasoning(delta, writer)
        for kind, value in ordered_parts(delta.get("content")):
            if kind == THINKING:
                self._think(carried.PART, value, writer)
            elif kind != TEXT:
                self._drop(f"/reply/content/{kind}")
            elif value:
                self._before_text(writer)
                writer.text(value)
        if refusal := lenient.text(delta.get("refusal")):
            self._before_text(writer)
            self._refused = True
            writer.refusal(refusal)
        for entry in lenient.sequence(delta.get("annotations")):
            self._annotation(lenient.mapping(entry), writer)

    def _before_text(self, writer: Writer) -> None:
        """End the open thinking block, because text follows.

        Encrypted reasoning that comes between two pieces of one text is written after the text.
        """
        if self._thinking or not self._in_text:
            self._settle(writer)
        self._in_text = True

    def _reasoning(self, delta: Mapping[str, Any], writer: Writer) -> None:
        """Read the thinking in a delta. If several fields have the same thinking, only one of them is used."""
        texts = {name: lenient.text(delta.get(name)) for name in (carried.TEXT, "reasoning")}
        texts[carried.DETAILS] = _text_of_details(delta)
        name, text = next(((name, text) for name, text in texts.items() if text), ("", ""))
        self._think(name, text, writer)
        for block in map(lenient.mapping, lenient.sequence(delta.get(carried.BLOCKS))):
            thought = lenient.text(block.get("thinking"))
            if data := lenient.text(block.get("data")):
                self._settle(writer)
                if token := self._gathered.take(carried.BLOCKS, data=data):
                    writer.redacted(token)
            elif signature := lenient.text(block.get("signature")):
                if not self._thinking:
                    writer.thinking(thought)
                self._thinking = ""
                writer.signature(self._gathered.take(carried.BLOCKS, signature=signature))
                writer.block_end()
            elif not text:  # a piece of a block whose signature is still to come
                self._think(carried.BLOCKS, thought, writer)

    def _think(self, name: str, text: str, writer: Writer) -> None:
        if text:
            self._thinking, self._in_text = name, False
            writer.thinking(text)

    def _settle(self, writer: Writer) -> None:
        """End the open thinking block, and write the encrypted reasoning that has come so far.

        - The encrypted reasoning becomes the signature of the open thinking block. If no thinking block is open, it
          becomes redacted thinking.
        - An open thinking block without encrypted reasoning gets an empty signature: only the gateway's tag with the
          model's family, or "" for Claude.
        """
        thinking, self._thinking = self._thinking, ""
        token = self._gathered.take(thinking)
        if thinking:
            writer.signature(token or self._maker.tagged(""))
            writer.block_end()
        elif token:
            writer.redacted(token)
        self._in_text = self._in_text and not token

    def _annotation(self, entry: Mapping[str, Any], writer: Writer) -> None:
        cited = lenient.mapping(entry.get("url_citation"))
        if url := lenient.text(cited.get("url")):
            writer.citation(Citation("web", title=lenient.text(cited.get("title")), source=url))
        else:
            self._drop("/reply/annotations")

    def _call(self, call: _Call, entry: Mapping[str, Any], writer: Writer) -> None:
        for name in entry.keys() - _CALL_MEMBERS:
            if entry[name]:
                self._drop(f"/reply/tool_calls/{name}")
        function = lenient.mapping(entry.get("function"))
        tool_id, name = lenient.text(entry.get("id")), lenient.text(function.get("name"))
        call.id, call.name = call.id or tool_id, call.name or name
        call.carried |= carried.call_members(entry)
        given = function.get("arguments")
        piece = lenient.arguments(given) if given else ""
        if not call.ended:
            call.add(piece)
        elif piece.strip():
            raise BadFrame("the provider's stream goes on with a tool call whose arguments were complete")
        self._write_calls(writer, at_end=False)

    def _write_calls(self, writer: Writer, *, at_end: bool) -> None:
        """Write the pieces of tool calls that have come so far, one call after the other.

        A call is written only when all calls before it are complete. `at_end` is true at the end of the reply. All
        calls are then written, even incomplete ones.
        """
        calls = [call for call in self._by_number.values() if not call.ended]
        for position, call in enumerate(calls):
            if call is not self._current:
                if not call.name and not at_end:
                    return
                call.id = call.id or f"call_{uuid.uuid4().hex[:24]}"
                self._carry(call)
                self._settle(writer)
                self._current, self._in_text = call, False
                self._calls.begin(call.id, call.name, writer)
            for piece in call.pieces[call.written :]:
                self._calls.arguments(piece, writer)
            call.written = len(call.pieces)
            is_last = position == len(calls) - 1
            if not at_end and (is_last or not call.is_complete()):
                return
            self._calls.end(writer)
            writer.block_end()
            call.ended = True
            self._carry(call)

    def _carry(self, call: _Call) -> None:
        """Gather the encrypted reasoning of a tool call, to send it to the client later.

        For a call of the schema tool (a tool whose input is the answer), report it as dropped instead, because the
        client gets no such call.
        """
        if not self._schema_tool or call.name != self._schema_tool:
            self._gathered.add_call(call.id, call.carried)
        elif call.carried:
            self._drop("/reply/tool_calls/extra_content")
        call.carried = {}

    def _end(self, choice: Mapping[str, Any], writer: Writer) -> None:
        native = finish_reason(choice)
        if not native or self._finished:
            return
        self._finished = True
        if self._thinking:
            self._settle(writer)
        self._write_calls(writer, at_end=True)
        self._release(writer)
        for call in self._by_number.values():
            self._carry(call)
        self._settle(writer)
        reason = self._calls.reason(_REASONS.get(native.lower().partition(":")[0], reply_events.END_TURN))
        sequence = lenient.text(choice.get("stop_reason"))
        if reason == reply_events.END_TURN and sequence:
            reason = reply_events.STOP_SEQUENCE
        if reason == reply_events.END_TURN and self._refused:
            reason = reply_events.REFUSAL
        writer.finish(Stop(reason, native, sequence))

    def _usage(self, data: Mapping[str, Any]) -> None:
        if usage := data.get("usage"):
            self._reports.add(lenient.mapping(usage))
        self._tier = lenient.text(data.get("service_tier")) or self._tier


def _check(choice: Mapping[str, Any]) -> None:
    """Raise `UpstreamFailed` if a choice reports that it is incomplete because of a failure."""
    if (problem := failure(choice)) is not None:
        raise UpstreamFailed(problem)


def _text_of_details(delta: Mapping[str, Any]) -> str:
    """Return the thinking in `reasoning_details`. Some servers send thinking only in this field."""
    entries = map(lenient.mapping, lenient.sequence(delta.get(carried.DETAILS)))
    return "".join(lenient.text(entry.get("text")) or lenient.text(entry.get("summary")) for entry in entries)
