"""Finds every text in requests, replies and events of Anthropic's Messages API, for filters that read text.

A `Place` names the JSON path of one text. Source: Anthropic's API reference (Messages).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from gateway.contract.flag import End, Event, Place
from gateway.contract.places import Kind
from gateway_plugins.shared.lenient import mapping, sequence, text, whole_number
from gateway_plugins.shared.unknown_texts import unknown_texts

Path = tuple[str | int, ...]


def places(event: Event) -> Iterable[Place | End]:
    if event.kind == "content_block_delta":
        data = mapping(event.data)
        delta, index = mapping(data.get("delta")), whole_number(data.get("index"))
        if len(delta) == 2 and delta.get("type") == "text_delta" and isinstance(delta.get("text"), str):
            return _piece(index)
        return _delta(delta, index)
    return _others(event)


@lru_cache(64)  # nearly all events continue the text of the same few blocks
def _piece(index: int) -> tuple[Place, ...]:
    return (Place(("delta", "text"), "text", index),)


def _others(event: Event) -> Iterator[Place | End]:
    match event.kind:
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
_KNOWN_DELTAS = {"text_delta", "thinking_delta", "input_json_delta", "citations_delta", "signature_delta"}
_WITHOUT_TEXT = {
    "text", "thinking", "tool_use", "server_tool_use", "mcp_tool_use", "image", "redacted_thinking", "container_upload",
    "tool_reference",
}  # fmt: skip
"""Types of blocks without texts, or with texts only in fields whose names are known. In a block of an unknown type,
every string counts as a text.
"""


def _delta(delta: dict[str, Any], index: int) -> Iterator[Place]:
    for name, kind in _DELTAS.items():
        if isinstance(delta.get(name), str):
            yield Place(("delta", name), kind, index)
    if "citation" in delta:
        yield from _cited(mapping(delta["citation"]), ("delta", "citation"), "")
    if text(delta.get("type")) not in _KNOWN_DELTAS and not _DELTAS.keys() & delta.keys():
        yield from unknown_texts(delta, ("delta",), index)


def _request(data: dict[str, Any]) -> Iterator[Place]:
    yield from _blocks(data.get("system"), ("system",), "system")
    for number, message in enumerate(sequence(data.get("messages"))):
        role = text(mapping(message).get("role"))
        yield from _blocks(mapping(message).get("content"), ("messages", number, "content"), role)


def _blocks(content: Any, path: Path, role: str, within: Path = ()) -> Iterator[Place]:
    """Yield a `Place` for each text in `content`, which is a string or a list of blocks.

    `within` is () unless the content is in the result of a tool that the provider ran. There, each `Place.block` begins
    with `within`.
    """
    if isinstance(content, str):
        yield Place(path, "text", within, role=role)
    for number, block in enumerate(sequence(content)):
        yield from _block(mapping(block), (*path, number), (*within, number) if within else number, role)


def _block(block: dict[str, Any], path: Path, name: Any, role: str = "") -> Iterator[Place]:
    match block.get("type"):
        case "text":
            yield from _text(block, path, name, role)
        case "thinking" if block.get("thinking"):
            yield Place((*path, "thinking"), "thinking", name, role=role)
        case "tool_use" | "server_tool_use" | "mcp_tool_use" if block.get("input"):
            yield Place((*path, "input"), "arguments", name, role=role)
        case "tool_result" | "search_result":
            if isinstance(block.get("title"), str):
                yield Place((*path, "title"), "text", name, role="tool")
            yield from _blocks(block.get("content"), (*path, "content"), "tool")
        case "document":
            yield from _document(block, path, name, role)
        case str(kind) if kind.endswith("_tool_result"):
            within = name if isinstance(name, tuple) else (name,)
            yield from _server_result(block.get("content"), (*path, "content"), (*within, "result"))
        case kind if text(kind) not in _WITHOUT_TEXT:
            yield from unknown_texts(block, path, name, role)


def _text(block: dict[str, Any], path: Path, name: Any, role: str) -> Iterator[Place]:
    if block.get("text"):
        yield Place((*path, "text"), "text", name, role=role)
    for number, citation in enumerate(map(mapping, sequence(block.get("citations")))):
        yield from _cited(citation, (*path, "citations", number), role)


def _cited(citation: dict[str, Any], path: Path, role: str) -> Iterator[Place]:
    """Yield a `Place` for the text that a citation quotes. A stream sends this text in one piece."""
    if isinstance(citation.get("cited_text"), str):
        yield Place((*path, "cited_text"), "text", ("cited", citation["cited_text"]), repeats=True, role=role)


def _document(block: dict[str, Any], path: Path, name: Any, role: str) -> Iterator[Place]:
    source = mapping(block.get("source"))
    if source.get("type") == "text" and isinstance(source.get("data"), str):
        yield Place((*path, "source", "data"), "text", name, role=role)
    yield from _blocks(source.get("content"), (*path, "source", "content"), role)
    for member in ("title", "context"):
        if isinstance(block.get(member), str):
            yield Place((*path, member), "text", name, role=role)


def _server_result(content: Any, path: Path, name: Path) -> Iterator[Place]:
    """Yield a `Place` for each text in the result of a tool that the provider ran, such as a fetched document.

    `content` is the content of the result, and `path` is its path. Every `Place.block` begins with `name`.
    """
    yield from _blocks(content, path, "tool", name)
    result = mapping(content)
    for member in ("stdout", "stderr", "content", "text"):
        if isinstance(result.get(member), str) and result[member]:
            yield Place((*path, member), "text", (*name, member), role="tool")
    for number, line in enumerate(sequence(result.get("lines"))):
        if isinstance(line, str):
            yield Place((*path, "lines", number), "text", (*name, "lines", number), role="tool")
    if isinstance(result.get("content"), dict):
        yield from _document(result["content"], (*path, "content"), name, "tool")
