"""Fields of a client's request, in any dialect: their names in errors, their JSON pointers, and the maximum depth of
nested values.

Readers get the fields of a body from `member`, and decode JSON text inside a field with `decoded`. Both functions
refuse values that are nested too deeply for recursive functions or for the JSON encoder. Both keep all digits of whole
numbers.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.contract import lenient_json
from gateway.contract.errors import invalid
from gateway.contract.flag import Members

Ttl = str | None
"""Lifetime of a cache breakpoint: "5m", "1h", or "" for the provider's default. None if there is no breakpoint."""

MAX_DEPTH: Final = 128
"""Maximum number of nested lists and objects in one field.

orjson encodes at most 254 levels, and recursive functions need several stack frames for each level.
"""
_BEYOND_64_BITS: Final = 2.0**63
"""Minimum absolute value of a float that may be a rounded whole number. orjson decodes whole numbers of more than 64
bits as rounded floats."""
_SURVEYED: Final = frozenset({dict, list, float})


def param(pointer: str) -> str:
    """Return the name of a field in OpenAI's form: `messages[0].content[1]` for the pointer `/messages/0/content/1`."""
    words = pointer.lstrip("/").split("/")
    return "".join(f"[{word}]" if word.isdigit() else f".{word}" for word in words).removeprefix(".")


def escape_step(name: str) -> str:
    """Return a field's name as a step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def member(top: Members, name: str) -> Any:
    """Return a field's decoded value, or None if the field is missing. Raises `Refused` for a value that is nested too
    deeply.
    """
    value = top.decode(name)
    is_too_deep, is_rounded = _survey(value)
    if is_too_deep:
        raise invalid(f"{name} is nested too deeply: at most {MAX_DEPTH} levels are taken", name)
    return lenient_json.exact(top[name]) if is_rounded else value


def decoded(text: str) -> Any:
    """Return the decoded value of JSON text inside a request.

    Raises `ValueError` if the text is not JSON or is nested too deeply.
    """
    value = lenient_json.loads(text)
    is_too_deep, is_rounded = _survey(value)
    if is_too_deep:
        raise ValueError(f"more than {MAX_DEPTH} levels")
    return lenient_json.exact(text) if is_rounded else value


def is_rounded(value: Any) -> bool:
    """Return whether a decoded value has a float that may be a rounded whole number (`_BEYOND_64_BITS`)."""
    return _survey(value)[1]


def is_deep(value: Any) -> bool:
    """Return whether lists and objects are nested more than `MAX_DEPTH` levels deep. The check uses no recursion."""
    return _survey(value)[0]


def _survey(value: Any) -> tuple[bool, bool]:
    """Return whether a decoded value is nested too deeply, and whether it has a number that may have lost digits."""
    if type(value) not in _SURVEYED:  # nearly all members
        return False, False
    level = [value] if isinstance(value, (dict, list)) else []
    is_rounded = isinstance(value, float) and abs(value) >= _BEYOND_64_BITS
    for _ in range(MAX_DEPTH):
        if not level:
            return False, is_rounded
        inner = (each.values() if type(each) is dict else each for each in level)
        children = [child for values in inner for child in values if type(child) in _SURVEYED]
        level = [child for child in children if type(child) is not float]
        if len(level) < len(children) and not is_rounded:
            is_rounded = any(type(child) is float and abs(child) >= _BEYOND_64_BITS for child in children)
    return bool(level), is_rounded
