"""A cache of results for texts from clients or providers. The number of entries and the length of each text are
limited.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

R = TypeVar("R")


def small_cache(entries: int, characters: int) -> Callable[[Callable[[str], R]], Callable[[str], R]]:
    """Return a decorator that caches the results of a function for texts of at most `characters` characters.

    At most `entries` results are cached. The result for a longer text is computed at every call.
    """

    def decorated(function: Callable[[str], R]) -> Callable[[str], R]:
        cached = lru_cache(entries)(function)

        @wraps(function)
        def call(text: str) -> R:
            return cached(text) if len(text) <= characters else function(text)

        return call

    return decorated
