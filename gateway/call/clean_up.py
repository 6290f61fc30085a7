"""The clean-up of a call or of an attempt: functions that are called at its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVarTuple

Ts = TypeVarTuple("Ts")


class CleanUp:
    """A list of functions. The method `aclose` calls them in reverse order.

    This class replaces `contextlib.AsyncExitStack`, which takes more time. Every call has such an object.
    """

    __slots__ = ("_functions",)

    def __init__(self) -> None:
        self._functions: list[tuple[Callable[..., Any], tuple[Any, ...], bool]] = []
        """The functions. Each is stored with its arguments, and with whether its result is awaited."""

    def callback(self, function: Callable[[*Ts], object], *args: *Ts) -> None:
        """Add a function, which is called with `args`."""
        self._functions.append((function, args, False))

    def push_async_callback(self, function: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Add a function, which is called with `args`, and whose result is awaited."""
        self._functions.append((function, args, True))

    async def aclose(self) -> None:
        """Call the functions in reverse order. If a function raises an exception, the remaining functions are still
        called. The last exception is raised.
        """
        while self._functions:
            function, args, is_awaited = self._functions.pop()
            is_done = False
            try:
                result = function(*args)
                if is_awaited:
                    await result
                is_done = True
            finally:
                if not is_done:
                    await self.aclose()
