"""A timer whose deadline can be moved cheaply.

A connection has one such timer for all its deadlines. Nearly every deadline is moved before it is reached. Moving it to
a later time creates no new timer of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf


class Alarm:
    """Calls a function at a given time of the event loop's clock. A later `set` replaces both the function and the
    time.
    """

    __slots__ = ("_at", "_handle", "_loop", "_ring")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._at = inf
        self._ring: Callable[[], None] = _nothing
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: float, ring: Callable[[], None]) -> None:
        """Call `ring` at the time `at`. This replaces an earlier function and time."""
        self._at = at
        self._ring = ring
        handle = self._handle
        if handle is None or handle.when() > at:
            if handle is not None:
                handle.cancel()
            self._handle = self._loop.call_at(at, self._fire)

    def stop(self) -> None:
        """Forget the function. A timer of the event loop may remain, but does nothing."""
        self._at = inf
        self._ring = _nothing

    def cancel(self) -> None:
        """Forget the function, and cancel the event loop's timer."""
        self.stop()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        if self._at == inf:
            return
        if self._loop.time() < self._at:
            self._handle = self._loop.call_at(self._at, self._fire)
            return
        ring = self._ring
        self.stop()
        ring()


def _nothing() -> None:
    """Do nothing. This is the function of an alarm that is not set."""
