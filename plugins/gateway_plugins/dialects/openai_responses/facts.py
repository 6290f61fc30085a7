"""Readers of usage, tool names and stop reason in a Responses reply, and of the text in its events.

In a stream, the last event has the usage, and the events `response.output_item.done` have the tool calls. Source:
OpenAI's API reference (Responses, usage).
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.contract import json_api
from gateway.contract.flag import Event, Facts
from gateway_plugins.dialects.openai_chat.facts import has_tokens, media_of, usage_of
from gateway_plugins.shared.lenient import count, mapping, sequence, text

TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_ITEM_DONE: Final = "response.output_item.done"
_DELTA: Final = "response.output_text.delta"
_OUTPUT_DELTAS: Final = frozenset(
    f"response.{part}.delta"
    for part in (
        "output_text", "refusal", "reasoning_text", "reasoning_summary_text", "function_call_arguments",
        "custom_tool_call_input", "mcp_call_arguments", "code_interpreter_call_code",
    )
)  # fmt: skip
"""Kinds of events that have a piece of the model's output in `delta`."""
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_UNNAMED: Final = frozenset({"local_shell_call", "shell_call", "apply_patch_call"})
"""Types of calls that have no member `name`. The tool's name is the type without "_call"."""


class Meter:
    def __init__(self) -> None:
        self._facts = Facts()

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
        return self._facts

    def _item(self, value: Any) -> None:
        item, extra = mapping(value), self._facts.extra
        kind = text(item.get("type"))
        if kind in _CALLS:
            self._facts.tools += filter(None, [text(item.get("name"))])
        elif kind in _UNNAMED:
            self._facts.tools.append(kind.removesuffix("_call"))
        elif kind == "web_search_call":
            extra["web_search"] = extra.get("web_search", 0) + 1

    def _response(self, response: dict[str, Any]) -> None:
        facts = self._facts
        facts.model = text(response.get("model")) or facts.model
        facts.tier = text(response.get("service_tier")) or facts.tier
        reason = text(mapping(response.get("incomplete_details")).get("reason"))
        facts.stop = reason or text(response.get("status")) or facts.stop
        reported = {_AS_CHAT.get(name, name): value for name, value in mapping(response.get("usage")).items()}
        if has_tokens(reported):
            facts.usage.merge(usage_of(reported))
            facts.extra |= media_of(reported)
            facts.reported = True
        if searches := count(mapping(mapping(response.get("tool_usage")).get("web_search")).get("num_requests")):
            facts.extra["web_search"] = searches


_AS_CHAT: Final = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "input_tokens_details": "prompt_tokens_details",
    "output_tokens_details": "completion_tokens_details",
}
"""Name of each usage member in Chat Completions, by its name in Responses."""


def texts(event: Event) -> str:
    return text(mapping(event.data).get("delta")) if event.kind == _DELTA else ""


def output_bytes(event: Event) -> int:
    """Return the number of bytes of text, refusals, thinking, tool arguments and code in an event."""
    return json_api.text_bytes(mapping(event.data).get("delta")) if event.kind in _OUTPUT_DELTAS else 0


def with_text(event: Event, other: str) -> Event:
    return Event(event.kind, orjson.dumps({**event.data, "delta": other}))
