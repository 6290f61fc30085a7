"""Combines the headers of a received HTTP message, for use as `messages.Headers`."""

from __future__ import annotations

from collections.abc import Iterable


def joined_headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of a message. `pairs` has each header line's name and value, in the order of the message."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers
