"""Lenient readers of values in providers' replies, for all dialects: a value of a wrong type is treated as missing.

So a client loses only the faulty field and not the whole reply. Requests of clients are checked strictly instead
(`shared/checks.py`).
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.contract import json_api, lenient_json
from gateway.contract.errors import BadFrame
from gateway_plugins.shared.fields import is_rounded

MAX_COUNT: Final = 10**9
"""Maximum number of tokens, or of searches, in one call. A larger count is a mistake and must not be billed."""


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def whole_number(value: Any) -> int:
    return value if type(value) is int else 0


def count(value: Any) -> int | None:
    """Return the value as a count of tokens or other billed items. Return None if it is not a plausible count.

    Some servers write a count as 12.0 or as a string.
    """
    if value is None:
        return None
    if type(value) is not int:
        value = json_api.integer(value)
    return value if value is not None and 0 <= value <= MAX_COUNT else None


def positive(value: Any, otherwise: int = 0) -> int:
    """Return a value in a client's request as an integer, or `otherwise` if it is not a positive integer.

    The result is only for the gateway's own use, for example to estimate costs. The provider gets the client's value
    unchanged, even if it is not a positive integer.
    """
    number = json_api.integer(value)
    return number if number is not None and number > 0 else otherwise


def all_digits(text: bytes, value: Any) -> Any:
    """Return the decoded JSON `text`, with all digits of its whole numbers.

    `value` is the text as orjson decoded it. It is returned unchanged unless it has a number that orjson may have
    rounded.
    """
    return lenient_json.exact(text) if is_rounded(value) else value


def encoded(value: Any) -> str:
    """Return a part of a reply as JSON text. Raises `BadFrame` if the part is nested too deeply for orjson."""
    try:
        return lenient_json.dumps(value).decode()
    except orjson.JSONEncodeError:  # more than 254 levels
        raise BadFrame("the provider's reply is nested too deeply") from None


def arguments(value: Any) -> str:
    """Return the arguments of a tool call as JSON text. Some servers send JSON text, and others send an object.

    Raises `BadFrame` if an object is nested too deeply.
    """
    return value if isinstance(value, str) else encoded(value or {})
