"""A cache of results for texts or bytes from clients or providers. The number of entries and their size are limited."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

R = TypeVar("R")
T = TypeVar("T", str, bytes)


def small_cache(entries: int, characters: int) -> Callable[[Callable[[T], R]], Callable[[T], R]]:
    """Return a decorator that caches the results of a function for texts, or bytes, of at most this length.

    At most `entries` results are cached. The result for a longer text is computed at every call.
    """

    def decorated(function: Callable[[T], R]) -> Callable[[T], R]:
        cached = lru_cache(entries)(function)

        @wraps(function)
        def call(text: T) -> R:
            return cached(text) if len(text) <= characters else function(text)

        return call

    return decorated
