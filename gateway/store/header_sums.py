"""Writes the sums by header term, in SQLite and in PostgreSQL. A term is a header, or a header and its value
(`header_index.py`). The sums for a term are over all calls with this term.

- The store keeps sums for the name of each header, and for the first `MAX_VALUES` values of the header. Reports about
  other values read the calls with these values (`few_calls.py`).
- When the last stored call with a term is deleted, the sums for the term are deleted later. After that, the store can
  keep sums for another value of the header.

All functions run within a transaction of the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.store.calls import CALL_COLUMNS
from gateway.store.figures_writing import (
    EVERYBODY_TABLES,
    FIGURE_TABLES,
    add_amounts,
    kind_numbers,
    of_everybody,
    series_numbers,
    upsert_figures,
)
from gateway.store.header_index import FORGOTTEN, Row, numbers_with_sums
from gateway.store.sql import Connection
from gateway.store.sums import Series, Sums, sum_calls
from gateway.store.units import DAY, UNITS, Unit

PREFIX: Final = "header_"
"""Prefix of the names of the tables with sums by header term. For example, `figures_day` has sums over all calls, and
`header_figures_day` has the same sums for each header term."""
MAX_PURGED: Final = 2_000
"""Approximate maximum number of rows of one term that a transaction deletes from one table. The store is locked
meanwhile.
"""
_PURGED_TERMS: Final = 20
"""Maximum number of terms whose sums are deleted in one transaction."""
_BATCH: Final = f"""
SELECT h.time, h.call, {", ".join(f"c.{name}" for name in CALL_COLUMNS)}
FROM call_headers h CROSS JOIN calls c ON c.n = h.call AND c.at = h.time
WHERE h.term = ? AND (h.time, h.call) > (?, ?) ORDER BY h.time, h.call LIMIT 5000
"""  # noqa: S608 (our own names)
"""Query for the next calls with a header term, in the order of their time. The placeholders are for the row number of
the term, and for the time and the row number of the last call that was read before."""
_CALLS: Final = "count(*)", "1 = 1"
_TOOLS: Final = "sum(iif(json_valid(c.tools), json_array_length(c.tools), 0))", "c.tools <> '[]'"
_ERRORS: Final = "count(*)", "c.outcome <> 'ok' AND c.error <> ''"


class _Table(NamedTuple):
    """A table of sums by header term (`x-team` or `x-team:alpha`)."""

    unit: Unit
    """The unit of time that each row of the table covers."""
    number: str
    """SQL aggregate for the value of the column `calls`: the number of calls, of tool uses, or of errors. The aggregate
    is over rows of the table `calls`, with the alias `c`."""
    condition: str
    """SQL condition for the calls that the table counts."""


_TABLES: Final[Mapping[str, _Table]] = {
    **{f"{PREFIX}{name}": _Table(unit, *_CALLS) for name, unit in [*FIGURE_TABLES.items(), *EVERYBODY_TABLES.items()]},
    f"{PREFIX}tools_quarter": _Table(UNITS["quarter"], *_TOOLS),
    f"{PREFIX}tools_day": _Table(UNITS["day"], *_TOOLS),
    f"{PREFIX}errors_quarter": _Table(UNITS["quarter"], *_ERRORS),
}
TABLES: Final = tuple(_TABLES)
"""Names of all tables of sums by header term (`x-team` or `x-team:alpha`)."""
_UPSERT_COUNT: Final = (
    f"INSERT INTO {PREFIX}{{table}} (term, time, series, {{column}}, calls) VALUES (?, ?, ?, ?, ?) "  # noqa: S608
    f"ON CONFLICT (term, time, series, {{column}}) DO UPDATE SET calls = {PREFIX}{{table}}.calls + excluded.calls"
)
_WRONG: Final = """
SELECT DISTINCT counted.term FROM (
    SELECT h.term AS term, {start} AS time, {number} AS calls
    FROM header_terms t CROSS JOIN call_headers h ON h.term = t.n CROSS JOIN calls c ON c.n = h.call AND c.at = h.time
    WHERE t.has_sums = 1 AND {condition} GROUP BY 1, 2
) counted
WHERE counted.calls > coalesce((SELECT sum(calls) FROM {table} WHERE term = counted.term AND time = counted.time), 0)
"""
_FORGOTTEN_TERMS: Final = f"SELECT n FROM header_terms WHERE {FORGOTTEN} LIMIT ?"  # noqa: S608 (our own condition)


def add_header_sums(connection: Connection, by_term: Mapping[str, Sequence[Row]]) -> None:
    """Add calls to the sums of their header terms (`x-team` or `x-team:alpha`).

    The terms, and the sums over all calls, must already be in the store.
    """
    numbers = numbers_with_sums(connection, by_term)
    _add(connection, [(number, sum_calls(by_term[term])) for term, number in numbers.items()])


def _add(connection: Connection, parts: Sequence[tuple[int, Sums]]) -> None:
    """Add sums to the tables. Each item of `parts` has the row number of a header term (a recorded request header with
    its value), and sums over some calls that have this header.
    """
    own = [group.series for _, sums in parts for group in sums.figures]
    series = series_numbers(connection, dict.fromkeys([*own, *map(of_everybody, own)]))
    for tables, series_of in ((FIGURE_TABLES, _same), (EVERYBODY_TABLES, of_everybody)):
        for table, unit in tables.items():
            _add_figures(connection, f"{PREFIX}{table}", unit, parts, {one: series[series_of(one)] for one in own})
    tools = [
        (term, group.time, series[group.series], tool, calls)
        for term, sums in parts
        for (group, tool), calls in sums.tools.items()
    ]
    by_day = [(term, time - time % DAY, *rest) for term, time, *rest in tools]
    connection.executemany(_UPSERT_COUNT.format(table="tools_quarter", column="tool"), tools)
    connection.executemany(_UPSERT_COUNT.format(table="tools_day", column="tool"), by_day)
    for term, sums in parts:
        kinds = kind_numbers(connection, sums.kinds)
        errors = [
            (term, group.time, series[group.series], kinds[kind], calls) for (group, kind), calls in sums.errors.items()
        ]
        connection.executemany(_UPSERT_COUNT.format(table="errors_quarter", column="kind"), errors)


def _same(series: Series) -> Series:
    return series


def _add_figures(
    connection: Connection,
    table: str,
    unit: Unit,
    parts: Iterable[tuple[int, Sums]],
    numbers: Mapping[Series, int],
) -> None:
    rows: dict[tuple[int, int, int], Sequence[int]] = {}
    for term, sums in parts:
        for (time, series), amounts in sums.figures.items():
            add_amounts(rows, (term, unit.start(time), numbers[series]), amounts)
    statement = upsert_figures(table, ("term", "time", "series"))
    connection.executemany(statement, [(*key, *amounts) for key, amounts in rows.items()])


def purge_forgotten(connection: Connection) -> None:
    """Delete the sums for header terms (`x-team` or `x-team:alpha`) that no stored call has any more. The texts of
    these terms are already deleted.

    One run deletes about `MAX_PURGED` rows of each term from each table. When a term has no sums left, its row is
    deleted too.
    """
    for (term,) in connection.execute(_FORGOTTEN_TERMS, (_PURGED_TERMS,)).fetchall():
        is_left = [not _purge(connection, table, term) for table in TABLES]
        if not any(is_left):
            connection.execute("DELETE FROM header_terms WHERE n = ?", (term,))


def _purge(connection: Connection, table: str, term: int) -> bool:
    """Delete the oldest sums for a header term from a table, about `MAX_PURGED` rows. `term` is the row number of the
    term.

    Return whether no sums for the term are left in the table.
    """
    oldest = f"SELECT time FROM {table} WHERE term = ? ORDER BY time LIMIT 1 OFFSET {MAX_PURGED - 1}"  # noqa: S608
    last = connection.execute(oldest, (term,)).fetchone()
    if last is None:
        connection.execute(f"DELETE FROM {table} WHERE term = ?", (term,))  # noqa: S608 (our own names)
        return True
    connection.execute(f"DELETE FROM {table} WHERE term = ? AND time <= ?", (term, *last))  # noqa: S608 (our own)
    return False


def terms_with_wrong_sums(connection: Connection) -> set[int]:
    """Return the header terms whose sums are too low: more calls with the term are stored than the sums count. A term
    is given by its row number.
    """
    queries = (
        _WRONG.format(table=name, start=unit.start_in_sql("h.time"), number=number, condition=condition)
        for name, (unit, number, condition) in _TABLES.items()
    )
    return {term for query in queries for (term,) in connection.execute(query)}


def delete_orphans(connection: Connection) -> None:
    """Delete sums whose term or series is not stored.

    If they stayed, a new term could get the row number of a deleted term, and with it these sums.
    """
    for table in TABLES:
        connection.execute(
            f"DELETE FROM {table} WHERE term NOT IN (SELECT n FROM header_terms WHERE has_sums = 1) OR "  # noqa: S608
            "series NOT IN (SELECT n FROM series)"
        )


def recount_header_sums(connection: Connection) -> None:
    """Correct the sums for each header term (`x-team` or `x-team:alpha`) that count fewer calls than are stored.

    The sums are computed anew from the stored calls, so they no longer include calls that have expired. Call
    `delete_orphans` before this function, and before new terms are inserted.
    """
    for term in sorted(terms_with_wrong_sums(connection)):
        for table in TABLES:
            connection.execute(f"DELETE FROM {table} WHERE term = ?", (term,))  # noqa: S608 (our own names)
        for calls in _batches(connection, term):
            _add(connection, [(term, sum_calls(calls))])


def _batches(connection: Connection, term: int) -> Iterator[list[tuple[Any, ...]]]:
    """Yield rows of the stored calls that have a header term, in batches. The columns of a row are `CALL_COLUMNS`."""
    after = (-1, -1)
    while batch := connection.execute(_BATCH, (term, *after)).fetchall():
        yield [row for _, _, *row in batch]
        after = batch[-1][:2]
