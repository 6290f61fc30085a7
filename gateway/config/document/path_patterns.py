"""Patterns that select paths in a document.

In a pattern, `*` matches one key or index, and `**` at the end matches any number of them. The patterns themselves are
in `macros.py` and `secret_patterns.py`. Nothing here knows a section or a value.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.config.document.hujson import Path


def fits(path: Path, patterns: Iterable[tuple[str, ...]]) -> bool:
    """Return whether a path matches any of the patterns."""
    return any(_fits(path, pattern) for pattern in patterns)


def _fits(path: Path, pattern: tuple[str, ...]) -> bool:
    if pattern[-1:] == ("**",):
        pattern = pattern[:-1]
        path = path[: len(pattern)]
    return len(path) == len(pattern) and all(part in {"*", step} for part, step in zip(pattern, path, strict=True))
