"""A cache of limited size for the results of functions whose argument is a text from a client or a provider."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

R = TypeVar("R")


def small_cache(entries: int, characters: int) -> Callable[[Callable[[str], R]], Callable[[str], R]]:
    """Return a decorator that caches the results of a function whose argument is a text.

    It caches at most `entries` results. It does not cache the result for a text of more than `characters` characters.
    """

    def decorated(function: Callable[[str], R]) -> Callable[[str], R]:
        cached = lru_cache(entries)(function)

        @wraps(function)
        def call(text: str) -> R:
            return cached(text) if len(text) <= characters else function(text)

        return call

    return decorated
