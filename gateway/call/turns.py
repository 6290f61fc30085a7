"""Turns of streams on the event loop. A flood from one provider does not starve other streams and health checks.

- In each iteration of the event loop, all streams together work for at most `SLICE_SECONDS`, and the last
  of them may then complete its piece of work. A stream whose turn does not come waits in a queue.
- Only streams with many events at once take turns. A usual stream has a few events in a read, and is not delayed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

SLICE_SECONDS: Final = 0.01
"""Maximum number of seconds for which streams work in one iteration of the event loop.

A health check needs about five iterations, so it is answered in about 50 ms during a flood."""
MAX_WAKES: Final = 32
"""Maximum number of waiting streams that are woken for one iteration. Streams for which no time is left wait again."""


class Turns:
    """The queue of the streams that have more to do than the time of an iteration allows."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._ends: float | None = None
        """The time at which this iteration's time for streams ends; None before the first turn of the iteration."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._first: list[asyncio.Future[None]] = []
        """The streams that were woken when no time was left. They come before all others."""
        self._is_scheduled = False

    async def take(self) -> None:
        """Wait until the stream may work on a piece of its events."""
        if not self._waiting and not self._first and self._has_time():
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        self._schedule()
        await turn
        while not self._has_time():
            turn = loop.create_future()
            self._first.append(turn)
            await turn

    def _has_time(self) -> bool:
        now = self._clock()
        if self._ends is None:
            self._ends = now + SLICE_SECONDS
            self._schedule()
        return now < self._ends

    def _schedule(self) -> None:
        """Call `_begin` in the next iteration of the event loop."""
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Begin a new iteration, and wake the streams that have waited for longest."""
        self._is_scheduled = False
        self._ends = None
        self._waiting.extendleft(reversed(self._first))
        self._first.clear()
        if not self._waiting:
            return
        for _ in range(min(MAX_WAKES, len(self._waiting))):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
        # the woken streams run in the next iteration, and then this method wakes those after them
        self._schedule()
