"""The list of fields that the gateway left out of a request or a reply. The length of the list is limited."""

from __future__ import annotations

from typing import Final

MAX_DROPPED: Final = 100
"""Maximum number of dropped fields in a list."""
MAX_POINTER: Final = 200
"""Maximum length in characters of the path of a dropped field."""


def add_dropped(dropped: dict[str, None], path: str) -> None:
    """Add a field to `dropped`, a dict that serves as an ordered set. Do nothing if it has `MAX_DROPPED` fields."""
    if len(dropped) < MAX_DROPPED:
        # the path may contain bytes that are not UTF-8, which neither a response's header nor the store can hold
        dropped[path[:MAX_POINTER].encode("utf-8", "replace").decode()] = None
