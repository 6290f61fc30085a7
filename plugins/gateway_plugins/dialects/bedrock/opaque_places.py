"""Finds the places of text in bodies of InvokeModel whose dialect is unknown: each string is a text.

It is not known which members have the text, so a filter that searches for secrets or words gets all strings.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.contract.flag import Event, Place
from gateway.contract.places import REQUEST
from gateway_plugins.shared.unknown_texts import strings


def places(event: Event) -> Iterator[Place]:
    """Yield a place for each string. In the events of a stream, strings of the same member form a block."""
    role = "user" if event.kind == REQUEST else ""
    for path in strings(event.data):
        if path:
            yield Place(path, "text", path, role=role)
