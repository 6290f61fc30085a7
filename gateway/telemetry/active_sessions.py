"""Estimates the number of sessions that had a call in the last minutes, in a fixed amount of memory.

The hash of a session selects one of `SLOTS` slots, which stores the time of the session's last call. The number of
sessions is estimated from the number of slots with a recent time (linear counting: Whang et al., ACM Transactions on
Database Systems 15, 1990, p. 208). The slots take 256 KiB. A table of 54,000 sessions would take 13 MB.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable
from math import inf, log
from time import monotonic
from typing import Final

ACTIVE_SECONDS: Final = 300.0
"""Seconds for which a session is active after its last call."""
SLOTS: Final = 32_768
"""Number of slots for the times of the sessions' last calls. A slot has 8 bytes. The number of sessions is estimated
with a standard error below 1 %, up to 100,000 sessions.
"""


class ActiveSessions:
    """Estimates the number of sessions that had a call in the last `ACTIVE_SECONDS` seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._called_at = array("d", [-inf]) * SLOTS

    def note(self, session: Hashable) -> None:
        """Record that a session has a call now."""
        self._called_at[hash(session) % SLOTS] = self._clock()

    def count(self) -> int:
        """Return the estimated number of active sessions. This takes some milliseconds, so call it in a thread."""
        limit = self._clock() - ACTIVE_SECONDS
        unused = sum(at <= limit for at in self._called_at)
        return round(SLOTS * log(SLOTS / max(1, unused)))
