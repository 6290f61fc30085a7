"""Reads replies in the Messages dialect, streamed or whole, for any client's writer (`shared/reply_events.py`).

Source: Anthropic's API reference (Messages, Streaming, Citations). Serves the Messages API itself and Claude on
InvokeModel, whose envelope the flag's decoder takes off. How a reply is written belongs to the writers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.contract import json_api
from gateway.contract.errors import BadFrame
from gateway.contract.flag import Drop, Event
from gateway_plugins.dialects.anthropic_messages.facts import Counts
from gateway_plugins.shared import lenient, reply_events
from gateway_plugins.shared.reasoning import tagged
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
_GUARDRAIL: Final = "amazon-bedrock-guardrailAction"
"""The only word of InvokeModel's on a guardrail that has stepped in; the stop reason stays as it was."""
_INTERVENED: Final = "guardrail_intervened"
"""What Converse says then."""
_LOST: Final[Mapping[str, tuple[Any, ...]]] = {
    # member of a message, or of its last delta: values that tell nothing
    "container": (None,),
    "context_management": (None, {}, {"applied_edits": []}),
    "stop_details": (None, {}),
}
"""What no other dialect has."""
_PLACES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    # type: (kind, members for index, start and end)
    "char_location": ("char", "document_index", "start_char_index", "end_char_index"),
    "page_location": ("page", "document_index", "start_page_number", "end_page_number"),
    "content_block_location": ("block", "document_index", "start_block_index", "end_block_index"),
    "search_result_location": ("search_result", "search_result_index", "start_block_index", "end_block_index"),
    "web_search_result_location": ("web", "", "", ""),
}


class Reader:
    """One reply. `family` is the model's, which alone takes its signatures back."""

    def __init__(self, names: Names, schema_tool: str, family: str, drop: Drop) -> None:
        self._calls = Calls(names, schema_tool)
        self._family = family
        self._drop = drop
        self._counts = Counts()
        self._stop = self._sequence = self._tier = ""
        self._started = False
        self._kind = ""
        """Of the open block; "" between blocks."""
        self._input: Any = None
        """With which an open call began; all of it, if no pieces come."""
        self._signature = ""

    def event(self, event: Event, to: Writer) -> None:
        if (read := _EVENTS.get(event.kind)) is not None:
            read(self, lenient.mapping(event.data), to)

    def whole(self, body: bytes, to: Writer) -> None:
        data = json_api.decoded(body)
        if not isinstance(data.get("content"), list) or not lenient.text(data.get("stop_reason")):
            raise BadFrame("the provider's reply has no content or no stop_reason")
        to.start(lenient.text(data.get("id")))
        for block in data["content"]:
            self._begin(lenient.mapping(block), to)
            self._end(to)
        self._note_stop(data)
        self._note_guardrail(data)
        self._note_usage(data.get("usage"))
        self._finish(to)

    def _message_start(self, data: Any, to: Writer) -> None:
        message = lenient.mapping(data.get("message"))
        self._note_usage(message.get("usage"))
        if not self._started:  # a start in the middle starts nothing anew
            self._started = True
            to.start(lenient.text(message.get("id")))

    def _block_start(self, data: Any, to: Writer) -> None:
        self._end(to)
        self._begin(lenient.mapping(data.get("content_block")), to)

    def _delta(self, data: Any, to: Writer) -> None:
        delta = lenient.mapping(data.get("delta"))
        if (read := _DELTAS.get(lenient.text(delta.get("type")))) is not None:
            read(self, delta, to)

    def _block_stop(self, data: Any, to: Writer) -> None:
        _ = data
        self._end(to)

    def _message_delta(self, data: Any, to: Writer) -> None:
        _ = to
        self._note_stop({**data, **lenient.mapping(data.get("delta"))})
        self._note_guardrail(data)
        self._note_usage(data.get("usage"))

    def _message_stop(self, data: Any, to: Writer) -> None:
        self._note_guardrail(data)
        self._note_usage(data.get("usage"))
        self._finish(to)

    def _begin(self, block: Mapping[str, Any], to: Writer) -> None:
        """A block with what it holds from the beginning: all of it in a whole reply, mostly nothing in a stream."""
        self._kind = lenient.text(block.get("type"))
        if self._kind == "text":
            self._say(block, to)
            for citation in lenient.sequence(block.get("citations")):
                self._cite(citation, to)
        elif self._kind == "thinking":
            self._think(block, to)
            self._sign(block, to)
        elif self._kind == "tool_use":
            self._input = block.get("input") or {}
            self._calls.begin(lenient.text(block.get("id")), lenient.text(block.get("name")), to)
        elif self._kind == "redacted_thinking":
            if data := lenient.text(block.get("data")):
                to.redacted(tagged(self._family, data))
        else:
            self._drop(f"/reply/{self._kind or 'block'}")

    def _end(self, to: Writer) -> None:
        if not self._kind:
            return
        if self._kind == "tool_use" and self._input is not None:
            self._calls.arguments(lenient.arguments(self._input), to)
        if self._signature:
            to.signature(tagged(self._family, self._signature))
        self._calls.end(to)
        to.block_end()
        self._kind, self._input, self._signature = "", None, ""

    def _say(self, delta: Mapping[str, Any], to: Writer) -> None:
        if said := lenient.text(delta.get("text")):
            self._kind = self._kind or "text"
            to.text(said)

    def _think(self, delta: Mapping[str, Any], to: Writer) -> None:
        if said := lenient.text(delta.get("thinking")):
            self._kind = self._kind or "thinking"
            to.thinking(said)

    def _sign(self, delta: Mapping[str, Any], to: Writer) -> None:
        _ = to
        self._signature += lenient.text(delta.get("signature"))

    def _fill(self, delta: Mapping[str, Any], to: Writer) -> None:
        fragment = lenient.text(delta.get("partial_json"))
        if fragment and self._kind == "tool_use":
            self._input = None
            self._calls.arguments(fragment, to)
        elif fragment and not self._kind:
            self._drop("/reply/tool_use")

    def _cite_delta(self, delta: Mapping[str, Any], to: Writer) -> None:
        self._cite(delta.get("citation"), to)

    def _cite(self, value: Any, to: Writer) -> None:
        if (citation := _citation(lenient.mapping(value))) is not None:
            to.citation(citation)
        else:
            self._drop("/reply/citation")

    def _note_stop(self, data: Mapping[str, Any]) -> None:
        self._stop = lenient.text(data.get("stop_reason")) or self._stop
        self._sequence = lenient.text(data.get("stop_sequence")) or self._sequence
        for name, neutral in _LOST.items():
            if data.get(name) not in neutral:
                self._drop(f"/reply/{name}")

    def _note_guardrail(self, data: Mapping[str, Any]) -> None:
        if data.get(_GUARDRAIL) == "INTERVENED":
            self._stop = _INTERVENED

    def _note_usage(self, report: Any) -> None:
        self._counts.merge(report)
        self._tier = lenient.text(lenient.mapping(report).get("service_tier")) or self._tier

    def _finish(self, to: Writer) -> None:
        self._end(to)
        reason = self._calls.reason(_REASONS.get(self._stop, reply_events.END_TURN))
        to.finish(Stop(reason, self._stop, self._sequence))
        if self._counts.told:
            to.usage(self._counts.usage(), self._tier)


def _citation(given: Mapping[str, Any]) -> Citation | None:
    place = _PLACES.get(lenient.text(given.get("type")))
    if place is None:
        return None
    kind, *members = place
    title = lenient.text(given.get("document_title")) or lenient.text(given.get("title"))
    source = lenient.text(given.get("url")) or lenient.text(given.get("source"))
    numbers = [lenient.whole_number(given.get(member)) for member in members]
    return Citation(kind, lenient.text(given.get("cited_text")), title, source, *numbers)


_EVENTS: Final[Mapping[str, Callable[[Reader, Any, Writer], None]]] = {
    "message_start": Reader._message_start,  # noqa: SLF001 (its own tables)
    "content_block_start": Reader._block_start,  # noqa: SLF001
    "content_block_delta": Reader._delta,  # noqa: SLF001
    "content_block_stop": Reader._block_stop,  # noqa: SLF001
    "message_delta": Reader._message_delta,  # noqa: SLF001
    "message_stop": Reader._message_stop,  # noqa: SLF001
}
_DELTAS: Final[Mapping[str, Callable[[Reader, Mapping[str, Any], Writer], None]]] = {
    "text_delta": Reader._say,  # noqa: SLF001
    "thinking_delta": Reader._think,  # noqa: SLF001
    "signature_delta": Reader._sign,  # noqa: SLF001
    "input_json_delta": Reader._fill,  # noqa: SLF001
    "citations_delta": Reader._cite_delta,  # noqa: SLF001
}
