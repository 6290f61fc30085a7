"""The numbers of attempts and failures in a moving window of time, kept in a fixed number of buckets."""

from __future__ import annotations

from typing import Final

BUCKETS: Final = 10
"""Number of buckets of a window. The oldest bucket is dropped as a whole, so an attempt may leave the window early, by
up to a tenth of the window's length.
"""


class Window:
    """The numbers of attempts and failures in the last `seconds` seconds. They are kept by bucket, and not for each
    attempt.
    """

    __slots__ = ("_calls", "_failures", "_number", "_width", "calls", "failures")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / BUCKETS
        self._calls = [0] * BUCKETS
        self._failures = [0] * BUCKETS
        self._number = -1
        """The number of the latest bucket, counted from time 0 of the clock."""
        self.calls = 0
        """Number of attempts in the window, at the time of the last `add`."""
        self.failures = 0
        """Number of failed attempts in the window, at the time of the last `add`."""

    def add(self, now: float, *, failed: bool) -> None:
        """Count an attempt that ended at `now`, in seconds of a monotonic clock."""
        number = int(now / self._width)
        if number > self._number:
            self._advance(number)
        slot = self._number % BUCKETS
        self._calls[slot] += 1
        self.calls += 1
        if failed:
            self._failures[slot] += 1
            self.failures += 1

    def read(self, now: float) -> tuple[int, int]:
        """Return the numbers of attempts and failures in the window that ends at `now`.

        This may be called from any thread, because it changes nothing.
        """
        oldest = int(now / self._width) - BUCKETS + 1
        slots = {number % BUCKETS for number in range(max(oldest, self._number - BUCKETS + 1), self._number + 1)}
        return sum(self._calls[slot] for slot in slots), sum(self._failures[slot] for slot in slots)

    def clear(self) -> None:
        """Forget all attempts."""
        self._calls = [0] * BUCKETS
        self._failures = [0] * BUCKETS
        self.calls = self.failures = 0

    def _advance(self, number: int) -> None:
        """Advance to the bucket with this number. Empty this bucket, and all buckets that are skipped on the way."""
        if number - self._number >= BUCKETS:
            self.clear()
        else:
            for expired in range(self._number + 1, number + 1):
                slot = expired % BUCKETS
                self.calls -= self._calls[slot]
                self.failures -= self._failures[slot]
                self._calls[slot] = self._failures[slot] = 0
        self._number = number
