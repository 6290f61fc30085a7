"""Remembers converted tool schemas, because a client sends the same tools with every turn of a chat."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, Final

import orjson

from gateway.contract.flag import Drop

MAX_BYTES: Final = 8 * 1024
"""Maximum size of a schema that is remembered, in bytes of JSON. A larger one is converted in every request."""
MAX_SCHEMAS: Final = 512
"""Maximum number of schemas that are remembered. Those that were not used for the longest time are forgotten."""

Convert = Callable[[Any, str, str, Any, Drop], Any]
"""A function that converts a tool's schema. Its arguments are those of `converted`, without `convert`. The same
arguments always give the same result."""


def converted(convert: Convert, schema: Any, name: str, at: str, options: Hashable, drop: Drop) -> Any:
    """Return `convert(schema, name, at, options, drop)`, or a copy of an earlier result for equal arguments.

    `at` is the JSON pointer of the schema in the client's request. `drop` gets the pointers of lost parts, also if they
    were lost in the earlier conversion. Raises what `convert` raises.
    """
    try:
        text = orjson.dumps(schema)
        if len(text) > MAX_BYTES:
            return convert(schema, name, at, options, drop)
        made, lost = _made(convert, text, name, at, options)
    except orjson.JSONEncodeError:  # a number of more than 64 bits, or deep nesting
        return convert(schema, name, at, options, drop)
    for pointer in lost:
        drop(pointer)
    return orjson.loads(made)


@lru_cache(maxsize=MAX_SCHEMAS)
def _made(convert: Convert, text: bytes, name: str, at: str, options: Hashable) -> tuple[bytes, tuple[str, ...]]:
    """Return the converted schema as JSON, and the JSON pointers of what was lost."""
    lost: list[str] = []

    def drop(path: str) -> None:
        lost.append(path)

    return orjson.dumps(convert(orjson.loads(text), name, at, options, drop)), tuple(lost)
