"""Work that seldom has to wait, written as a generator.

The generator yields a function for each thing that it has to wait for. Usually it yields nothing: then one call of
`next` runs it to its end, and no task is needed. Otherwise `completed` awaits what it yields, and runs it to its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
Wanted = Callable[[], Awaitable[Any]]
"""A function that returns an awaitable, such as a coroutine function without arguments."""
Work = Generator[Wanted, Any, T]
"""A generator that does some work and returns a `T`. For each awaitable that it asks for, it receives the result or the
exception."""


async def completed(work: Work[T], wanted: Wanted | None = None) -> T:
    """Run the generator `work` to its end, and return its result. Raises the exceptions of the work.

    `wanted` is the value that the generator yielded last; None if it has not started yet.
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
