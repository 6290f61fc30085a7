"""Turns of streams on the event loop. They prevent a stream with many events from delaying other streams.

- In each iteration of the event loop, all streams together work for about `SLICE_SECONDS`. The last stream may exceed
  this time to complete its batch. Streams that get no time in an iteration wait in a queue.
- Only a stream that gets many events in one read takes turns. Most streams get a few events in a read and never wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

SLICE_SECONDS: Final = 0.01
"""Maximum number of seconds that all streams together work in one iteration of the event loop.

A health check needs about five iterations. So it takes about 50 ms when streams use all of this time.
"""
MAX_WAKES: Final = 32
"""Maximum number of waiting streams that are woken in one iteration of the event loop. If the time of the iteration is
used up before a woken stream's turn, that stream waits again.
"""


TURN_ITEMS: Final = 16
"""Number of small pieces of work, such as texts for filters, after which a stream lets other streams work."""


def is_due(number: int) -> bool:
    """Return whether the work on a reply must wait for its turn (`Turns.take`) before its next small piece.

    `number` is the number of pieces that are done. The work waits once in every `TURN_ITEMS` pieces.
    """
    return number % TURN_ITEMS == TURN_ITEMS - 1


class Turns:
    """The queue of streams that wait for their turn on the event loop."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._ends: float | None = None
        """The time, by `clock`, until which streams may work in this iteration. It is None before a stream has worked.
        """
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._first: list[asyncio.Future[None]] = []
        """The streams that were woken but got no time. They are first in the next iteration."""
        self._is_scheduled = False

    async def take(self) -> None:
        """Wait until the stream may process its next batch of events."""
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
        """Have `_begin` called in the next iteration of the event loop, unless it is scheduled already."""
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Give the streams new working time, in a new iteration of the event loop, and wake those that have waited
        longest.
        """
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
        # the woken streams run in the next iteration; then this method wakes the streams that are next in the queue
        self._schedule()
