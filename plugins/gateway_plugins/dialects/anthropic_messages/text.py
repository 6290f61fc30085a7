"""The text of an event in Anthropic's dialect that a user sees, its replacement, and the size of an event's output."""

from __future__ import annotations

import orjson

from gateway.contract import json_api
from gateway.contract.flag import Event
from gateway_plugins.shared import lenient


def texts(event: Event) -> str:
    if event.kind != "content_block_delta":
        return ""
    return lenient.text(lenient.mapping(lenient.mapping(event.data).get("delta")).get("text"))


def output_bytes(event: Event) -> int:
    """Return the bytes of text, thinking and tool arguments; hidden thinking has no size to count."""
    if event.kind != "content_block_delta":
        return 0
    delta = lenient.mapping(lenient.mapping(event.data).get("delta"))
    return json_api.text_bytes(delta.get("text"), delta.get("thinking"), delta.get("partial_json"))


def with_text(event: Event, text: str) -> Event:
    data = event.data
    return Event(event.kind, orjson.dumps({**data, "delta": {**data["delta"], "text": text}}))
