"""Reads replies in the Messages dialect, streamed or whole, and calls the writer of the client's reply.

The replies come from the Messages API, or from Claude on InvokeModel (the plugin's decoder unpacks the chunks first).
`shared/reply_events.py` defines the writers.

Source: Anthropic's API reference (Messages, Streaming, Citations).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.contract import json_api
from gateway.contract.errors import BadFrame
from gateway.contract.flag import Drop, Event
from gateway_plugins.dialects.anthropic_messages.facts import INVOCATION_METRICS
from gateway_plugins.dialects.anthropic_messages.usage import Reports
from gateway_plugins.shared import lenient, reply_events
from gateway_plugins.shared.block_order import BlockOrder, Role
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.reasoning import Maker
from gateway_plugins.shared.reply_events import Calls, Citation, Stop, Writer
from gateway_plugins.shared.tools import Names

_REASONS: Final[Mapping[str, str]] = {
    "end_turn": reply_events.END_TURN,
    "pause_turn": reply_events.END_TURN,
    "tool_use": reply_events.TOOL_USE,
    "stop_sequence": reply_events.STOP_SEQUENCE,
    "max_tokens": reply_events.MAX_TOKENS,
    "model_context_window_exceeded": reply_events.CONTEXT,
    "refusal": reply_events.REFUSAL,
    "guardrail_intervened": reply_events.REFUSAL,
}
_EVENTS: Final = frozenset({
    "message_start", "message_delta", "message_stop",
    "content_block_start", "content_block_delta", "content_block_stop",
    INVOCATION_METRICS,
})  # fmt: skip
"""Kinds of events that are read. The payload of any other event, such as a ping, is not decoded."""
_ROLES: Final[Mapping[str, Role]] = {
    "content_block_start": Role.BEGIN,
    "content_block_delta": Role.PIECE,
    "content_block_stop": Role.END,
}
_GUARDRAIL: Final = "amazon-bedrock-guardrailAction"
"""Field in which InvokeModel reports that a guardrail intervened. The stop reason does not show this."""
_INTERVENED: Final = "guardrail_intervened"
"""Converse's stop reason for a reply in which a guardrail intervened."""
_WITHOUT_COUNTERPART: Final[Mapping[str, tuple[Any, ...]]] = {
    # field of a message or of `message_delta`: values without information, which are not reported
    "container": (None,),
    "context_management": (None, {}, {"applied_edits": []}),
    "stop_details": (None, {}),
}
"""Fields of a reply that no other dialect has. A field is reported as dropped unless it has one of the listed values,
which contain no information.
"""
_PLACES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    # type in the API: (kind of citation, names of its fields for index, start and end)
    "char_location": ("char", "document_index", "start_char_index", "end_char_index"),
    "page_location": ("page", "document_index", "start_page_number", "end_page_number"),
    "content_block_location": ("block", "document_index", "start_block_index", "end_block_index"),
    "search_result_location": ("search_result", "search_result_index", "start_block_index", "end_block_index"),
    "web_search_result_location": ("web", "", "", ""),
}


class Reader:
    """Reads one reply, and puts the gateway's tag before each signature of thinking, except Claude's.

    The tag names the model's family (`shared/reasoning.py`).
    """

    def __init__(self, names: Names, schema_tool: str, maker: Maker, drop: Drop) -> None:
        self._calls = Calls(names, schema_tool)
        self._maker = maker
        self._drop = drop
        self._reports = Reports()
        self._order = BlockOrder()
        self._stop = self._sequence = ""
        self._started = self._finished = self._has_content = False
        self._id = ""
        self._kind = ""
        """Type of the open block. It is "" if none is open."""
        self._input: Any = None
        """The input in the first event of the open tool call. It is None if pieces of input came in later events, which
        are used instead."""
        self._signature = ""
        self._thought = False
        """True if the open block has had a piece of readable thinking."""

    def event(self, event: Event, writer: Writer) -> None:
        if event.kind not in _EVENTS or (self._finished and event.kind != INVOCATION_METRICS):
            return
        data = lenient.mapping(event.data)
        match event.kind:
            case "message_start":
                self._start(lenient.mapping(data.get("message")), writer)
            case "message_delta":
                self._release(writer)
                self._note_stop({**data, **lenient.mapping(data.get("delta"))})
                self._note_report(data)
            case "message_stop":
                self._release(writer)
                self._note_report(data)
                self._finish(writer)
            case _ if event.kind == INVOCATION_METRICS:
                self._reports.add_metrics(data)
            case _:
                for _, each in self._order.take(data.get("index"), event, _ROLES[event.kind]):
                    self._block_event(each, writer)

    def _release(self, writer: Writer) -> None:
        """Read the events that were held back because an earlier block had not ended."""
        for _, each in self._order.rest():
            self._block_event(each, writer)

    def _block_event(self, event: Event, writer: Writer) -> None:
        data = lenient.mapping(event.data)
        self._has_content = True
        match event.kind:
            case "content_block_start":
                self._end_block(writer)
                self._begin_block(lenient.mapping(data.get("content_block")), writer)
            case "content_block_delta":
                self._delta(lenient.mapping(data.get("delta")), writer)
            case "content_block_stop":
                self._end_block(writer)

    def end(self, writer: Writer, marks: Marks) -> None:
        if self._reports.reported:
            writer.usage(self._reports.total(marks), self._reports.service_tier)

    def whole(self, body: bytes, writer: Writer) -> None:
        data = lenient.all_digits(body, json_api.json_object(body))
        if not isinstance(data.get("content"), list) or not lenient.text(data.get("stop_reason")):
            raise BadFrame("the provider's reply has no content or no stop_reason")
        writer.start(lenient.text(data.get("id")))
        for block in data["content"]:
            self._begin_block(lenient.mapping(block), writer)
            self._end_block(writer)
        self._note_stop(data)
        self._note_report(data)
        self._finish(writer)

    def _start(self, message: Mapping[str, Any], writer: Writer) -> None:
        self._reports.begin(message.get("usage"))
        reply_id = lenient.text(message.get("id"))
        if not self._started:
            self._started, self._id = True, reply_id
            writer.start(reply_id)
        elif reply_id != self._id and self._has_content:
            raise BadFrame("the provider's stream begins a second message before the end of the first")

    def _begin_block(self, block: Mapping[str, Any], writer: Writer) -> None:
        """Begin a block, and read the content that `block` has already.

        The first event of a streamed block usually has no content. A block of an unstreamed reply is complete.
        """
        self._kind = lenient.text(block.get("type"))
        match self._kind:
            case "text":
                self._text(block, writer)
                for citation in lenient.sequence(block.get("citations")):
                    self._cite(citation, writer)
            case "thinking":
                self._think(block, writer)
                self._signature += lenient.text(block.get("signature"))
            case "tool_use":
                self._input = block.get("input") or {}
                self._calls.begin(lenient.text(block.get("id")), lenient.text(block.get("name")), writer)
            case "redacted_thinking":
                if data := lenient.text(block.get("data")):
                    writer.redacted(self._maker.tagged(data))
            case _:
                self._drop(f"/reply/{self._kind or 'block'}")

    def _delta(self, delta: Mapping[str, Any], writer: Writer) -> None:
        match lenient.text(delta.get("type")):
            case "text_delta":
                self._text(delta, writer)
            case "thinking_delta":
                self._think(delta, writer)
            case "signature_delta":
                self._signature += lenient.text(delta.get("signature"))
            case "input_json_delta":
                self._fill(lenient.text(delta.get("partial_json")), writer)
            case "citations_delta":
                self._cite(delta.get("citation"), writer)

    def _end_block(self, writer: Writer) -> None:
        if not self._kind:
            return
        if self._kind == "tool_use" and self._input is not None:
            self._calls.arguments(lenient.arguments(self._input), writer)
        if self._signature or (self._thought and not self._maker.portable):
            # unsigned thinking of another vendor gets a tag too, so that it can go back to its maker
            writer.signature(self._maker.tagged(self._signature))
        self._calls.end(writer)
        writer.block_end()
        self._kind, self._input, self._signature, self._thought = "", None, "", False

    def _text(self, delta: Mapping[str, Any], writer: Writer) -> None:
        if piece := lenient.text(delta.get("text")):
            if self._kind in {"tool_use", "thinking"}:  # a text block whose start event is missing
                self._end_block(writer)
            self._kind = self._kind or "text"
            writer.text(piece)

    def _think(self, delta: Mapping[str, Any], writer: Writer) -> None:
        if piece := lenient.text(delta.get("thinking")):
            if self._kind in {"tool_use", "text"}:
                self._end_block(writer)
            self._kind = self._kind or "thinking"
            self._thought = True
            writer.thinking(piece)

    def _fill(self, fragment: str, writer: Writer) -> None:
        if fragment and self._kind == "tool_use":
            self._input = None
            self._calls.arguments(fragment, writer)
        elif fragment and self._kind in {"", "text", "thinking"}:
            self._drop("/reply/tool_use")

    def _cite(self, value: Any, writer: Writer) -> None:
        if (citation := _citation(lenient.mapping(value))) is not None:
            writer.citation(citation)
        else:
            self._drop("/reply/citation")

    def _note_stop(self, data: Mapping[str, Any]) -> None:
        self._stop = self._stop or lenient.text(data.get("stop_reason"))
        self._sequence = self._sequence or lenient.text(data.get("stop_sequence"))
        for name, neutral in _WITHOUT_COUNTERPART.items():
            if data.get(name) not in neutral:
                self._drop(f"/reply/{name}")

    def _note_report(self, data: Mapping[str, Any]) -> None:
        if data.get(_GUARDRAIL) == "INTERVENED":
            self._stop = _INTERVENED
        self._reports.add(data.get("usage"))

    def _finish(self, writer: Writer) -> None:
        self._finished = True
        self._end_block(writer)
        reason = self._calls.reason(_REASONS.get(self._stop, reply_events.END_TURN))
        writer.finish(Stop(reason, self._stop, self._sequence))


def _citation(given: Mapping[str, Any]) -> Citation | None:
    place = _PLACES.get(lenient.text(given.get("type")))
    if place is None:
        return None
    kind, *members = place
    title = lenient.text(given.get("document_title")) or lenient.text(given.get("title"))
    source = lenient.text(given.get("url")) or lenient.text(given.get("source"))
    numbers = [lenient.whole_number(given.get(member)) for member in members]
    return Citation(kind, lenient.text(given.get("cited_text")), title, source, *numbers)
