"""Visible text of an event in Anthropic's dialect: reading it, replacing it, and measuring an event's output."""

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
    """Return the number of bytes of text, thinking and tool arguments in an event. Redacted thinking is not counted."""
    if event.kind != "content_block_delta":
        return 0
    delta = lenient.mapping(lenient.mapping(event.data).get("delta"))
    return json_api.text_bytes(delta.get("text"), delta.get("thinking"), delta.get("partial_json"))


def with_text(event: Event, text: str) -> Event:
    data = event.data
    return Event(event.kind, orjson.dumps({**data, "delta": {**data["delta"], "text": text}}))
