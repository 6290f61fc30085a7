"""The clock of the buckets. Its time never goes back within a process.

A machine's clock may be set back and corrected again. A bucket that used this clock would be refilled twice for the
same hours. `ledger.py` receives times as arguments. `book.py` has the clock of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic_ns, time_ns
from typing import Final

_MICROSECOND: Final = 1_000
"""Number of nanoseconds in a microsecond, the resolution of the clock.

The store keeps times as floats in seconds, which can tell microseconds apart until the year 2242.
"""
_SLOWER: Final = 2
"""Divisor of this clock's speed while it is ahead of the machine's clock: it runs at half the speed until the machine's
clock has caught up. It does not stop, because buckets must still refill.
"""


class SteadyClock:
    """A clock for Unix time that never goes back. It returns nanoseconds, rounded down to a whole microsecond.

    If the machine's clock is set back, this clock runs at half the speed until the machine's clock has caught up. Any
    thread may call this clock.
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
