"""The retry budget: a limit on the retries after failures, with another provider or another key.

- If a provider fails, its calls are sent to other providers. Without a limit, an outage of one provider could double
  the requests to the others, so that they fail too.
- The limit for a window of time is the larger of two numbers, as in Envoy: a share of the calls in the window, and a
  small fixed number, which cannot overload a provider.
- An attempt counts as a retry only if the attempt before it was sent to its provider.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

WINDOW_SECONDS: Final = 10
"""Length of the window in seconds. Older calls and retries do not count."""
ALWAYS: Final = 10
"""Number of retries that are allowed in the window, however few calls there are."""


class RetryBudget:
    """Counts retries after failures, and the calls that can be retried: calls that have several candidates (models of
    providers) or keys.

    Both are counted for the last `WINDOW_SECONDS`.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._slots: list[list[int]] = [[0, 0, 0] for _ in range(WINDOW_SECONDS)]
        """One slot for each second of the window. A slot has three numbers: the second by the clock, the number of
        calls, and the number of retries."""

    def called(self) -> None:
        """Count a call that has several candidates (models of providers) or keys."""
        self._slot()[1] += 1

    def take(self, share: float) -> bool:
        """Count a retry and return True, or return False if the budget is used up.

        `share` is the allowed ratio of retries to calls.
        """
        slot = self._slot()
        taken, allowed = self._sums(slot[0], share)
        if taken + 1 > allowed:
            return False
        slot[2] += 1
        return True

    def used(self, share: float) -> float:
        """Return the used part of the budget, from 0 to 1. `share` is the allowed ratio of retries to calls. Any thread
        may call this.
        """
        taken, allowed = self._sums(int(self._clock()), share)
        return min(1.0, taken / allowed)  # calls that leave the window make the budget smaller than what is used

    def _sums(self, second: int, share: float) -> tuple[int, float]:
        """Return two numbers for the window that ends at `second`: the retries so far, and the retries that are
        allowed.

        `second` is the present time in whole seconds, by the clock. `share` is the allowed ratio of retries to calls.
        """
        recent = [(calls, more) for at, calls, more in self._slots if at > second - WINDOW_SECONDS]
        return sum(more for _, more in recent), max(ALWAYS, share * sum(calls for calls, _ in recent))

    def _slot(self) -> list[int]:
        second = int(self._clock())
        slot = self._slots[second % WINDOW_SECONDS]
        if slot[0] != second:
            slot[:] = [second, 0, 0]
        return slot
