"""What a provider's reply says, read without trust: a member of another type than documented counts as missing.

Replies are the provider's; a fault in one must cost the client that member, not the call. A client's own request is
read strictly instead (`dialects/openai_chat/read.py`). Nothing here knows a dialect.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.contract.errors import BadFrame

MOST: Final = 10**9
"""Tokens, or searches, of one call: no model takes or writes near as many. A slip above it would cost a fortune."""


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def whole_number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def count(value: Any) -> int | None:
    """A number of tokens, or of anything else that is paid for; None for what cannot be one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else None


def encoded(value: Any) -> str:
    """A part of a reply as JSON text. Raises `BadFrame` for one that orjson reads, but will not write."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # more than 254 levels
        raise BadFrame("the provider's reply is nested too deeply") from None


def arguments(value: Any) -> str:
    """Arguments of a call as JSON text, which they are already with some servers. Raises `BadFrame` as `encoded`."""
    return value if isinstance(value, str) else encoded(value or {})
