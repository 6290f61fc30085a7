"""Runs work that seldom has to await anything. No asyncio task is needed unless the work really awaits something.

Such work is written as a generator. The generator yields a function each time it has to await something. `completed`
calls the function, awaits its result, and resumes the generator with that result. Usually a generator yields nothing:
one call of `next` runs it to its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
Wanted = Callable[[], Awaitable[Any]]
"""A function that returns an awaitable, such as a coroutine function without arguments."""
Work = Generator[Wanted, Any, T]
"""A generator that returns a `T`. It yields functions that return awaitables.

The caller calls each yielded function and awaits the awaitable. The `yield` in the generator then returns the result of
the awaitable, or raises its exception."""


async def completed(work: Work[T], wanted: Wanted | None = None) -> T:
    """Run the generator `work` to its end, and return its result. Raises the exceptions of the work.

    If the generator has started already, `wanted` is the function that it yielded last. If it has not started, `wanted`
    is None.
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
