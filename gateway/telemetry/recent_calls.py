"""Sums over the calls that ended in the last minutes, by minute and caller, in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Final

from gateway.contract.record import Record

MINUTES: Final = 5
"""Number of minutes for which sums are kept, with the current minute."""
_SECONDS: Final = 60


@dataclass(slots=True)
class Minute:
    """Sums over the calls that ended in one minute."""

    at: float
    """The Unix time in seconds at which the minute begins."""
    calls: int = 0
    errors: int = 0
    """The number of calls that were refused, that failed, or that ran when the gateway was killed."""
    tokens: int = 0
    """The number of input, output and cache tokens. The output includes reasoning."""
    cost: int = 0
    """The total cost of the calls whose cost is known, in nanodollars."""
    cost_unknown_calls: int = 0


class RecentCalls:
    """Sums over the calls of each of the last minutes. `observe` must get the record of each call once, on the event
    loop.
    """

    def __init__(self, now: Callable[[], float] = time) -> None:
        self._now = now
        self._minutes: dict[int, defaultdict[str, Minute]] = {}
        """The sums by minute and login. The key is the Unix time in minutes. A login without a call has no entry."""

    def observe(self, record: Record) -> None:
        """Count a call that ends now."""
        number = int(self._now()) // _SECONDS
        logins = self._minutes.get(number)
        if logins is None:
            self._minutes = {old: sums for old, sums in self._minutes.items() if number - MINUTES < old < number}
            logins = self._minutes[number] = defaultdict(lambda: Minute(number * _SECONDS))
        minute = logins[record.identity]
        usage = record.usage
        minute.calls += 1
        minute.errors += record.outcome not in {"ok", "cancelled"}
        minute.tokens += usage.input + usage.output + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
        if record.cost is None:
            minute.cost_unknown_calls += 1
        else:
            minute.cost += record.cost

    def minutes(self, login: str | None = None) -> tuple[Minute, ...]:
        """Return the sums of each of the last `MINUTES` minutes, oldest first.

        If `login` is None, the sums are over the calls of all callers. Otherwise they are over the calls of the caller
        `login`.
        """
        number = int(self._now()) // _SECONDS
        return tuple(self._sum(each, login) for each in range(number - MINUTES + 1, number + 1))

    def _sum(self, number: int, login: str | None) -> Minute:
        total = Minute(number * _SECONDS)
        for name, minute in self._minutes.get(number, {}).items():
            if login in {None, name}:
                total.calls += minute.calls
                total.errors += minute.errors
                total.tokens += minute.tokens
                total.cost += minute.cost
                total.cost_unknown_calls += minute.cost_unknown_calls
        return total
