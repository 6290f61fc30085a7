"""A JSON parser for providers' replies, which replaces an incomplete character by U+FFFD instead of raising an error.

Some servers split a stream's text between bytes or UTF-16 units, so that one event has the first part of a character
and the next event has the rest. Replies that are forwarded unchanged to a client of the same flag are not affected.
Clients' requests are parsed strictly (`members.py`).
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def loads(text: bytes) -> Any:
    """Return the decoded value. Raises `orjson.JSONDecodeError` if anything but a split character is invalid."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        whole = _without_halves(text)
        if whole is None:
            raise
    return orjson.loads(whole)


def _without_halves(text: bytes) -> bytes | None:
    """Return the same JSON with U+FFFD for each part of a split character, or None if the text is not JSON."""
    try:
        value = json.loads(text.decode("utf-8", "replace"))
        return (
            json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
        )
    except (ValueError, RecursionError):
        return None
