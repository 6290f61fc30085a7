"""A cache for functions of texts from clients or providers, with a limited size in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

R = TypeVar("R")


def small_cache(entries: int, characters: int) -> Callable[[Callable[[str], R]], Callable[[str], R]]:
    """Return a decorator that caches the results of a function of a text.

    It caches at most `entries` results, and only those for texts of at most `characters` characters.
    """

    def decorated(function: Callable[[str], R]) -> Callable[[str], R]:
        cached = lru_cache(entries)(function)

        @wraps(function)
        def call(text: str) -> R:
            return cached(text) if len(text) <= characters else function(text)

        return call

    return decorated
