"""Waiting for a change that another task, thread or process makes, by checking again and again."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 30.0
"""Seconds after which a test stops waiting for a change. On a busy machine, a change takes several seconds."""
PAUSE = 0.005
"""Seconds between two checks."""


async def eventually(look: Callable[[], T | Awaitable[T]], seconds: float = SECONDS) -> T:
    """Call a function until its result is true, and return the result. Fail if it is not true in time."""
    until = time.monotonic() + seconds
    while True:
        result = look()
        if seen := (await result if inspect.isawaitable(result) else result):
            return seen
        assert time.monotonic() < until, f"not so within {seconds} s: {seen!r}"
        await asyncio.sleep(PAUSE)


def eventually_without_a_loop(look: Callable[[], T], seconds: float = SECONDS) -> T:
    """Call a function until its result is true, and return the result. This is for tests without an event loop."""
    until = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < until, f"not so within {seconds} s: {seen!r}"
        time.sleep(PAUSE)
    return seen
