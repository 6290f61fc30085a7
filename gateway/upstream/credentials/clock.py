"""The clock for signatures of requests to a provider, and for the expiries of its credentials.

AWS refuses a signature if its time is wrong by more than five minutes, and Google's token endpoint is as strict. The
machine's clock may be wrong. So if a credential is refused and the header `Date` of the reply shows another time, the
difference is added to the machine's clock from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from time import time
from typing import Final

TOLERANCE_SECONDS: Final = 60.0
"""Seconds by which the clock may be wrong without a correction. AWS and Google accept larger errors."""


class Clock:
    """The machine's clock, corrected by its difference from a provider's clock.

    `corrected` is called with each new difference in seconds.
    """

    __slots__ = ("_corrected", "offset")

    def __init__(self, corrected: Callable[[float], None]) -> None:
        self._corrected = corrected
        self.offset = 0.0
        """Seconds to add to the machine's clock. The number is negative if that clock is ahead."""

    def now(self) -> float:
        return time() + self.offset

    def learn(self, date: str) -> bool:
        """Correct the clock by the header `Date` of a refusal. Return whether the clock was wrong."""
        try:
            offset = parsedate_to_datetime(date).timestamp() - time()
        except (TypeError, ValueError):
            return False
        if abs(offset - self.offset) <= TOLERANCE_SECONDS:
            return False
        self.offset = offset if abs(offset) > TOLERANCE_SECONDS else 0.0
        self._corrected(self.offset)
        return True
