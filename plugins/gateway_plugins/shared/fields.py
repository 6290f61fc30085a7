"""Fields of a client's request: names in errors, steps of JSON pointers, lifetimes of cache breakpoints, depth.

Every reader takes members of a body through `member`, so that no value is too deep for recursive functions or for the
JSON encoder. Nothing here knows a dialect's fields.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Members

Ttl = str | None
"""Lifetime of a cache breakpoint: None for no breakpoint, "" for the provider's usual lifetime, else "5m" or "1h"."""

MAX_DEPTH: Final = 128
"""Most levels of lists and objects in one member: orjson writes 254, and recursion takes a few frames a level."""


def param(pointer: str) -> str:
    """Return a JSON pointer as OpenAI names fields in errors: `messages[0].content[1]` for `/messages/0/content/1`."""
    words = pointer.lstrip("/").split("/")
    return "".join(f"[{word}]" if word.isdigit() else f".{word}" for word in words).removeprefix(".")


def escape_step(name: str) -> str:
    """Return a member's name as a step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def member(top: Members, name: str) -> Any:
    """Return a decoded member, or None if it is missing. Raises `Refused` for one that is nested too deeply."""
    value = top.decode(name)
    if isinstance(value, (dict, list)) and is_deep(value):
        raise invalid(f"{name} is nested too deeply: at most {MAX_DEPTH} levels are taken", name)
    return value


def is_deep(value: Any) -> bool:
    """Return whether more than `MAX_DEPTH` lists and objects are nested. Levels are counted without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        if not inner:
            return False
        level = inner
    return True
