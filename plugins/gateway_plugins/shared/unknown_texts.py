"""Finds the strings in message parts of unknown kinds, so that filters see new kinds of text too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gateway.contract.flag import Place

Path = tuple[str | int, ...]

_NO_TEXT: Final = frozenset({"type", "id", "call_id", "tool_use_id", "cache_control", "signature", "encrypted_content"})
"""Names of fields whose strings are not text that a filter may change, such as ids and signatures. A changed value
would break the request."""


def strings(value: Any, path: Path = (), without: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield the path of each string in a value, in order. Fields named in `without` are left out."""
    waiting: list[tuple[Path, Any]] = [(path, value)]
    while waiting:
        at, inner = waiting.pop()
        if isinstance(inner, dict):
            waiting += [((*at, name), each) for name, each in reversed(inner.items()) if name not in without]
        elif isinstance(inner, list):
            waiting += [((*at, number), each) for number, each in reversed([*enumerate(inner)])]
        elif isinstance(inner, str):
            yield at


def unknown_texts(part: Any, path: Path, block: Any = "", role: str = "", *, repeats: bool = False) -> Iterator[Place]:
    """Yield a `Place` for each string in a message part of an unknown kind. `path` is the JSON path of the part.

    `block` becomes the first element of `Place.block`. `role` and `repeats` are passed on to each `Place`.
    """
    for at in strings(part, path, _NO_TEXT):
        yield Place(at, "text", (block, *at[len(path) :]), repeats, role)
