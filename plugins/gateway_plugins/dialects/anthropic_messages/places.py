"""Finds the places of text in requests, replies and events of Anthropic's dialect (API reference, Messages)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.contract.flag import End, Event, Place
from gateway.contract.places import Kind
from gateway_plugins.shared.lenient import mapping, sequence, text, whole_number

Path = tuple[str | int, ...]


def places(event: Event) -> Iterator[Place | End]:
    match event.kind:
        case "content_block_delta":
            yield from _delta(mapping(event.data))
        case "content_block_start":
            data = mapping(event.data)
            yield from _block(mapping(data.get("content_block")), ("content_block",), whole_number(data.get("index")))
        case "content_block_stop":
            yield End(whole_number(mapping(event.data).get("index")))
        case "request":
            yield from _request(mapping(event.data))
        case "reply":
            yield from _blocks(mapping(event.data).get("content"), ("content",), "assistant")


_DELTAS: dict[str, Kind] = {"text": "text", "thinking": "thinking", "partial_json": "arguments"}


def _delta(data: dict[str, Any]) -> Iterator[Place]:
    delta = mapping(data.get("delta"))
    for name, kind in _DELTAS.items():
        if isinstance(delta.get(name), str):
            yield Place(("delta", name), kind, whole_number(data.get("index")))


def _request(data: dict[str, Any]) -> Iterator[Place]:
    yield from _blocks(data.get("system"), ("system",), "system")
    for number, message in enumerate(sequence(data.get("messages"))):
        role = text(mapping(message).get("role"))
        yield from _blocks(mapping(message).get("content"), ("messages", number, "content"), role)


def _blocks(content: Any, path: Path, role: str) -> Iterator[Place]:
    if isinstance(content, str):
        yield Place(path, role=role)
    for number, block in enumerate(sequence(content)):
        yield from _block(mapping(block), (*path, number), number, role)


def _block(block: dict[str, Any], path: Path, name: Any, role: str = "") -> Iterator[Place]:
    match block.get("type"):
        case "text" if block.get("text"):
            yield Place((*path, "text"), "text", name, role=role)
        case "thinking" if block.get("thinking"):
            yield Place((*path, "thinking"), "thinking", name, role=role)
        case "tool_use" | "server_tool_use" | "mcp_tool_use" if block.get("input"):
            yield Place((*path, "input"), "arguments", name, role=role)
        case "tool_result":
            yield from _blocks(block.get("content"), (*path, "content"), "tool")
        case "document" if isinstance(mapping(block.get("source")).get("data"), str):
            if mapping(block.get("source")).get("type") == "text":
                yield Place((*path, "source", "data"), "text", name, role=role)
