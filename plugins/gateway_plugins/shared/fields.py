"""How the readers and the targets of requests speak of fields: names in errors, cache marks, depth.

Every conversion reads a client's body through `member`, so that no value is deeper than the walks through schemas and
the JSON encoder bear. Nothing here knows a dialect's fields.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Members

Ttl = str | None
"""A cache mark: None for none, "" for one with the provider's usual lifetime, else "5m" or "1h"."""

MAX_DEPTH: Final = 128
"""Levels of lists and objects in one member: orjson writes no more than 254, and a walk takes a few frames a level."""


def param(pointer: str) -> str:
    """`messages[0].content[1]` of `/messages/0/content/1`, as OpenAI names fields in errors."""
    words = pointer.lstrip("/").split("/")
    return "".join(f"[{word}]" if word.isdigit() else f".{word}" for word in words).removeprefix(".")


def escape_step(name: str) -> str:
    """A member's name as a step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def member(top: Members, name: str) -> Any:
    """A decoded member, None where it is missing. Raises `Refused` for one that is nested too deeply."""
    value = top.decode(name)
    if isinstance(value, (dict, list)) and is_deep(value):
        raise invalid(f"{name} is nested too deeply: at most {MAX_DEPTH} levels are taken", name)
    return value


def is_deep(value: Any) -> bool:
    """More than `MAX_DEPTH` lists and objects stand inside each other; found level by level, without recursion."""
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
