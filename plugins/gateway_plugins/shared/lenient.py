"""Reading of providers' replies without trust: a member of another type than documented reads as a missing one.

A fault in a reply must cost the client that member, not the call. Requests of clients are checked strictly instead
(`shared/checks.py`). Nothing here knows a dialect.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.contract.errors import BadFrame

MAX_COUNT: Final = 10**9
"""Most tokens, or searches, of one call. No model reads or writes near as many, and a wrong count costs a fortune."""


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def whole_number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def count(value: Any) -> int | None:
    """Return a number of tokens, or of anything else that is paid for; None if the value cannot be one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT else None


def encoded(value: Any) -> str:
    """Return a part of a reply as JSON text. Raises `BadFrame` for one that orjson reads but does not write."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # more than 254 levels
        raise BadFrame("the provider's reply is nested too deeply") from None


def arguments(value: Any) -> str:
    """Return a call's arguments as JSON text, which some servers send already. Raises `BadFrame` as `encoded` does."""
    return value if isinstance(value, str) else encoded(value or {})
