"""The partitions of the table `calls`, one for each month in UTC. They are made when needed, and dropped when all of
their calls have expired.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from gateway.store.header_index import forget_unused
from gateway.store.sql import Connection

_NAME: Final = re.compile(r"calls_([0-9]{4})_([0-9]{2})")
_MONTHS: Final = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('calls') ORDER BY c.relname
"""


class Month(NamedTuple):
    """A month, whose calls are in one partition."""

    year: int
    month: int

    @property
    def table(self) -> str:
        """The name of the partition."""
        return f"calls_{self.year:04}_{self.month:02}"

    @property
    def since(self) -> int:
        """The Unix time in milliseconds at which the month begins."""
        return round(datetime(self.year, self.month, 1, tzinfo=UTC).timestamp() * 1000)

    @property
    def until(self) -> int:
        """The Unix time in milliseconds at which the month ends."""
        return Month(self.year + self.month // 12, self.month % 12 + 1).since


def month_of(at: int) -> Month:
    """Return the month of a Unix time in milliseconds."""
    time = datetime.fromtimestamp(at / 1000, UTC)
    return Month(time.year, time.month)


def months(connection: Connection) -> list[Month]:
    """Return the months that have a partition, the oldest first."""
    names = [_NAME.fullmatch(name) for (name,) in connection.execute(_MONTHS)]
    return [Month(int(name[1]), int(name[2])) for name in names if name is not None]


def make_months(connection: Connection, times: Iterable[int]) -> None:
    """Make the partitions for calls that begin at the given Unix times in milliseconds, unless they exist.

    A partition is created as a separate table, and then attached to `calls`. Creating it as a partition at once would
    have to wait until nobody reads `calls`.
    """
    for month in sorted({month_of(at) for at in times}):
        if connection.execute("SELECT to_regclass(?) IS NULL", (month.table,)).fetchone()[0]:
            connection.execute(f"CREATE TABLE {month.table} (LIKE calls INCLUDING DEFAULTS INCLUDING INDEXES)")
            connection.execute(
                f"ALTER TABLE calls ATTACH PARTITION {month.table} FOR VALUES FROM ({month.since}) TO ({month.until})"
            )


def drop_months(connection: Connection, before: int) -> int:
    """Drop the partitions of months that ended before a Unix time in milliseconds. Return the number of dropped calls.

    The entries of these calls in the index of headers are deleted too.
    """
    dropped = 0
    for month in months(connection):
        if month.until > before:
            break
        dropped += connection.execute(f"SELECT count(*) FROM {month.table}").fetchone()[0]  # noqa: S608 (a number)
        connection.execute(f"DROP TABLE {month.table}")
        connection.execute("DELETE FROM call_headers WHERE time < ?", (month.until,))
        forget_unused(connection)
    return dropped
