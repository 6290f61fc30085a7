"""A rate limit for log lines about events that clients or attackers cause, such as refused connections.

The first event of a kind is logged at once. Later events of this kind are logged at most once in `QUIET_SECONDS`. Each
line has the number of events since the previous line.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

QUIET_SECONDS: Final = 10.0
"""Minimum number of seconds between two log lines about events of the same kind."""
MAX_KINDS: Final = 256
"""Maximum number of kinds of events that are counted. If there are more, all counts are deleted. Normally there are far
fewer, because a kind is the name of a limit or an exception.
"""


class Throttle:
    """A rate limit for log lines: for each kind of event, at most one line in `QUIET_SECONDS` seconds.

    Events without a line are counted. The next line contains their number.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[float, int]] = {}

    def due(self, kind: str) -> int:
        """Count an event. Return 0 if no line about this kind of event may be logged yet.

        If a line may be logged now, return the number of events of this kind since the last line, including this one.
        The caller must log the line.
        """
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
