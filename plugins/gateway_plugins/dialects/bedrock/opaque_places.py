"""Finds the texts in InvokeModel bodies of an unknown dialect. Every string counts as a text.

The gateway does not know which fields have text. So a filter gets all strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gateway.contract.flag import Event, Place
from gateway.contract.places import REQUEST
from gateway_plugins.shared.unknown_texts import strings


def places(event: Event) -> Iterator[Place]:
    """Yield a `Place` (a JSON path) for each string. In a stream, strings at the same path are pieces of one text."""
    return _places(event, event.data)


def places_in(event: Event, names: Iterable[str]) -> Iterator[Place]:
    """Yield a `Place` (a JSON path) for each string in the top-level fields `names`."""
    return _places(event, {name: event.data[name] for name in names})


def _places(event: Event, data: Any) -> Iterator[Place]:
    role = "user" if event.kind == REQUEST else ""
    for path in strings(data):
        if path:
            yield Place(path, "text", path, role=role)
