"""Units of time by which calls are summed: quarter hours, hours, days, and calendar months, all in UTC.

Units of the same kind, such as hours, follow one another without gaps. Each bound of a longer unit is also a bound of
every shorter unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Protocol

import msgspec

QUARTER: Final = 900_000
"""Number of milliseconds in a quarter of an hour. Today, the UTC offset of every time zone is a multiple of it."""
HOUR: Final = 3_600_000
"""Number of milliseconds in an hour."""
DAY: Final = 86_400_000
"""Number of milliseconds in a day."""


class Unit(Protocol):
    """A unit of time, such as the hour or the month."""

    def start(self, at: int) -> int:
        """Return the start of the unit that contains the time `at`. Both are Unix times in milliseconds."""

    def following(self, at: int) -> int:
        """Return the start of the next unit after the one that contains the time `at`."""

    def start_in_sql(self, at: str) -> str:
        """Return SQLite's SQL for the start of the unit that contains the time `at`. `at` is an SQL expression too.
        Both times are in Unix milliseconds.
        """


class Fixed(msgspec.Struct, frozen=True):
    """A unit of time that always has the same length, such as the hour."""

    milliseconds: int

    def start(self, at: int) -> int:
        return at - at % self.milliseconds

    def following(self, at: int) -> int:
        return self.start(at) + self.milliseconds

    def start_in_sql(self, at: str) -> str:
        return f"{at} - {at} % {self.milliseconds}"


class Months(msgspec.Struct, frozen=True):
    """Calendar months, as a unit of time."""

    def start(self, at: int) -> int:
        return _month(at // DAY)[0]

    def following(self, at: int) -> int:
        return _month(at // DAY)[1]

    def start_in_sql(self, at: str) -> str:
        return f"CAST(strftime('%s', {at} / 1000, 'unixepoch', 'start of month') AS INTEGER) * 1000"


@lru_cache(1024)
def _month(day: int) -> tuple[int, int]:
    """Return the start and the end of the month that contains a day, as Unix times in milliseconds.

    `day` is the number of days since 1970.
    """
    first = datetime.fromtimestamp(day * 86_400, UTC).replace(day=1)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return round(first.timestamp()) * 1000, round(following.timestamp()) * 1000


UNITS: Final[Mapping[str, Unit]] = {
    "month": Months(),
    "day": Fixed(DAY),
    "hour": Fixed(HOUR),
    "quarter": Fixed(QUARTER),
}
"""The units of time by which calls are summed, the longest first. The keys are parts of table names, such as `hour` in
`figures_hour`."""
