"""Finds the places of text in requests, replies and events of Gemini's API (its reference, GenerateContentResponse)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.contract.flag import End, Event, Place
from gateway.contract.places import REQUEST
from gateway_plugins.shared.lenient import mapping, sequence, text, whole_number

Path = tuple[str | int, ...]


def places(event: Event) -> Iterator[Place | End]:
    """Yield the places. An event of a stream has the form of a whole reply, and continues its candidates' texts."""
    data = mapping(event.data)
    if event.kind == REQUEST:
        for name in ("systemInstruction", "system_instruction"):
            yield from _parts(mapping(data.get(name)).get("parts"), (name, "parts"), "", "system")
        for number, content in enumerate(map(mapping, sequence(data.get("contents")))):
            role = "assistant" if content.get("role") == "model" else text(content.get("role")) or "user"
            yield from _parts(content.get("parts"), ("contents", number, "parts"), number, role)
        return
    for number, candidate in enumerate(map(mapping, sequence(data.get("candidates")))):
        index = whole_number(candidate.get("index"))
        parts = mapping(candidate.get("content")).get("parts")
        yield from _parts(parts, ("candidates", number, "content", "parts"), index, "assistant")
        if candidate.get("finishReason"):
            yield End(index)


def _parts(parts: Any, path: Path, block: Any, role: str) -> Iterator[Place]:
    for number, part in enumerate(map(mapping, sequence(parts))):
        where = (*path, number)
        if isinstance(part.get("text"), str) and part["text"]:
            yield Place((*where, "text"), "thinking" if part.get("thought") is True else "text", block, role=role)
        for call in ("functionCall", "function_call"):
            if mapping(part.get(call)).get("args"):
                yield Place((*where, call, "args"), "arguments", (block, "args"), role=role)
        for result in ("functionResponse", "function_response"):
            if mapping(part.get(result)).get("response"):
                yield Place((*where, result, "response"), "text", (block, "response"), role="tool")
