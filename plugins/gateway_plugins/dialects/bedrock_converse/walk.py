"""Reads Converse's replies, streamed or whole, for any client's writer (`shared/reply_events.py`).

Source: botocore's service model and recorded streams: text and thinking begin with a bare delta, only tools have a
start; `metadata` comes after `messageStop`, in some places before it. How a reply is written belongs to the writers.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.contract import json_api
from gateway.contract.errors import BadFrame
from gateway.contract.flag import Drop, Event
from gateway_plugins.dialects.bedrock_converse.facts import has_tokens, tier_of, usage_of
from gateway_plugins.shared import lenient, reply_events
from gateway_plugins.shared.reasoning import tagged
from gateway_plugins.shared.reply_events import Calls, Citation, Stop, Writer
from gateway_plugins.shared.tools import Names

_REASONS: Final[Mapping[str, str]] = {
    "end_turn": reply_events.END_TURN,
    "tool_use": reply_events.TOOL_USE,
    "stop_sequence": reply_events.STOP_SEQUENCE,
    "max_tokens": reply_events.MAX_TOKENS,
    "model_context_window_exceeded": reply_events.CONTEXT,
    "guardrail_intervened": reply_events.REFUSAL,
    "content_filtered": reply_events.REFUSAL,
    "malformed_model_output": reply_events.MALFORMED,
    "malformed_tool_use": reply_events.MALFORMED,
}
_PLACES: Final[Mapping[str, tuple[str, str]]] = {
    # location: (kind, its index)
    "documentChar": ("char", "documentIndex"),
    "documentPage": ("page", "documentIndex"),
    "documentChunk": ("block", "documentIndex"),
    "searchResultLocation": ("search_result", "searchResultIndex"),
}


class Reader:
    """One reply. `family` is the model's, which alone takes its signatures back."""

    def __init__(self, names: Names, schema_tool: str, family: str, drop: Drop) -> None:
        self._calls = Calls(names, schema_tool)
        self._family = family
        self._drop = drop
        self._index = -1
        """Of the open block; -1 between blocks."""
        self._hidden = False
        """The open block is one that no client's dialect has."""
        self._signature = ""
        self._redacted = b""

    def event(self, event: Event, to: Writer) -> None:
        if (read := _STREAM.get(event.kind)) is not None:
            read(self, lenient.mapping(event.data), to)

    def whole(self, body: bytes, to: Writer) -> None:
        data = json_api.decoded(body)
        message = lenient.mapping(data.get("output")).get("message")
        if not isinstance(message, dict):
            raise BadFrame("the provider's reply has no output.message")
        to.start()
        for index, block in enumerate(lenient.sequence(message.get("content"))):
            self._open(index, to)
            for kind, value in lenient.mapping(block).items():
                if (read := _WHOLE.get(kind)) is not None:
                    read(self, value, to)
                else:
                    self._drop(f"/reply/{kind}")
            self._close(to)
        self._on_stop(data, to)
        self._on_metadata(data, to)

    def _open(self, index: int, to: Writer) -> None:
        if index != self._index:
            self._close(to)
            self._index = index

    def _close(self, to: Writer) -> None:
        if self._index < 0:
            return
        if self._signature:
            to.signature(tagged(self._family, self._signature))
        if self._redacted:
            # the bytes are Anthropic's base64 text (recorded traffic, thinking_part_redacted)
            to.redacted(tagged(self._family, self._redacted.decode("latin-1")))
        self._calls.end(to)
        to.block_end()
        self._index, self._hidden, self._signature, self._redacted = -1, False, "", b""

    def _on_start(self, data: Any, to: Writer) -> None:
        _ = data
        to.start()

    def _on_block_start(self, data: Any, to: Writer) -> None:
        self._open(lenient.whole_number(data.get("contentBlockIndex")), to)
        start = lenient.mapping(data.get("start"))
        tool = lenient.mapping(start.get("toolUse"))
        if tool and tool.get("type") != "server_tool_use":
            self._calls.begin(lenient.text(tool.get("toolUseId")), lenient.text(tool.get("name")), to)
        elif start:  # an empty one says nothing of what is to come
            self._hidden = True
            self._drop(f"/reply/{next(iter(start))}")

    def _on_delta(self, data: Any, to: Writer) -> None:
        self._open(lenient.whole_number(data.get("contentBlockIndex")), to)
        if self._hidden:
            return
        for kind, value in lenient.mapping(data.get("delta")).items():
            if (read := _DELTAS.get(kind)) is not None:
                read(self, value, to)
            else:
                self._drop(f"/reply/{kind}")

    def _on_block_stop(self, data: Any, to: Writer) -> None:
        if lenient.whole_number(data.get("contentBlockIndex")) == self._index:
            self._close(to)

    def _on_stop(self, data: Any, to: Writer) -> None:
        self._close(to)
        native = lenient.text(data.get("stopReason"))
        reason = self._calls.reason(_REASONS.get(native, reply_events.END_TURN))
        to.finish(Stop(reason, native, _sequence(data.get("additionalModelResponseFields"))))

    def _on_metadata(self, data: Any, to: Writer) -> None:
        if data.get("trace"):
            self._drop("/reply/trace")
        if has_tokens(reported := lenient.mapping(data.get("usage"))):
            to.usage(usage_of(reported), tier_of(data))

    def _text(self, value: Any, to: Writer) -> None:
        if said := lenient.text(value):
            to.text(said)

    def _input(self, value: Any, to: Writer) -> None:
        if self._calls.is_open:
            self._calls.arguments(lenient.text(lenient.mapping(value).get("input")), to)
        else:
            self._drop("/reply/toolUse")

    def _thought(self, value: Any, to: Writer) -> None:
        """A delta; a whole block has text and signature one level deeper."""
        thought = lenient.mapping(value)
        if said := lenient.text(thought.get("text")):
            to.thinking(said)
        self._signature += lenient.text(thought.get("signature"))
        try:
            self._redacted += b64decode(lenient.text(thought.get("redactedContent")))
        except ValueError:  # what is no base64 could not be sent back
            self._drop("/reply/reasoningContent/redactedContent")

    def _cited(self, value: Any, to: Writer) -> None:
        if (citation := _citation(lenient.mapping(value))) is not None:
            to.citation(citation)
        else:
            self._drop("/reply/citation")

    def _whole_tool(self, value: Any, to: Writer) -> None:
        tool = lenient.mapping(value)
        if tool.get("type") == "server_tool_use":
            self._drop("/reply/toolUse")
            return
        self._calls.begin(lenient.text(tool.get("toolUseId")), lenient.text(tool.get("name")), to)
        self._calls.arguments(lenient.arguments(tool.get("input")), to)

    def _whole_thought(self, value: Any, to: Writer) -> None:
        thought = lenient.mapping(value)
        self._thought({**thought, **lenient.mapping(thought.get("reasoningText"))}, to)

    def _whole_cited(self, value: Any, to: Writer) -> None:
        cited = lenient.mapping(value)
        for part in lenient.sequence(cited.get("content")):
            self._text(lenient.mapping(part).get("text"), to)
        for citation in lenient.sequence(cited.get("citations")):
            self._cited(citation, to)


def _sequence(fields: Any) -> str:
    """The stop sequence, where `additionalModelResponseFieldPaths` asked for it."""
    given = lenient.mapping(fields)
    return lenient.text(given.get("stop_sequence") or lenient.mapping(given.get("delta")).get("stop_sequence"))


def _citation(given: Mapping[str, Any]) -> Citation | None:
    cited = "".join(
        lenient.text(lenient.mapping(part).get("text")) for part in lenient.sequence(given.get("sourceContent"))
    )
    title, source = lenient.text(given.get("title")), lenient.text(given.get("source"))
    for name, value in lenient.mapping(given.get("location")).items():
        place = lenient.mapping(value)
        if name == "web":
            return Citation("web", cited, title, lenient.text(place.get("url")) or source)
        if name in _PLACES:
            kind, index = _PLACES[name]
            numbers = [lenient.whole_number(place.get(member)) for member in (index, "start", "end")]
            return Citation(kind, cited, title, source, *numbers)
    return None


_Read = Callable[[Reader, Any, Writer], None]

_STREAM: Final[Mapping[str, _Read]] = {
    "messageStart": Reader._on_start,  # noqa: SLF001 (its own tables)
    "contentBlockStart": Reader._on_block_start,  # noqa: SLF001
    "contentBlockDelta": Reader._on_delta,  # noqa: SLF001
    "contentBlockStop": Reader._on_block_stop,  # noqa: SLF001
    "messageStop": Reader._on_stop,  # noqa: SLF001
    "metadata": Reader._on_metadata,  # noqa: SLF001
}
_DELTAS: Final[Mapping[str, _Read]] = {
    "text": Reader._text,  # noqa: SLF001
    "toolUse": Reader._input,  # noqa: SLF001
    "reasoningContent": Reader._thought,  # noqa: SLF001
    "citation": Reader._cited,  # noqa: SLF001
}
_WHOLE: Final[Mapping[str, _Read]] = {
    "text": Reader._text,  # noqa: SLF001
    "toolUse": Reader._whole_tool,  # noqa: SLF001
    "reasoningContent": Reader._whole_thought,  # noqa: SLF001
    "citationsContent": Reader._whole_cited,  # noqa: SLF001
}
