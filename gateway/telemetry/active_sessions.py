"""Counts the sessions that had a call in the last minutes, in a fixed amount of memory.

A table of the sessions would grow with the rate of calls: 54,000 sessions in five minutes took 13 MB. So the time of a
call is noted in a slot, which the hash of its session selects. The number of sessions is estimated from the number of
slots in use (linear counting: Whang et al., ACM Transactions on Database Systems 15, 1990, p. 208).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable
from math import inf, log
from time import monotonic
from typing import Final

ACTIVE_SECONDS: Final = 300.0
"""Seconds after its last call for which a session counts as active."""
SLOTS: Final = 32_768
"""Number of slots, of 8 bytes each. The standard error is below 1 % up to 100,000 sessions."""


class ActiveSessions:
    """An estimate of the number of active sessions. A small number is exact, unless two sessions share a slot."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._called_at = array("d", [-inf]) * SLOTS

    def note(self, session: Hashable) -> None:
        """Note a call of a session."""
        self._called_at[hash(session) % SLOTS] = self._clock()

    def count(self) -> int:
        """Return the number of active sessions. This takes some milliseconds, and may be called from any thread."""
        limit = self._clock() - ACTIVE_SECONDS
        unused = sum(at <= limit for at in self._called_at)
        return round(SLOTS * log(SLOTS / max(1, unused)))
