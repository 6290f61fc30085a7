"""A rate limit for log lines about events that others cause, such as refused connections.

It keeps a flood of such events from filling the log. The first event of a kind is logged at once, and later ones at
most once in `QUIET_SECONDS`. Each line has the number of events since the previous line.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

QUIET_SECONDS: Final = 10.0
"""Seconds between two log lines of one kind."""
MAX_KINDS: Final = 256
"""Maximum number of kinds that are remembered. Kinds are names of limits and of exceptions, so there are far fewer."""


class Throttle:
    """The rate limit for log lines of one event. It counts, for each kind, the events that no line has reported yet."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[float, int]] = {}

    def due(self, kind: str) -> int:
        """Count an event. Return the number of events to report in a line now; 0 if no line may be written yet."""
        now = monotonic()
        logged_at, unreported = self._kinds.get(kind, (-QUIET_SECONDS, 0))
        count = unreported + 1
        if now - logged_at < QUIET_SECONDS:
            self._kinds[kind] = logged_at, count
            return 0
        if len(self._kinds) >= MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = now, 0
        return count
