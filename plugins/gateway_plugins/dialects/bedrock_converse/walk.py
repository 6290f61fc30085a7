"""Reads Converse replies, streamed or whole, and calls the writer of the client's reply (`shared/reply_events.py`).

- In a stream, text and thinking begin with a `contentBlockDelta`. Only tool calls have a `contentBlockStart`.
- `metadata` should come after `messageStop`, but some providers send it first.

Sources: botocore's service model and recorded streams.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

from gateway.contract import json_api
from gateway.contract.errors import BadFrame
from gateway.contract.flag import Drop, Event
from gateway_plugins.dialects.bedrock_converse.emit import LOCATIONS
from gateway_plugins.dialects.bedrock_converse.facts import Reports
from gateway_plugins.shared import lenient, reply_events
from gateway_plugins.shared.block_order import BlockOrder, Role
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.reasoning import Maker
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
_EVENTS: Final = frozenset({
    "messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata",
})  # fmt: skip
"""Kinds of events that are read. The payload of any other event is not decoded."""


class Reader:
    """Reads one reply, and puts the gateway's tag before each signature of thinking, except Claude's.

    The tag names the model's family (`shared/reasoning.py`).
    """

    def __init__(self, names: Names, schema_tool: str, maker: Maker, drop: Drop) -> None:
        self._calls = Calls(names, schema_tool)
        self._maker = maker
        self._drop = drop
        self._order = BlockOrder()
        self._index = -1
        """Index of the open block. It is -1 between blocks."""
        self._tool_id = ""
        """The id of the open block's tool call."""
        self._finished = False
        self._hidden = False
        """True if the open block is of a kind that cannot be passed on to the client."""
        self._signature = ""
        self._redacted = b""
        self._reports = Reports()

    def event(self, event: Event, writer: Writer) -> None:
        if event.kind not in _EVENTS:
            return
        data = lenient.mapping(event.data)
        match event.kind:
            case "messageStart":
                writer.start()
            case "metadata":
                self._metadata(data)
            case _ if self._finished:
                return
            case "messageStop":
                for index, each in self._order.rest():
                    self._block_event(index, each, writer)
                self._stop(data, writer)
            case _:
                for index, each in self._order.take(data.get("contentBlockIndex"), event, _role(event.kind, data)):
                    self._block_event(index, each, writer)

    def _block_event(self, index: int, event: Event, writer: Writer) -> None:
        data = lenient.mapping(event.data)
        match event.kind:
            case "contentBlockStart":
                self._block_start(index, data, writer)
            case "contentBlockDelta":
                self._block_delta(index, data, writer)
            case "contentBlockStop":
                self._close(writer)

    def whole(self, body: bytes, writer: Writer) -> None:
        data = lenient.all_digits(body, json_api.json_object(body))
        message = lenient.mapping(data.get("output")).get("message")
        if not isinstance(message, dict):
            raise BadFrame("the provider's reply has no output.message")
        writer.start()
        for index, block in enumerate(lenient.sequence(message.get("content"))):
            self._open(index, writer)
            for kind, value in lenient.mapping(block).items():
                self._whole_member(kind, value, writer)
            self._close(writer)
        self._stop(data, writer)
        self._metadata(data)

    def _open(self, index: int, writer: Writer) -> None:
        if index != self._index:
            self._close(writer)
            self._index = index

    def _close(self, writer: Writer) -> None:
        if self._index < 0:
            return
        if self._signature:
            writer.signature(self._maker.tagged(self._signature))
        if self._redacted:
            # the decoded bytes are Anthropic's data, which is base64 text itself (seen in recorded traffic)
            writer.redacted(self._maker.tagged(self._redacted.decode("latin-1")))
        self._calls.end(writer)
        writer.block_end()
        self._index, self._hidden, self._signature, self._redacted = -1, False, "", b""

    def _block_start(self, index: int, data: Mapping[str, Any], writer: Writer) -> None:
        start = lenient.mapping(data.get("start"))
        tool = lenient.mapping(start.get("toolUse"))
        if tool and self._calls.is_open and tool.get("toolUseId") == self._tool_id:
            return  # the beginning of the open call, sent again
        if start:  # also if the index is that of the open block
            self._close(writer)
        self._open(index, writer)
        self._tool_id = lenient.text(tool.get("toolUseId"))
        if tool and tool.get("type") != "server_tool_use":
            self._calls.begin(lenient.text(tool.get("toolUseId")), lenient.text(tool.get("name")), writer)
        elif start:  # an empty `start` does not tell the kind of the block
            self._hidden = True
            self._drop(f"/reply/{next(iter(start))}")

    def _block_delta(self, index: int, data: Mapping[str, Any], writer: Writer) -> None:
        self._open(index, writer)
        if self._hidden:
            return
        for kind, value in lenient.mapping(data.get("delta")).items():
            if kind != "toolUse" and self._calls.is_open:  # a block whose start is missing, with the call's index
                self._close(writer)
                self._open(index, writer)
            match kind:
                case "text":
                    self._text(value, writer)
                case "toolUse":
                    self._input(lenient.text(lenient.mapping(value).get("input")), writer)
                case "reasoningContent":
                    self._think(lenient.mapping(value), writer)
                case "citation":
                    self._cite(value, writer)
                case _:
                    self._drop(f"/reply/{kind}")

    def _whole_member(self, kind: str, value: Any, writer: Writer) -> None:
        match kind:
            case "text":
                self._text(value, writer)
            case "toolUse":
                self._whole_tool(lenient.mapping(value), writer)
            case "reasoningContent":  # a whole block has text and signature one level deeper than a delta
                reasoning = lenient.mapping(value)
                self._think({**reasoning, **lenient.mapping(reasoning.get("reasoningText"))}, writer)
            case "citationsContent":
                self._whole_cited(lenient.mapping(value), writer)
            case _:
                self._drop(f"/reply/{kind}")

    def _stop(self, data: Mapping[str, Any], writer: Writer) -> None:
        self._close(writer)
        self._finished = True
        native = lenient.text(data.get("stopReason"))
        reason = self._calls.reason(_REASONS.get(native, reply_events.END_TURN))
        writer.finish(Stop(reason, native, _sequence(data.get("additionalModelResponseFields"))))

    def _metadata(self, data: dict[str, Any]) -> None:
        if data.get("trace"):
            self._drop("/reply/trace")
        self._reports.add(data)

    def end(self, writer: Writer, marks: Marks) -> None:
        if self._reports.reported:
            writer.usage(self._reports.part(marks).usage, self._reports.tier)

    def _text(self, value: Any, writer: Writer) -> None:
        if piece := lenient.text(value):
            writer.text(piece)

    def _input(self, fragment: str, writer: Writer) -> None:
        if self._calls.is_open:
            self._calls.arguments(fragment, writer)
        else:
            self._drop("/reply/toolUse")

    def _think(self, delta: Mapping[str, Any], writer: Writer) -> None:
        if piece := lenient.text(delta.get("text")):
            writer.thinking(piece)
        self._signature += lenient.text(delta.get("signature"))
        try:
            self._redacted += b64decode(lenient.text(delta.get("redactedContent")))
        except ValueError:  # not base64, so the provider would not accept it back
            self._drop("/reply/reasoningContent/redactedContent")

    def _cite(self, value: Any, writer: Writer) -> None:
        if (citation := _citation(lenient.mapping(value))) is not None:
            writer.citation(citation)
        else:
            self._drop("/reply/citation")

    def _whole_tool(self, tool: Mapping[str, Any], writer: Writer) -> None:
        if tool.get("type") == "server_tool_use":
            self._drop("/reply/toolUse")
            return
        self._calls.begin(lenient.text(tool.get("toolUseId")), lenient.text(tool.get("name")), writer)
        self._calls.arguments(lenient.arguments(tool.get("input")), writer)

    def _whole_cited(self, cited: Mapping[str, Any], writer: Writer) -> None:
        for part in lenient.sequence(cited.get("content")):
            self._text(lenient.mapping(part).get("text"), writer)
        for citation in lenient.sequence(cited.get("citations")):
            self._cite(citation, writer)


def _role(kind: str, data: Mapping[str, Any]) -> Role:
    """Return the role of an event: it begins, continues or ends its content block.

    Text and thinking have no start event in Converse. So their first delta begins the block.
    """
    if kind == "contentBlockStart":
        return Role.BEGIN
    if kind == "contentBlockStop":
        return Role.END
    return Role.PIECE if "toolUse" in lenient.mapping(data.get("delta")) else Role.FIRST_OR_PIECE


def _sequence(fields: Any) -> str:
    """Return the stop sequence that ended the reply, or "".

    A reply names the stop sequence only if the request lists its path in `additionalModelResponseFieldPaths`.
    """
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
        if name in LOCATIONS:
            kind, index = LOCATIONS[name]
            numbers = [lenient.whole_number(place.get(member)) for member in (index, "start", "end")]
            return Citation(kind, cited, title, source, *numbers)
    return None
