"""Damages JSON values and bytes, so that laws (rules for plugins) can test plugins with them.

The order is fixed. The most common kinds of damage come first.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from gateway.contract import lenient_json
from gateway.contract.flag import Event

MAX_MUTATIONS: Final = 500
"""Maximum number of damaged forms of one JSON value. For a stream, the maximum for one event is this number divided by
the number of events, but at least ten.
"""
ODD: Final[tuple[Any, ...]] = (None, True, 0, -1, 1.5, 2**70, "", "x", "\ud800", [], [None], {}, {"x": None})
"""Values that damage a JSON value by replacing it or a part of it. They have all JSON types, and some are extreme."""
HOSTILE_BODIES: Final = (
    b"", b"{", b"{}", b"[]", b"null", b"7", b'"text"', b"<html>", b"\xff\xfe", b'{"a":1}{"b":2}', b"[[[[[[[[",
    b'{"a":NaN}',
)  # fmt: skip
"""Request or reply bodies that no API expects, such as an empty body, text that is not JSON, and JSON that is not an
object.
"""

Pointer = tuple[str | int, ...]
"""The keys and indexes that lead to a value within a JSON value."""


def pointers(value: Any, at: Pointer = ()) -> Iterator[Pointer]:
    """Yield the path of every value inside a JSON value, at any depth. An outer value comes before its content."""
    inner: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for step, each in inner:
        yield (*at, step)
        yield from pointers(each, (*at, step))


def text_of(pointer: Pointer) -> str:
    """Return a path as a JSON pointer, without the escapes of RFC 6901."""
    return "/" + "/".join(map(str, pointer))


def without(value: Any, at: Pointer) -> Any:
    """Return a copy of a JSON value without the key or item at a path."""
    value = copy.deepcopy(value)
    holder = value
    for step in at[:-1]:
        holder = holder[step]
    del holder[at[-1]]
    return value


def replaced(value: Any, at: Pointer, new: Any) -> Any:
    """Return a copy of a JSON value with `new` at a path."""
    value = copy.deepcopy(value)
    holder = value
    for step in at[:-1]:
        holder = holder[step]
    holder[at[-1]] = new
    return value


def damaged(value: Any, many: int = MAX_MUTATIONS) -> Iterator[tuple[str, Any]]:
    """Yield damaged forms of a JSON value, each with a description.

    In a damaged form, a value of `ODD` replaces the whole value or a value inside it, or a key or item is missing. At
    most `many` forms are yielded, evenly spread over all forms.
    """
    total = len(ODD) + (len(ODD) + 1) * sum(1 for _ in pointers(value))
    yield from islice(_damaged(value), 0, None, -(-total // many))


def damaged_events(events: Sequence[Event]) -> Iterator[tuple[str, list[Event]]]:
    """Yield damaged streams, each with a description. A stream has one damaged event, or ends early.

    The damaged event is missing, repeated or moved to the end, or its JSON is damaged.
    """
    for at, event in enumerate(events):
        before, after = [*events[:at]], [*events[at + 1 :]]
        yield f"event {at} is missing", [*before, *after]
        yield f"event {at} comes twice", [*before, event, event, *after]
        yield f"event {at} comes last", [*before, *after, event]
        yield f"the stream ends before event {at}", before
        if event.payload.lstrip()[:1] == b"{":
            for damage, value in damaged(event.data, max(10, MAX_MUTATIONS // len(events))):
                odd = Event(event.kind, json.dumps(value).encode())
                yield f"event {at} ({event.kind}): {damage}", [*before, odd, *after]


def damaged_bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield bodies with their descriptions: hostile bodies, and damaged forms of a JSON body."""
    yield from ((f"body {hostile!r}", hostile) for hostile in HOSTILE_BODIES)
    for damage, value in damaged(lenient_json.loads(body)):
        yield damage, json.dumps(value).encode()


def _damaged(value: Any) -> Iterator[tuple[str, Any]]:
    yield from ((f"{odd!r} instead of the whole", odd) for odd in ODD)
    for at in pointers(value):
        yield f"{text_of(at)} is missing", without(value, at)
        yield from ((f"{text_of(at)} is {odd!r}", replaced(value, at, odd)) for odd in ODD)


def matches(pointer: Pointer, patterns: Iterable[str]) -> bool:
    """Return whether a pattern matches the path `pointer`, or matches the beginning of this path.

    A pattern is a JSON pointer in which `*` stands for any key or index.
    """
    steps = tuple(map(str, pointer))
    for pattern in patterns:
        wanted = pattern.strip("/").split("/")
        if len(wanted) <= len(steps) and all(want in ("*", step) for want, step in zip(wanted, steps, strict=False)):
            return True
    return False
