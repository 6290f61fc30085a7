"""Waiting for what another task, thread or process brings about: until it is so, and never for a time alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 10.0
"""Seconds after which what has not come is taken for missing; a loaded machine needs one or two."""
PAUSE = 0.005
"""Seconds between two looks."""


async def eventually(look: Callable[[], T], seconds: float = SECONDS) -> T:
    """Return what a look finds, once that is true; fail when it is not in time."""
    until = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < until, f"not so within {seconds} s: {seen!r}"
        await asyncio.sleep(PAUSE)
    return seen


def eventually_without_a_loop(look: Callable[[], T], seconds: float = SECONDS) -> T:
    """Return what a look finds, once that is true, in a test that has no event loop."""
    until = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < until, f"not so within {seconds} s: {seen!r}"
        time.sleep(PAUSE)
    return seen
