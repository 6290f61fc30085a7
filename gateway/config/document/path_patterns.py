"""Patterns of paths: which members of a document a rule is about, wherever people chose a name.

A pattern is a path with `*` for one step, a chosen name or an index, and `**` at its end for any number of them. Which
patterns there are is said where they are used: `macros.py`, `redact.py`. Nothing here knows a section or a value.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.config.document.hujson import Path


def fits(path: Path, patterns: Iterable[tuple[str, ...]]) -> bool:
    """Whether a path is one of those that the patterns mean."""
    return any(_fits(path, pattern) for pattern in patterns)


def _fits(path: Path, pattern: tuple[str, ...]) -> bool:
    if pattern[-1:] == ("**",):
        pattern = pattern[:-1]
        path = path[: len(pattern)]
    return len(path) == len(pattern) and all(part in {"*", step} for part, step in zip(pattern, path, strict=True))
