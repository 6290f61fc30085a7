"""The time by which buckets refill: it never goes back within a process.

A machine's clock may be set back and put right again. If buckets followed the clock, the time in between would refill
them twice. `gateway.money.quotas.ledger` receives times as arguments; `book.py` has the clock of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic_ns, time_ns
from typing import Final

_MICROSECOND: Final = 1_000
"""Nanoseconds in the unit of the times that the clock returns.

A store keeps times as seconds in a float, which holds a whole microsecond exactly until the year 2242."""
_SLOWER: Final = 2
"""Factor by which the returned time is slower than the monotonic clock while the machine's clock is behind it.

So the machine's clock catches up with the time at some point, and buckets refill meanwhile."""


class SteadyClock:
    """A clock that returns the Unix time in nanoseconds, in whole microseconds, and never goes back.

    While the machine's clock is behind the last returned time, the returned time goes on at half the speed. The clock
    may be called from any thread.
    """

    def __init__(self, wall: Callable[[], int] = time_ns, steady: Callable[[], int] = monotonic_ns) -> None:
        self._wall, self._steady = wall, steady
        self._lock = Lock()
        self._last, self._counted = wall(), steady()

    def __call__(self) -> int:
        with self._lock:
            counted = self._steady()
            self._last = max(self._wall(), self._last + max(0, counted - self._counted) // _SLOWER)
            self._counted = counted
            return self._last // _MICROSECOND * _MICROSECOND
