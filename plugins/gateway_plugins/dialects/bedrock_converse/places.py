"""Finds the places of text in requests, replies and events of Converse (AWS API reference: Converse)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gateway.contract.flag import End, Event, Place
from gateway.contract.places import REPLY, REQUEST, Kind
from gateway_plugins.shared.lenient import mapping, sequence, text, whole_number

Path = tuple[str | int, ...]

_DELTAS: Final[tuple[tuple[tuple[str, ...], Kind], ...]] = (
    (("text",), "text"),
    (("reasoningContent", "text"), "thinking"),
    (("toolUse", "input"), "arguments"),
    (("reasoningContent", "reasoningText", "text"), "thinking"),
    (("guardContent", "text", "text"), "text"),
)


def places(event: Event) -> Iterator[Place | End]:
    if event.kind == "contentBlockDelta":
        data = mapping(event.data)
        yield from _texts(mapping(data.get("delta")), ("delta",), whole_number(data.get("contentBlockIndex")))
    elif event.kind == "contentBlockStop":
        yield End(whole_number(mapping(event.data).get("contentBlockIndex")))
    elif event.kind == REQUEST:
        data = mapping(event.data)
        yield from _blocks(data.get("system"), ("system",), "system")
        for number, message in enumerate(map(mapping, sequence(data.get("messages")))):
            yield from _blocks(message.get("content"), ("messages", number, "content"), text(message.get("role")))
    elif event.kind == REPLY:
        message = mapping(mapping(mapping(event.data).get("output")).get("message"))
        yield from _blocks(message.get("content"), ("output", "message", "content"), "assistant")


def _blocks(blocks: Any, path: Path, role: str) -> Iterator[Place]:
    for number, block in enumerate(map(mapping, sequence(blocks))):
        yield from _texts(block, (*path, number), number, role)
        result = mapping(block.get("toolResult")).get("content")
        for inner, part in enumerate(map(mapping, sequence(result))):
            yield from _result(part, (*path, number, "toolResult", "content", inner), number)
        document = mapping(mapping(mapping(block.get("document")).get("source")))
        if isinstance(document.get("text"), str):
            yield Place((*path, number, "document", "source", "text"), "text", number, role=role)


def _texts(value: dict[str, Any], path: Path, block: Any, role: str = "") -> Iterator[Place]:
    for inner, kind in _DELTAS:
        found: Any = value
        for name in inner:
            found = mapping(found).get(name)
        # the arguments of a call are a string in a stream, and an object in a message
        if isinstance(found, str) or (kind == "arguments" and isinstance(found, dict)):
            yield Place((*path, *inner), kind, block, role=role)


def _result(part: dict[str, Any], path: Path, block: Any) -> Iterator[Place]:
    for name in ("text", "json"):
        if part.get(name) is not None:
            yield Place((*path, name), "text", block, role="tool")
