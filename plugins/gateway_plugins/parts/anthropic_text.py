"""The text that a user sees of an event in Anthropic's dialect, and the same event with another one."""

from __future__ import annotations

import orjson

from gateway.flag import Event
from gateway_plugins.parts.lenient import mapping
from gateway_plugins.parts.lenient import text as text_of


def texts(event: Event) -> str:
    if event.kind != "content_block_delta":
        return ""
    return text_of(mapping(mapping(event.data).get("delta")).get("text"))


def with_text(event: Event, text: str) -> Event:
    data = event.data
    return Event(event.kind, orjson.dumps({**data, "delta": {**data["delta"], "text": text}}))
