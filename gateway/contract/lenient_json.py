"""A JSON parser for replies of providers, which reads half a character as U+FFFD.

Some servers cut a stream's text by bytes or by UTF-16 units, so that one event has the first half of a character and
the next event the second. The native way forwards the bytes unchanged. Requests of clients are read strictly
(`members.py`).
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def loads(text: bytes) -> Any:
    """Return the decoded value. Raises `orjson.JSONDecodeError` if the text is not JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        whole = _without_halves(text)
        if whole is None:
            raise
    return orjson.loads(whole)


def _without_halves(text: bytes) -> bytes | None:
    """Return the same JSON with U+FFFD for each half of a character, or None if the rest is not JSON."""
    try:
        value = json.loads(text.decode("utf-8", "replace"))
        return (
            json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
        )
    except (ValueError, RecursionError):
        return None
