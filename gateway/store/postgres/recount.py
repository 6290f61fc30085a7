"""Finds and corrects sums in PostgreSQL that count fewer calls than are stored, for `irisgate doctor`.

- A sum that counts more calls than are stored is right, because sums are kept longer than their calls.
- Gateways may serve calls during the repair. The repair is one transaction that holds the lock for writing (`WRITING`).
  So the gateways write their next batches of records when the repair has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final, NamedTuple

from gateway.store.figures_writing import (
    AGENT_TABLES,
    EVERYBODY_TABLES,
    series_numbers,
    upsert_figures,
)
from gateway.store.header_index import complete_index, missing_headers
from gateway.store.header_sums import recount_header_sums, terms_with_wrong_sums
from gateway.store.postgres.connection import PostgresConnection
from gateway.store.postgres.writing import WRITING, lock
from gateway.store.recount import Missing, missing, missing_texts, recount_texts, sums_of_quarter
from gateway.store.sums import FIGURES, Series
from gateway.store.units import UNITS, Unit

_LARGEST: Final = 2**63 - 1
"""The largest integer that a column can have. Sums stop there (`dialect.bounded`)."""
_KEY: Final = ", ".join(Series._fields)
_QUARTERS: Final = "figures_quarter"
_BATCH_QUARTERS: Final = 1_000
"""Number of quarter hours whose sums are written together."""
_SUMMED: Final = ", ".join(f"GREATEST({-_LARGEST}, LEAST(sum(f.{name}), {_LARGEST})) AS {name}" for name in FIGURES)
_LACKING: Final = """
SELECT counted.* FROM (
    SELECT {start} AS time, w.n AS series, {sums}
    FROM {source} f JOIN series s ON s.n = f.series JOIN series w ON {same} GROUP BY 1, 2
) counted LEFT JOIN {table} kept ON kept.time = counted.time AND kept.series = counted.series
WHERE kept.calls IS NULL OR kept.calls < counted.calls
"""
_WIDER: Final = """
INSERT INTO series ({key}) SELECT DISTINCT '', provider, model, {agent}, api, status, outcome FROM series
ON CONFLICT DO NOTHING
"""


class _Table(NamedTuple):
    """A table whose sums are computed from another table (`source`) with finer sums."""

    name: str
    source: str
    unit: Unit
    """The unit of time that each row of the table covers."""
    emptied: frozenset[str]
    """Names of columns of `series`. A row of this table counts calls with any value of these columns. The columns are
    therefore "" in the row's series.
    """

    @property
    def lacking(self) -> str:
        """SQL query for the correct values of rows that are missing in the table or count too few calls."""
        same = [f"w.{name} = ''" if name in self.emptied else f"w.{name} = s.{name}" for name in Series._fields]
        return _LACKING.format(
            start=self.unit.start_in_sql("f.time"),
            sums=_SUMMED,
            source=self.source,
            same=" AND ".join(same),
            table=self.name,
        )


def _derived() -> Iterator[_Table]:
    """Yield all tables of sums except `figures_quarter`. The `source` of a table is yielded before the table."""
    finer = _QUARTERS
    for name in reversed(list(UNITS)):
        figures, unit = f"figures_{name}", UNITS[name]
        if figures != _QUARTERS:
            yield _Table(figures, finer, unit, frozenset())
        for tables, emptied in ((AGENT_TABLES, {"identity"}), (EVERYBODY_TABLES, {"identity", "agent"})):
            yield from (_Table(table, figures, unit, frozenset(emptied)) for table in tables if table.endswith(name))
        finer = figures


_DERIVED: Final = tuple(_derived())


def wrong_sums(connection: PostgresConnection) -> int:
    """Return the number of faults in the sums over calls, in the index of headers, and in the sums by header.

    The sums by quarter hour are compared with the stored calls. The sums over a longer unit of time are compared with
    those over a shorter unit, such as daily sums with hourly sums. So calls that are missing in both are counted as one
    fault.
    """
    lacking = sum(map(len, missing(connection, _QUARTERS).values()))
    for table in _DERIVED:
        lacking += connection.execute(f"SELECT count(*) FROM ({table.lacking}) l").fetchone()[0]  # noqa: S608 (our own)
    return lacking + missing_texts(connection) + missing_headers(connection) + len(terms_with_wrong_sums(connection))


def repair_sums(connection: PostgresConnection) -> int:
    """Correct the sums that count fewer calls than are stored. Return the number of faults before the correction
    (`wrong_sums`).

    Nothing is changed if a statement fails.
    """
    connection.is_bounded = True
    with connection.transaction():
        lock(connection, WRITING)
        if found := wrong_sums(connection):
            _recount_quarters(connection, missing(connection, _QUARTERS))
            for agent in ("agent", "''"):
                connection.execute(_WIDER.format(key=_KEY, agent=agent))
            for table in _DERIVED:
                _complete(connection, table)
            recount_texts(connection)
            complete_index(connection)
            recount_header_sums(connection)
    return found


def _recount_quarters(connection: PostgresConnection, lacking: Missing) -> None:
    """Compute sums by quarter hour anew from the stored calls. `lacking` has the series with wrong sums for each
    quarter hour.
    """
    numbers = series_numbers(connection, dict.fromkeys(chain(*lacking.values())))
    times = sorted(lacking)
    for start in range(0, len(times), _BATCH_QUARTERS):
        rows = [
            (group.time, numbers[group.series], *amounts)
            for time in times[start : start + _BATCH_QUARTERS]
            for group, amounts in sums_of_quarter(connection, time).figures.items()
            if group.series in lacking[time]
        ]
        keys = [row[:2] for row in rows]
        connection.executemany(f"DELETE FROM {_QUARTERS} WHERE time = ? AND series = ?", keys)  # noqa: S608 (our own)
        connection.executemany(upsert_figures(_QUARTERS), rows)


def _complete(connection: PostgresConnection, table: _Table) -> None:
    """Add the missing rows of a table, and replace the rows that count too few calls."""
    names = ", ".join(("time", "series", *FIGURES))
    replaced = ", ".join(f"{name} = excluded.{name}" for name in FIGURES)
    connection.execute(
        f"INSERT INTO {table.name} ({names}) SELECT {names} FROM ({table.lacking}) l "  # noqa: S608 (our own names)
        f"ON CONFLICT (time, series) DO UPDATE SET {replaced}"
    )
