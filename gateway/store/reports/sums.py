"""Queries of sums over selected calls, by time bucket and by one dimension.

All functions run in the thread of a connection. Text from clients is never part of a statement, only a bound value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple, cast

from gateway.contract.flag import USAGE_KINDS, Usage
from gateway.store.figures_writing import EVERYBODY_TABLES, FIGURE_TABLES
from gateway.store.header_index import NUMBER
from gateway.store.header_sums import PREFIX
from gateway.store.histogram import percentile, unpacked
from gateway.store.reports.pieces import Piece, pieces
from gateway.store.reports.values import (
    Dimension,
    Figures,
    Latency,
    Measure,
    Ranked,
    Row,
    Selection,
    Span,
    Stack,
    Summary,
)
from gateway.store.sql import Connection, rows_of_values
from gateway.store.sums import DURATIONS, FIRST_EVENTS

COLUMNS: Final[Mapping[Dimension, str]] = {
    "model": "s.model",
    "user": "s.identity",
    "provider": "s.provider",
    "agent": "s.agent",
    "api": "s.api",
    "status": "s.status",
    "outcome": "s.outcome",
}
_AMOUNTS: Final[Mapping[str, str]] = {
    "calls": "f.calls",
    "failed": "CASE WHEN s.outcome = 'ok' THEN 0 ELSE f.calls END",
    "refused": "CASE WHEN s.outcome = 'refused' THEN f.calls ELSE 0 END",
    "cancelled": "CASE WHEN s.outcome = 'cancelled' THEN f.calls ELSE 0 END",
    **{name: f"f.{name}" for name in USAGE_KINDS},
    "known_cost": "f.known_cost",
    "cost_unknown_calls": "f.cost_unknown_calls",
    "estimated_calls": "f.estimated_calls",
    "cache_saved": "f.cache_saved",
    "duration_ms": "f.duration_ms",
}
"""SQL expressions of the amounts that are summed for `Figures`, by name."""
ERRORS: Final = "CASE WHEN s.outcome IN ('ok', 'cancelled') THEN 0 ELSE f.calls END"
"""SQL expression of the number of calls that were refused, failed or lost."""
MEASURES: Final[Mapping[Measure, str]] = {
    "cost": "f.known_cost",
    "tokens": "f.input + f.output + f.cache_read + f.cache_write_5m + f.cache_write_1h",
    "calls": "f.calls",
    "errors": ERRORS,
    "saved": "f.cache_saved",
}
"""SQL expression of each measure, for charts."""
_COLUMN: Final = re.compile(r"\bf\.(\w+)")
"""Pattern for a column of sums in `MEASURES`."""


class Amounts(NamedTuple):
    """The sums over a group of calls, and the distributions of their durations and of the times to the first event."""

    figures: Figures
    duration: Latency
    first_event: Latency


def conditions(selection: Selection) -> tuple[str, list[Any]]:
    """Return the SQL conditions of a selection on the table `series`, and the values for their placeholders."""
    equal = {
        "s.identity": selection.user,
        "s.provider": selection.provider,
        "s.model": selection.model,
        "s.agent": selection.agent,
        "s.api": selection.api,
        "s.outcome": selection.outcome,
    }
    parts = [f"{column} = ?" for column, value in equal.items() if value is not None]
    values: list[Any] = [value for value in equal.values() if value is not None]
    if selection.status is not None:
        parts.append("s.status BETWEEN ? AND ?")
        values += selection.status
    return " AND ".join(parts) or "1 = 1", values


def grouped(
    connection: Connection,
    selection: Selection,
    buckets: Sequence[Span],
    what: str,
    by: str,
    tables: Mapping[str, int] | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Yield rows of sums: the index of the time bucket, the columns `by`, and the sums `what`.

    A group has several rows if its sums are spread over several tables. The caller must add these rows (`added`). If
    `tables` is None, `_tables` chooses the tables.
    """
    if tables is None:
        tables = _tables(selection, by)
    where, values = conditions(selection)
    for table, parts in pieces(buckets, tables).items():
        source = _source(connection, selection, table)
        statement = (
            f"{_with_pieces(parts)} SELECT p.bucket, {by}, {what} FROM p "  # noqa: S608 (our own names)
            f"CROSS JOIN {source} f ON f.time >= p.since AND f.time < p.until CROSS JOIN series s ON s.n = f.series "
            f"WHERE {where} GROUP BY p.bucket, {by}"
        )
        yield from connection.execute(statement, [*_bounds(parts), *values])


def summed(
    connection: Connection, selection: Selection, buckets: Sequence[Span]
) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield the index of a time bucket, and the sums `SUMMED` over a part of this bucket.

    A statement for each part of a bucket is faster than one statement for all, because SQLite sorts all rows that it
    groups.
    """
    where, values = conditions(selection)
    join = f"CROSS JOIN series s ON s.n = f.series WHERE f.time >= ? AND f.time < ? AND {where}"
    for table, parts in pieces(buckets, _tables(selection, "")).items():
        statement = f"SELECT {SUMMED} FROM {_source(connection, selection, table)} f {join}"  # noqa: S608 (our own names)
        for bucket, since, until in parts:
            row = connection.execute(statement, [since, until, *values]).fetchone()
            if row[0] is not None:
                yield bucket, row


def _with_pieces(parts: Sequence[Piece]) -> str:
    spans = rows_of_values(len(parts), "BIGINT", "BIGINT", "BIGINT")
    return f"WITH p (bucket, since, until) AS (VALUES {spans})"


def _bounds(parts: Sequence[Piece]) -> Iterator[int]:
    return (value for part in parts for value in part)


def grouped_twice(
    connection: Connection,
    selection: Selection,
    buckets: Sequence[Span],
    columns: Sequence[str],
    what: str,
    by: str,
) -> Iterator[tuple[Any, ...]]:
    """Yield the same rows as `grouped`, for sums of a few columns.

    `what` names columns in the form `f.calls`, and `columns` has the names of all these columns. If `columns` is empty,
    a row says only that its group exists.

    SQLite sorts all rows that it groups, and sorting by integers is much faster than by texts. So the first step groups
    by two integers (bucket and series). The second step groups the few resulting rows by `by`, which are texts. It adds
    the sums of the first step, so `what` may contain only sums for which this is correct.
    """
    where, values = conditions(selection)
    only = f"AND f.series IN (SELECT s.n FROM series s WHERE {where})" if values else ""  # noqa: S608 (our own names)
    sums = "".join(f", sum(f.{column}) AS {column}" for column in columns)
    for table, parts in pieces(buckets, _tables(selection, by)).items():
        source = _source(connection, selection, table)
        statement = (
            f"{_with_pieces(parts)} SELECT f.bucket, {by}, {what} FROM ("  # noqa: S608 (our own names)
            f"SELECT {'' if columns else 'DISTINCT'} p.bucket AS bucket, f.series AS series{sums} FROM p "
            f"CROSS JOIN {source} f ON f.time >= p.since AND f.time < p.until {only} "
            f"{'GROUP BY 1, 2' if columns else ''}) f CROSS JOIN series s ON s.n = f.series GROUP BY f.bucket, {by}"
        )
        yield from connection.execute(statement, [*_bounds(parts), *values])


def _source(connection: Connection, selection: Selection, table: str) -> str:
    """Return the SQL of the rows that a query sums. `table` is a table of sums over all calls.

    If the selection has a header term, the rows are those of this term in the matching table of sums by term. The term
    must have sums (see `store/few_calls.py` for terms without). If no call has the term, there are no rows.
    """
    if selection.header is None:
        return table
    number = connection.execute(f"SELECT {NUMBER}", (selection.header,)).fetchone()[0]
    return f"(SELECT * FROM {PREFIX}{table} WHERE term = {0 if number is None else number})"  # noqa: S608


def _tables(selection: Selection, by: str) -> Mapping[str, int]:
    """Return the tables for a query, each with its unit of time in milliseconds.

    A query that needs neither callers nor agents gets the smaller tables without callers and agents.
    """
    has_caller = selection.user is not None or selection.agent is not None or "s.identity" in by or "s.agent" in by
    return FIGURE_TABLES if has_caller else EVERYBODY_TABLES


_SUMMED: Final = ", ".join(f"sum({sql})" for sql in _AMOUNTS.values())
_LATENCIES: Final = ", ".join(f"sum(f.{name})" for name in (*DURATIONS, *FIRST_EVENTS))
SUMMED: Final = f"{_SUMMED}, {_LATENCIES}"
"""SQL of the sums that `amounts_of` reads."""
_NO_COUNTS: Final = (0,) * len(DURATIONS)
_SIZE: Final = len(_AMOUNTS) + len(DURATIONS) + len(FIRST_EVENTS)


def added(rows: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the sum of each column of `rows`, or zeros if there are no rows.

    The columns of `rows` are those of `SUMMED`, or only the first columns of `SUMMED`.
    """
    return [sum(column) for column in zip(*rows, strict=True)] if rows else [0] * _SIZE


def amounts_of(sums: Sequence[int]) -> Amounts:
    """Return the amounts in a row that has the columns `SUMMED`, or only the columns before the latencies."""
    named = dict(zip(_AMOUNTS, sums, strict=False))
    usage = Usage(**{name: named.pop(name) for name in USAGE_KINDS})
    rest = sums[len(_AMOUNTS) :]
    figures = Figures(usage=usage, **named)
    return Amounts(figures, latency(rest[: len(DURATIONS)]), latency(rest[len(DURATIONS) :]))


def latency(counts: Sequence[int]) -> Latency:
    """Return the distribution of a duration. `counts` are the columns of its histogram. () stands for no calls."""
    each = unpacked(counts or _NO_COUNTS)
    return Latency(calls=sum(each), p50=percentile(each, 0.5), p95=percentile(each, 0.95), counts=each)


def summaries(connection: Connection, selection: Selection, buckets: Sequence[Span]) -> tuple[Summary, ...]:
    """Return the summary of each time bucket."""
    sums: list[list[Sequence[int]]] = [[] for _ in buckets]
    for bucket, row in summed(connection, selection, buckets):
        sums[bucket].append(row)
    active = people(connection, selection, buckets)
    parts = [amounts_of(added(rows)) for rows in sums]
    return tuple(
        Summary(figures=part.figures, duration=part.duration, first_event=part.first_event, people=len(logins))
        for part, logins in zip(parts, active, strict=True)
    )


def people(connection: Connection, selection: Selection, buckets: Sequence[Span]) -> list[set[str]]:
    """Return a set for each time bucket: the logins of its calls. Callers without a login are left out."""
    active: list[set[str]] = [set() for _ in buckets]
    for bucket, login, _ in grouped_twice(connection, selection, buckets, (), "1", "s.identity"):
        if login:
            active[bucket].add(login)
    return active


def table_rows(connection: Connection, selection: Selection, by: Dimension, *, latencies: bool) -> tuple[Row, ...]:
    """Return one row of sums for each value of a dimension, such as each model.

    If `latencies` is false, the rows have empty latencies. Reading the latencies would take half of the time.
    """
    sums: dict[str, list[Sequence[int]]] = {}
    last: dict[str, int] = {}
    what = f"max(f.time), {SUMMED if latencies else _SUMMED}"
    for _, name, at, *row in grouped(connection, selection, [selection.span], what, COLUMNS[by]):
        sums.setdefault(str(name), []).append(row)
        last[str(name)] = max(last.get(str(name), 0), at)
    exact = _quarters(connection, selection, COLUMNS[by], last)
    return tuple(_row(name, amounts_of(added(rows)), exact[name] / 1000) for name, rows in sums.items())


def _quarters(connection: Connection, selection: Selection, by: str, last: Mapping[str, int]) -> Mapping[str, int]:
    """Return the start of the quarter hour of each name's last call, as Unix time in milliseconds.

    `last` has, for each name, the start of the last unit of time with a call, such as a day. The calls of this unit are
    searched in the table with the next shorter unit.
    """
    tables = _tables(selection, by)
    parts = pieces([selection.span], tables)
    found = dict(last)
    levels = dict.fromkeys(last, "")
    for name, at in last.items():
        levels[name] = next(table for table in tables for part in parts[table] if part.since <= at < part.until)
    for (table, unit), (finer, finer_unit) in pairwise(tables.items()):
        names = [name for name, level in levels.items() if level == table]
        within = {at: Span(at / 1000, (at + unit) / 1000) for at in sorted({found[name] for name in names})}
        later = {
            (at, str(name)): newest
            for at, span in within.items()
            for _, name, newest in grouped(connection, selection, [span], "max(f.time)", by, {finer: finer_unit})
        }
        for name in names:
            found[name], levels[name] = later[found[name], name], finer
    return found


def _row(name: str, amounts: Amounts, last_at: float) -> Row:
    return Row(
        name=name,
        figures=amounts.figures,
        duration=amounts.duration,
        first_event=amounts.first_event,
        last_at=last_at,
    )


def stack(
    connection: Connection, selection: Selection, buckets: Sequence[Span], by: Dimension, measure: Measure
) -> Stack:
    """Return the amounts of a measure, such as the cost, for each value of a dimension in each time bucket."""
    amounts: dict[str, list[int]] = {}
    unknown = [0] * len(buckets)
    for bucket, name, amount, unpriced in _amounts(connection, selection, buckets, by, measure):
        amounts.setdefault(str(name), [0] * len(buckets))[bucket] += amount
        unknown[bucket] += unpriced
    return Stack({name: tuple(each) for name, each in amounts.items()}, tuple(unknown))


def ranking(connection: Connection, selection: Selection, by: Dimension, measure: Measure) -> list[Ranked]:
    """Return the amount of a measure for each value of a dimension, the largest first."""
    sums: dict[str, tuple[int, int]] = {}
    for _, name, amount, unpriced in _amounts(connection, selection, [selection.span], by, measure):
        before = sums.get(str(name), (0, 0))
        sums[str(name)] = before[0] + amount, before[1] + unpriced
    ranked = [Ranked(name=name, amount=amount, unknown_cost=unpriced) for name, (amount, unpriced) in sums.items()]
    return sorted(ranked, key=lambda row: (-row.amount, row.name))


def _amounts(
    connection: Connection, selection: Selection, buckets: Sequence[Span], by: Dimension, measure: Measure
) -> Iterator[tuple[int, Any, int, int]]:
    """Yield the index of the time bucket, the value of a dimension, the amount of a measure, and the number of calls
    with an unknown cost. A group may have several rows.
    """
    sql = MEASURES[measure]
    columns = dict.fromkeys([*_COLUMN.findall(sql), "cost_unknown_calls"])
    what = f"sum({sql}), sum(f.cost_unknown_calls)"
    return cast(
        "Iterator[tuple[int, Any, int, int]]",
        grouped_twice(connection, selection, buckets, tuple(columns), what, COLUMNS[by]),
    )
