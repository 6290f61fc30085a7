"""Calendar windows of quotas: the times at which buckets are filled, such as the start of each month in a time zone.

- A window is an hour, a day, a week or a month of the calendar. A week begins on Monday (ISO 8601).
- A day, week or month starts at midnight. If a change to daylight saving time skips midnight, it starts at the first
  instant of the day. If midnight occurs twice, it starts at the first one.
- Times are integer nanoseconds of Unix time. Nothing here reads a clock.

The rules of the time zones come from the machine, or from the package `tzdata` (PEP 615).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec

Unit = Literal["hour", "day", "week", "month"]
UTC_ZONE: Final = "UTC"
"""The default time zone. It works even on a machine without a database of time zones."""
_SECOND: Final = 1_000_000_000
_HOUR: Final = 3_600
_END_YEAR: Final = 9_990
"""The first year in which no calendar window begins. It is some years before 9999, where `datetime` ends."""
NEVER: Final = 2**70
"""The result of `Window.after` for times in the year `_END_YEAR` or later. No clock ever reaches it."""


class UnknownZone(ValueError):
    """The error for the name of a time zone that this machine does not know."""


class Window(msgspec.Struct, frozen=True):
    """A recurring window of the calendar in one time zone."""

    unit: Unit
    zone: str = UTC_ZONE
    """Name of the time zone in the IANA database, such as `Europe/Berlin`."""

    def after(self, at: int) -> int:
        """Return the start of the first window after the time `at`. Both times are in nanoseconds of Unix time."""
        zone = time_zone(self.zone)
        second = at // _SECOND
        try:
            local = datetime.fromtimestamp(second, zone)
        except (OverflowError, ValueError, OSError):
            return NEVER
        if local.year >= _END_YEAR:
            return NEVER
        if self.unit == "hour":
            return (second - (local.minute * 60 + local.second) + _HOUR) * _SECOND
        return _first_instant(_next_start(local, self.unit), zone) * _SECOND


@lru_cache(maxsize=64)
def time_zone(name: str) -> tzinfo:
    """Return the time zone of this name. Raises `UnknownZone` if there is none."""
    if name == UTC_ZONE:
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        # zoneinfo raises OSError for the name of a folder of time zones, such as "Europe"
        raise UnknownZone(name) from None


def _next_start(local: datetime, unit: Unit) -> datetime:
    """Return the start of the next day, week or month after `local`, as a `datetime` without a time zone."""
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    if unit == "day":
        return day + timedelta(days=1)
    if unit == "week":
        return day + timedelta(days=7 - day.weekday())
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _first_instant(start: datetime, zone: tzinfo) -> int:
    """Return the first second of Unix time at which a clock in `zone` shows `start` or a later time."""
    second = int(start.replace(tzinfo=zone).timestamp())
    if _local(second, zone) == start:
        return second
    # the clocks skip `start`; converted with the offset before the change and with the offset after the change, `start`
    # gives two instants, and the change is between them
    low, high = int(start.replace(tzinfo=zone, fold=1).timestamp()) - 1, second
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _local(middle, zone) >= start else (middle, high)
    return high


def _local(second: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(second, zone).replace(tzinfo=None, fold=0)
