"""Runs work that seldom has to await anything, so that usually no asyncio task is needed.

The work is written as a generator. When the work has to await something, the generator yields a function. `completed`
calls the function, awaits the result, and sends the value to the generator. A generator that has nothing to await
yields nothing, so that one call of `next` runs it to its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
Wanted = Callable[[], Awaitable[Any]]
"""A function that returns an awaitable, such as a coroutine function without arguments."""
Work = Generator[Wanted, Any, T]
"""A generator that does work and returns a `T`. When it has to await something, it yields a function.

The caller calls this function and awaits its result. The generator then gets the value, or the exception, at its
`yield`.
"""


async def completed(work: Work[T], wanted: Wanted | None = None) -> T:
    """Run the generator `work` to its end, and return its result. Raises the exceptions of the work.

    `wanted` is for a generator that was started elsewhere: the function that it has just yielded. It is None for a
    generator that has not started.
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
