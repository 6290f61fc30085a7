"""The retry budget: a limit on the requests that are sent to another provider after an attempt has failed.

If a provider fails, its calls are tried again elsewhere. Without a limit, an outage would double the requests that the
other providers get, which then fail too. So further requests are limited to a share of the calls in a window of time. A
few of them are always allowed, because a gateway with few calls has no outage to multiply.

A further attempt counts only if the one before it was sent. An attempt that did not reach its provider was no request.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

WINDOW_SECONDS: Final = 10
"""Seconds for which calls and further requests are remembered."""
ALWAYS: Final = 10
"""Number of further requests in a window that are allowed in addition to the share of the calls."""


class RetryBudget:
    """The calls with several candidates, and their further requests, of the last seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._slots: list[list[int]] = [[0, 0, 0] for _ in range(WINDOW_SECONDS)]
        """The seconds of the window. Each has its number by the clock, its calls, and its further requests."""

    def called(self) -> None:
        """Count a call that has several candidates."""
        self._slot()[1] += 1

    def take(self, share: float) -> bool:
        """Count a further request, and return True; return False if the budget has none left.

        `share` is the allowed number of further requests for each call.
        """
        slot = self._slot()
        oldest = slot[0] - WINDOW_SECONDS
        recent = [(calls, more) for second, calls, more in self._slots if second > oldest]
        allowed = ALWAYS + share * sum(calls for calls, _ in recent)
        if sum(more for _, more in recent) + 1 > allowed:
            return False
        slot[2] += 1
        return True

    def _slot(self) -> list[int]:
        second = int(self._clock())
        slot = self._slots[second % WINDOW_SECONDS]
        if slot[0] != second:
            slot[:] = [second, 0, 0]
        return slot
