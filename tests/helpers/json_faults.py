"""Faults in JSON values: the paths of all fields, and copies in which the value at one path is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

MISSING: Final = object()
Path = tuple[str | int, ...]


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in members:
        yield (*path, name)
        yield from paths(inner, (*path, name))


def changed(value: Any, path: Path, junk: Any) -> Any:
    """Return a copy in which the value at the path is `junk`. If `junk` is `MISSING`, the field is removed."""
    copy = orjson.loads(orjson.dumps(value))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    if junk is MISSING:
        del inner[path[-1]]
    else:
        inner[path[-1]] = junk
    return copy
