"""What differs between two configurations: paths, never values, since a value may be a secret.

Nothing here knows what a key means.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from gateway.config.document.hujson import Path, dotted
from gateway.config.model import Config

MAX_CHANGES: Final = 100
"""Paths that are named; whoever changes more has replaced the file, and a log line is not endless."""

_ABSENT: Final = object()


def changes(before: Any, after: Any) -> list[str]:
    """The dotted paths of what was added, removed or changed between two documents, outermost where one is new."""
    return [dotted(path) for path in islice(_differing(before, after, ()), MAX_CHANGES)]


def rotated(before: Config, after: Config) -> list[str]:
    """The paths of keys whose value differs, also where the document names the same file or variable as before."""
    return [
        dotted(("providers", name, "apikey"))
        for name, provider in after.providers.items()
        if name in before.providers and before.providers[name].apikey != provider.apikey
    ]


def _differing(before: Any, after: Any, path: Path) -> Iterator[Path]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in (*before, *(name for name in after if name not in before)):
            yield from _differing(before.get(name, _ABSENT), after.get(name, _ABSENT), (*path, name))
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            yield from _differing(_at(before, index), _at(after, index), (*path, index))
    elif type(before) is not type(after) or before != after:
        # 1, 1.0 and true are equal to Python and not to a configuration
        yield path


def _at(elements: list[Any], index: int) -> Any:
    return elements[index] if index < len(elements) else _ABSENT
