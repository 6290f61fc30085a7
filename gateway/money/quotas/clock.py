"""The clock of the buckets. Its time never goes back within a process.

A machine's clock may be set back and corrected again. Buckets that followed it would be refilled twice for the same
hours. `ledger.py` receives times as arguments. `book.py` has the clock of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic_ns, time_ns
from typing import Final

_MICROSECOND: Final = 1_000
"""Number of nanoseconds in a microsecond. The clock returns whole microseconds, because the store keeps times as floats
in seconds. Until the year 2242, different microseconds are different floats."""
_SLOWER: Final = 2
"""Factor by which this clock runs slower than real time while it is ahead of the machine's clock.

The clock does not stop, so that buckets still refill, while the machine's clock catches up.
"""


class SteadyClock:
    """A clock for Unix time that never goes back. It returns nanoseconds, rounded down to a whole microsecond.

    While the machine's clock is behind, this clock runs at half the speed. It may be called from any thread.
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
