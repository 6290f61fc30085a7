"""Finds the places of text in bodies of InvokeModel whose dialect is unknown: each string is a text.

It is not known which members have the text, so a filter that searches for secrets or words gets all strings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.contract.flag import Event, Place
from gateway.contract.places import REQUEST


def places(event: Event) -> Iterator[Place]:
    """Yield a place for each string. In the events of a stream, strings of the same member form a block."""
    role = "user" if event.kind == REQUEST else ""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), event.data)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [((*path, name), inner) for name, inner in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [((*path, number), inner) for number, inner in reversed([*enumerate(value)])]
        elif isinstance(value, str) and path:
            yield Place(path, "text", path, role=role)
