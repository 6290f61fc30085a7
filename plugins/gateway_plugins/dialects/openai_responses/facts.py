"""Reads usage, tool names and stop reason in a Responses reply, and counts the output bytes of its events.

In a stream, the last event has the usage, and the events `response.output_item.done` have the tool calls. Source:
OpenAI's API reference (Responses, usage).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.contract import json_api
from gateway.contract.flag import ClientRequest, Event, Facts
from gateway_plugins.dialects.openai_chat.usage import Reports
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.lenient import count, mapping, sequence, text
from gateway_plugins.shared.pieces import piece_bytes, piece_pattern

TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_ITEM_DONE: Final = "response.output_item.done"
_OUTPUT_DELTAS: Final = frozenset(
    f"response.{part}.delta"
    for part in (
        "output_text", "refusal", "reasoning_text", "reasoning_summary_text", "function_call_arguments",
        "custom_tool_call_input", "mcp_call_arguments", "code_interpreter_call_code",
    )
)  # fmt: skip
"""Kinds of events with a piece of the model's output in `delta`."""
_PIECE: Final = piece_pattern()
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_UNNAMED: Final = frozenset({"local_shell_call", "shell_call", "apply_patch_call"})
"""Types of tool calls without the field `name`. The tool's name is the type without "_call"."""


_FEES: Final[Mapping[str, str]] = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_generation",
}
"""Types of tool calls that are billed, each with the name under which its tool is billed (OpenAI's price page, built-in
tools)."""
_UNTOLD: Final = frozenset({"code_interpreter", "image_generation"})
"""Tools whose fee the reply does not tell: it depends on the container's size and running time, or on the image."""


class Meter:
    def __init__(self, request: ClientRequest | None = None) -> None:
        self._facts = Facts()
        self._marks = Marks(request)
        self._reports = Reports()
        self._fees: dict[str, int] = {}
        self._model = self._tier = ""

    def feed(self, event: Event) -> None:
        if event.kind == _ITEM_DONE:
            self._item(mapping(event.data).get("item"))
        elif event.kind in TERMINAL:
            self._response(mapping(mapping(event.data).get("response")))

    def whole(self, body: bytes) -> None:
        data = json_api.json_object(body)
        for item in sequence(data.get("output")):
            self._item(item)
        self._response(data)

    def facts(self) -> Facts:
        facts, reports = self._facts, self._reports
        part = reports.part(self._marks, self._model, self._tier)
        facts.parts = (msgspec.structs.replace(part, extra={**part.extra, **self._fees}),)
        facts.reported, facts.charged = reports.reported, reports.charged
        facts.inexact = not reports.is_exact(self._marks) or not _UNTOLD.isdisjoint(self._fees)
        return facts

    def _item(self, value: Any) -> None:
        item, fees = mapping(value), self._fees
        kind = text(item.get("type"))
        if kind in _CALLS:
            self._facts.tools += filter(None, [text(item.get("name"))])
        elif kind in _UNNAMED:
            self._facts.tools.append(kind.removesuffix("_call"))
        elif name := _FEES.get(kind):
            fees[name] = fees.get(name, 0) + 1

    def _response(self, response: dict[str, Any]) -> None:
        facts = self._facts
        self._model = text(response.get("model")) or self._model
        self._tier = text(response.get("service_tier")) or self._tier
        reason = text(mapping(response.get("incomplete_details")).get("reason"))
        facts.stop = reason or text(response.get("status")) or facts.stop
        self._reports.add(as_chat(mapping(response.get("usage"))))
        if searches := count(mapping(mapping(response.get("tool_usage")).get("web_search")).get("num_requests")):
            self._fees["web_search"] = searches


_AS_CHAT: Final = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "input_tokens_details": "prompt_tokens_details",
    "output_tokens_details": "completion_tokens_details",
}
"""Name of a usage field in Chat Completions, for each name in Responses."""


def as_chat(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return a usage object of Responses with the field names of Chat."""
    return {_AS_CHAT.get(name, name): value for name, value in usage.items()}


def output_bytes(event: Event) -> int:
    """Return the number of bytes of text, refusals, thinking, tool arguments and code in an event."""
    if event.kind not in _OUTPUT_DELTAS:
        return 0
    size = piece_bytes(_PIECE, event.payload)
    return json_api.text_bytes(mapping(event.data).get("delta")) if size is None else size
