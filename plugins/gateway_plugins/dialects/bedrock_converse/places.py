"""Finds every text in requests, replies and events of Converse, for filters that read text.

A `Place` names the JSON path of one text. Source: AWS API reference (Converse).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from gateway.contract.flag import Copy, End, Event, Place
from gateway.contract.places import REPLY, REQUEST, Kind
from gateway_plugins.shared.lenient import mapping, sequence, text, whole_number
from gateway_plugins.shared.unknown_texts import unknown_texts

Path = tuple[str | int, ...]

_DELTAS: Final[tuple[tuple[tuple[str, ...], Kind], ...]] = (
    (("text",), "text"),
    (("reasoningContent", "text"), "thinking"),
    (("toolUse", "input"), "arguments"),
    (("reasoningContent", "reasoningText", "text"), "thinking"),
    (("guardContent", "text", "text"), "text"),
)


_MEMBERS: Final = frozenset({"messages", "system", "inferenceConfig", "toolConfig", "schemaVersion"})
"""Fields that a request in Converse's form may have. `schemaVersion` is Nova's (Amazon Nova user guide, request
schema)."""
_BLOCKS: Final = frozenset({
    "text", "image", "document", "video", "audio", "toolUse", "toolResult", "reasoningContent", "guardContent",
    "cachePoint", "citationsContent", "searchResult",
})  # fmt: skip


def is_request(data: dict[str, Any]) -> bool:
    """Return whether a request has only Converse's fields and blocks. In any other request, `places` may miss texts."""
    messages = [mapping(message) for message in sequence(data.get("messages"))]
    contents = [data.get("system") or [], *(message.get("content") for message in messages)]
    return (
        bool(messages)
        and data.keys() <= _MEMBERS
        and all(isinstance(content, list) for content in contents)
        and all(isinstance(block, dict) and block.keys() <= _BLOCKS for content in contents for block in content or ())
    )


def places(event: Event) -> Iterable[Place | End | Copy]:
    if event.kind == "contentBlockDelta":
        data = mapping(event.data)
        delta, index = mapping(data.get("delta")), whole_number(data.get("contentBlockIndex"))
        if len(delta) == 1 and isinstance(delta.get("text"), str):
            return _piece(index)
        return _delta(delta, index)
    return _others(event)


@lru_cache(64)  # nearly all events continue the text of the same few blocks
def _piece(index: int) -> tuple[Place, ...]:
    return (Place(("delta", "text"), "text", index),)


def _delta(delta: dict[str, Any], index: int) -> Iterator[Place]:
    yield from _texts(delta, ("delta",), index)
    yield from _citation(mapping(delta.get("citation")), ("delta", "citation"))
    for number, part in enumerate(map(mapping, sequence(delta.get("toolResult")))):
        yield from _result(part, ("delta", "toolResult", number), index)


def _others(event: Event) -> Iterator[Place | End | Copy]:
    if event.kind == "contentBlockStop":
        yield End(whole_number(mapping(event.data).get("contentBlockIndex")))
    elif event.kind == REQUEST:
        yield from _request(mapping(event.data))
    elif event.kind == REPLY:
        data = mapping(event.data)
        message = mapping(mapping(data.get("output")).get("message"))
        yield from _blocks(message.get("content"), ("output", "message", "content"), "assistant")
        yield from _trace(data)
    elif event.kind == "metadata":
        yield from _trace(mapping(event.data))


def _request(data: dict[str, Any]) -> Iterator[Place]:
    yield from _blocks(data.get("system"), ("system",), "system")
    for number, message in enumerate(map(mapping, sequence(data.get("messages")))):
        yield from _blocks(message.get("content"), ("messages", number, "content"), text(message.get("role")))
    for name, value in mapping(data.get("promptVariables")).items():
        if isinstance(mapping(value).get("text"), str):
            yield Place(("promptVariables", name, "text"), role="user")


def _trace(data: dict[str, Any]) -> Iterator[Copy]:
    """Yield the path of the field in a guardrail's trace that repeats the text of the reply, if there is one."""
    if mapping(mapping(data.get("trace")).get("guardrail")).get("modelOutput"):
        yield Copy(("trace", "guardrail", "modelOutput"))


def _citation(citation: dict[str, Any], path: Path) -> Iterator[Place]:
    """Yield a `Place` for each text that a citation quotes. A stream sends each text in one piece."""
    for number, source in enumerate(map(mapping, sequence(citation.get("sourceContent")))):
        cited = source.get("text")
        if isinstance(cited, str):
            yield Place((*path, "sourceContent", number, "text"), "text", ("cited", cited), repeats=True)


def _blocks(blocks: Any, path: Path, role: str) -> Iterator[Place]:
    for number, block in enumerate(map(mapping, sequence(blocks))):
        for name in [name for name in block if name not in _BLOCKS]:
            yield from unknown_texts(block[name], (*path, number, name), number, role)
        yield from _texts(block, (*path, number), number, role)
        result = mapping(block.get("toolResult")).get("content")
        for inner, part in enumerate(map(mapping, sequence(result))):
            yield from _result(part, (*path, number, "toolResult", "content", inner), number)
        yield from _sources(block, (*path, number), number, role)
        cited = mapping(block.get("citationsContent"))
        where = (*path, number, "citationsContent")
        yield from _parts(cited.get("content"), (*where, "content"), number, role)
        for inner, citation in enumerate(map(mapping, sequence(cited.get("citations")))):
            yield from _citation(citation, (*where, "citations", inner))


def _sources(block: dict[str, Any], path: Path, name: Any, role: str) -> Iterator[Place]:
    """Yield a `Place` with the block name `name` for each text in a block's document or search result."""
    document = mapping(block.get("document"))
    source = mapping(document.get("source"))
    if isinstance(source.get("text"), str):
        yield Place((*path, "document", "source", "text"), "text", name, role=role)
    yield from _parts(source.get("content"), (*path, "document", "source", "content"), name, role)
    if isinstance(document.get("context"), str):
        yield Place((*path, "document", "context"), "text", name, role=role)
    result = mapping(block.get("searchResult"))
    if isinstance(result.get("title"), str):
        yield Place((*path, "searchResult", "title"), "text", name, role=role)
    yield from _parts(result.get("content"), (*path, "searchResult", "content"), name, role)


def _parts(parts: Any, path: Path, name: Any, role: str) -> Iterator[Place]:
    for number, part in enumerate(map(mapping, sequence(parts))):
        if isinstance(part.get("text"), str):
            yield Place((*path, number, "text"), "text", name, role=role)


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
    yield from _sources(part, path, block, "tool")
