"""JSON as providers send it, where a strict parser would give up a whole reply for half a character.

Some servers cut a stream's text by bytes or by UTF-16 units, so that an event holds one half of a character and the
next one the other. The native way hands on the bytes; what must be read here is read with U+FFFD in such a place. A
client's request is read strictly instead, see `members.py`.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def loads(text: bytes) -> Any:
    """The value. Raises `orjson.JSONDecodeError` for what is no JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        whole = _without_halves(text)
        if whole is None:
            raise
    return orjson.loads(whole)


def _without_halves(text: bytes) -> bytes | None:
    """The same JSON without halves of characters, whether bytes or escapes; None for what is no JSON beside them."""
    try:
        value = json.loads(text.decode("utf-8", "replace"))
        return (
            json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
        )
    except (ValueError, RecursionError):
        return None
