"""Fields of a client's request: their names in errors, their JSON pointers, and the maximum depth of nested values.

Every reader gets the members of a body from `member`, so that no value is nested too deeply for recursive functions or
for the JSON encoder. Nothing here knows the fields of a dialect.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Members

Ttl = str | None
"""Lifetime of a cache breakpoint: "5m", "1h", or "" for the provider's default. None if there is no breakpoint."""

MAX_DEPTH: Final = 128
"""Maximum number of nested lists and objects in one member.

orjson encodes at most 254 levels, and recursive functions need several stack frames for each level.
"""


def param(pointer: str) -> str:
    """Return the name of a field in OpenAI's form: `messages[0].content[1]` for the pointer `/messages/0/content/1`."""
    words = pointer.lstrip("/").split("/")
    return "".join(f"[{word}]" if word.isdigit() else f".{word}" for word in words).removeprefix(".")


def escape_step(name: str) -> str:
    """Return a member's name as a step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def member(top: Members, name: str) -> Any:
    """Return a member's decoded value, or None if the member is missing. Raises `Refused` for too deep nesting."""
    value = top.decode(name)
    if isinstance(value, (dict, list)) and is_deep(value):
        raise invalid(f"{name} is nested too deeply: at most {MAX_DEPTH} levels are taken", name)
    return value


def is_deep(value: Any) -> bool:
    """Return whether lists and objects are nested more than `MAX_DEPTH` levels deep. The check uses no recursion."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return False
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [child for children in inner for child in children if isinstance(child, (dict, list))]
    return bool(level)
