"""Work that seldom has to wait, as a generator that yields what has to be awaited.

A coroutine can only run in a task. A generator that yields nothing is completed by one plain call of `next`. If it does
yield something, a task completes it from there (`completed`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
Wanted = Callable[[], Awaitable[Any]]
"""A function that returns what has to be awaited."""
Work = Generator[Wanted, Any, T]
"""Work whose result is a `T`. It gets the result of each awaitable, or the exception that it raised."""


async def completed(work: Work[T], wanted: Wanted | None = None) -> T:
    """Do the rest of the work, and return its result. `wanted` is what it has yielded last; None at its beginning.

    Raises the exceptions of the work.
    """
    step: Callable[[], Wanted] = partial(next, work)
    try:
        if wanted is None:
            wanted = step()
        while True:
            try:
                step = partial(work.send, await wanted())
            except BaseException as error:  # noqa: BLE001 (the work decides what to do about it)
                step = partial(work.throw, error)
            wanted = step()
    except StopIteration as end:
        result: T = end.value
        return result
