"""Queries of sums over selected calls, by time bucket and by one dimension.

All functions run in the thread of a connection. Text from clients is never part of a statement, only a bound value.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import orjson

from gateway.contract.flag import USAGE_KINDS, Usage
from gateway.store.figures_writing import EVERYBODY_TABLES, FIGURE_TABLES, add_amounts
from gateway.store.header_index import NUMBER
from gateway.store.header_sums import PREFIX
from gateway.store.histogram import percentile, unpacked
from gateway.store.reports.pieces import Piece, Share, Shares, parts_within, shares
from gateway.store.reports.values import (
    Dimension,
    Figures,
    Latency,
    Measure,
    Ranked,
    Selection,
    Span,
    Stack,
    Summary,
)
from gateway.store.sql import Connection, rows_of_values
from gateway.store.sums import DURATIONS, FIRST_EVENTS
from gateway.store.units import Unit

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
"""SQL expressions of the fields of `Figures`, by the name of the field. Queries sum these expressions."""
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


class Amounts(NamedTuple):
    """The sums over a group of calls, and the distributions of their durations and of the times to the first event."""

    figures: Figures
    duration: Latency
    first_event: Latency


def conditions(selection: Selection) -> tuple[str, list[Any]]:
    """Return the SQL conditions that select the series of a selection, and the values for their placeholders. The
    conditions are about columns of the table `series`.
    """
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
) -> Iterator[tuple[Any, ...]]:
    """Yield rows: the index of a time bucket, the values of the columns `by`, and the sums `what`.

    Several rows may have the same bucket and the same values of `by`, and the caller must add them (`added`). Some rows
    have negative sums, because the sum over a bucket is the sum over a longer range minus the excess (`pieces.shares`).
    So a total may be 0.
    """
    keys = 1 + by.count(",")
    for table, parts in shares(buckets, tables_for(selection, by)).items():
        rows = grouped_in_table(connection, selection, table, _ranges(parts), what, by)
        for share, row in _shared(rows, parts):
            yield (share.bucket, *row[:keys], *_signed(row[keys:], share.sign))


def grouped_within(
    connection: Connection,
    selection: Selection,
    buckets: Sequence[Span],
    what: str,
    by: str,
    tables: Mapping[str, Unit],
) -> Iterator[tuple[Any, ...]]:
    """Yield rows: the index of a time bucket, the values of the columns `by`, and the sums `what`.

    Several rows may have the same bucket and the same values of `by`, and the caller must add them. Unlike `grouped`,
    this function reads no ranges beyond a bucket, so no sum is negative.

    `tables` has the unit of time of each table, with the longest unit first.
    """
    for table, parts in parts_within(buckets, tables).items():
        yield from grouped_in_table(connection, selection, table, parts, what, by)


def grouped_in_table(
    connection: Connection, selection: Selection, table: str, parts: Sequence[Piece], what: str, by: str
) -> Iterator[tuple[Any, ...]]:
    """Return rows of sums from one table: a number, the values of the columns `by`, and the sums `what`.

    The number is the field `bucket` of the pieces in `parts`. Pieces with the same number are summed in one row.
    """
    where, values = conditions(selection)
    source = source_of(connection, selection, table)
    statement = (
        f"{_with_pieces(parts)} SELECT p.bucket, {by}, {what} FROM p "  # noqa: S608 (our own names)
        f"CROSS JOIN {source} f ON f.time >= p.since AND f.time < p.until CROSS JOIN series s ON s.n = f.series "
        f"WHERE {where} GROUP BY p.bucket, {by}"
    )
    return iter(connection.execute(statement, [*_bounds(parts), *values]))


def summed(
    connection: Connection, selection: Selection, buckets: Sequence[Span]
) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield pairs: the index of a time bucket, and the sums `SUMMED` over a range of time. The caller must add the
    pairs of a bucket.

    If a range extends beyond the bucket, the sums over the excess are negative (`pieces.shares`). Each range is read by
    a subquery, because SQLite would sort all rows for a query that groups by bucket.
    """
    where, values = conditions(selection)
    join = f"CROSS JOIN series s ON s.n = f.series WHERE f.time >= p.since AND f.time < p.until AND {where}"
    for table, parts in shares(buckets, tables_for(selection, "")).items():
        source, ranges = source_of(connection, selection, table), _ranges(parts)
        statement = (
            f"{_with_pieces(ranges)} SELECT p.bucket, (SELECT json_array({SUMMED}) FROM {source} f {join}) FROM p"  # noqa: S608 (our own names)
        )
        for share, (text,) in _shared(connection.execute(statement, [*_bounds(ranges), *values]), parts):
            # sums in PostgreSQL may be larger than orjson's integers
            row = json.loads(text)
            if row[0] is not None:
                yield share.bucket, _signed(row, share.sign)


def _ranges(parts: Shares) -> list[Piece]:
    """Return the ranges of time in `parts` as `Piece` objects, for a query. In these objects, `bucket` is not a time
    bucket, but the position of the range in `parts`.
    """
    return [Piece(number, *bounds) for number, bounds in enumerate(parts)]


def _shared(rows: Iterable[tuple[Any, ...]], parts: Shares) -> Iterator[tuple[Share, Sequence[Any]]]:
    """Yield pairs: a `Share` (a time bucket, and whether to add or to subtract), and a row of sums. A row that counts
    for several buckets is in several pairs.

    The first value of each of `rows` is the position of a range in `parts` (`_ranges`). The yielded rows do not have
    this value.
    """
    given = [*parts.values()]
    for number, *row in rows:
        for share in given[number]:
            yield share, row


def _signed(amounts: Sequence[int], sign: int) -> Sequence[int]:
    return amounts if sign > 0 else [-amount for amount in amounts]


def _with_pieces(parts: Sequence[Piece]) -> str:
    spans = rows_of_values(len(parts), "BIGINT", "BIGINT", "BIGINT")
    return f"WITH p (bucket, since, until) AS (VALUES {spans})"


def _bounds(parts: Sequence[Piece]) -> Iterator[int]:
    return (value for part in parts for value in part)


def source_of(connection: Connection, selection: Selection, table: str) -> str:
    """Return the SQL of the table from which a query reads sums. Without a header in the selection, this is `table`.

    If the selection has a header term (`x-team` or `x-team:alpha`), the SQL is a subquery. It selects the rows of this
    term from the table with the same sums by term. The store must keep sums for the term (`store/few_calls.py`). If no
    call has the term, there are no rows.
    """
    if selection.header is None:
        return table
    number = connection.execute(f"SELECT {NUMBER}", (selection.header,)).fetchone()[0]
    return f"(SELECT * FROM {PREFIX}{table} WHERE term = {0 if number is None else number})"  # noqa: S608


def tables_for(selection: Selection, by: str) -> Mapping[str, Unit]:
    """Return the tables that a query must read, each with its unit of time.

    A query that needs neither callers nor agents reads the `everybody_*` tables, which are smaller.
    """
    has_caller = selection.user is not None or selection.agent is not None or "s.identity" in by or "s.agent" in by
    return FIGURE_TABLES if has_caller else EVERYBODY_TABLES


SUMMED_AMOUNTS: Final = ", ".join(f"sum({sql})" for sql in _AMOUNTS.values())
_LATENCIES: Final = ", ".join(f"sum(f.{name})" for name in (*DURATIONS, *FIRST_EVENTS))
SUMMED: Final = f"{SUMMED_AMOUNTS}, {_LATENCIES}"
"""SQL expressions for all sums of a query. `amounts_of` converts their values to `Amounts`."""
_NO_COUNTS: Final = (0,) * len(DURATIONS)
_SIZE: Final = len(_AMOUNTS) + len(DURATIONS) + len(FIRST_EVENTS)


def added(rows: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the sum of each column of `rows`. The columns are those of `SUMMED`; the last ones may be missing.

    If there are no rows, return a zero for each column of `SUMMED`.
    """
    return [sum(column) for column in zip(*rows, strict=True)] if rows else [0] * _SIZE


def amounts_of(sums: Sequence[int]) -> Amounts:
    """Return the values of `SUMMED` as `Amounts`. The values for the latencies, which are the last ones, may be
    missing.
    """
    named = dict(zip(_AMOUNTS, sums, strict=False))
    usage = Usage(**{name: named.pop(name) for name in USAGE_KINDS})
    rest = sums[len(_AMOUNTS) :]
    figures = Figures(usage=usage, **named)
    return Amounts(figures, latency(rest[: len(DURATIONS)]), latency(rest[len(DURATIONS) :]))


def latency(counts: Sequence[int]) -> Latency:
    """Return the percentiles and the number of some durations. `counts` are the columns of their histogram, or () if
    there are no durations.
    """
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
    """Return, for each time bucket, the logins of the callers with calls in this bucket. Callers without a login are
    left out.

    If a bucket is nearly a month in UTC, the calls of each login are counted by adding and subtracting stored sums
    (`pieces.shares`). For other buckets, it is faster to read only rows within the bucket.
    """
    where, values = conditions(selection)
    known = connection.execute(f"SELECT s.n, s.identity FROM series s WHERE {where}", values)  # noqa: S608 (our own)
    logins = {number: login for number, login in known if login}
    active: list[set[str | None]] = [set() for _ in buckets]
    months = _near_months(buckets)
    others = [number for number in range(len(buckets)) if number not in months]
    for chosen, called in ((months, _called_by_count), (others, _called_within)):
        for index, series in called(connection, selection, [buckets[number] for number in chosen]):
            active[chosen[index]].update(map(logins.get, series))
    return [{login for login in each if login is not None} for each in active]


def _near_months(buckets: Sequence[Span]) -> list[int]:
    """Return the indexes of the time buckets that are nearly a month in UTC: the difference is less than a day at each
    end.
    """
    parts = shares(buckets, FIGURE_TABLES)
    month, day, *_ = (
        {share.bucket for given in parts.get(table, {}).values() for share in given} for table in FIGURE_TABLES
    )
    return sorted(month - day)


def _called_by_count(
    connection: Connection, selection: Selection, buckets: Sequence[Span]
) -> Iterator[tuple[int, Iterable[int]]]:
    """Yield pairs: the index of a time bucket, and the row numbers of the series with calls in this bucket.

    A series is all calls with the same caller, provider, model and so on (`store/sums.py`). A series is yielded if its
    number of calls in the bucket is above 0. This number is computed by adding and subtracting stored sums
    (`pieces.shares`).
    """
    what = "json_array(json_group_array(f.series), json_group_array(f.calls))"
    counts: list[Counter[int]] = [Counter() for _ in buckets]
    for table, parts in shares(buckets, FIGURE_TABLES).items():
        for share, (lists,) in _shared(lists_of(connection, selection, table, _ranges(parts), what), parts):
            # PostgreSQL returns null for a list without items
            for one, calls in zip(*(each or () for each in lists), strict=True):
                counts[share.bucket][one] += share.sign * calls
    for bucket, count in enumerate(counts):
        yield bucket, (one for one, calls in count.items() if calls > 0)


def _called_within(
    connection: Connection, selection: Selection, buckets: Sequence[Span]
) -> Iterator[tuple[int, Iterable[int]]]:
    """Yield pairs: the index of a time bucket, and the row numbers of some series with calls in this bucket.

    A series is all calls with the same caller, provider, model and so on (`store/sums.py`). A bucket is read in several
    pieces, and there is one pair for each piece. So the caller must merge the pairs of a bucket.
    """
    for table, parts in parts_within(buckets, FIGURE_TABLES).items():
        for bucket, series in lists_of(connection, selection, table, parts, "json_group_array(DISTINCT f.series)"):
            yield bucket, series or ()


def lists_of(
    connection: Connection, selection: Selection, table: str, parts: Sequence[Piece], what: str
) -> Iterator[tuple[int, Any]]:
    """Yield a pair for each piece of a time bucket: the index of the bucket, and a JSON list.

    The list is the value of `what`, an SQL aggregate over the rows of `table` in the piece. Only rows of selected calls
    are used. One list for each piece is faster than many short rows.
    """
    where, values = conditions(selection)
    # without conditions, looking up each row's series would only take time
    selected = f"AND f.series IN (SELECT s.n FROM series s WHERE {where})" if values else ""  # noqa: S608 (our own)
    source = source_of(connection, selection, table)
    statement = (
        f"{_with_pieces(parts)} SELECT p.bucket, (SELECT {what} FROM {source} f "  # noqa: S608 (our own names)
        f"WHERE f.time >= p.since AND f.time < p.until {selected}) FROM p"
    )
    for bucket, text in connection.execute(statement, [*_bounds(parts), *values]):
        yield bucket, orjson.loads(text or "[]")


def stack(
    connection: Connection, selection: Selection, buckets: Sequence[Span], by: Dimension, measure: Measure
) -> Stack:
    """Return the amounts of a measure, such as the cost, for each value of a dimension in each time bucket."""
    amounts: dict[str, list[int]] = {}
    calls: Counter[str] = Counter()
    unknown = [0] * len(buckets)
    for bucket, name, amount, unpriced, number in _amounts(connection, selection, buckets, by, measure):
        amounts.setdefault(str(name), [0] * len(buckets))[bucket] += amount
        unknown[bucket] += unpriced
        calls[str(name)] += number
    return Stack({name: tuple(each) for name, each in amounts.items() if calls[name] > 0}, tuple(unknown))


def ranking(connection: Connection, selection: Selection, by: Dimension, measure: Measure) -> list[Ranked]:
    """Return the amount of a measure for each value of a dimension, the largest first."""
    sums: dict[str, Sequence[int]] = {}
    for _, name, *row in _amounts(connection, selection, [selection.span], by, measure):
        add_amounts(sums, str(name), row)
    ranked = [
        Ranked(name=name, amount=amount, unknown_cost=unpriced)
        for name, (amount, unpriced, calls) in sums.items()
        if calls > 0
    ]
    return sorted(ranked, key=lambda row: (-row.amount, row.name))


def _amounts(
    connection: Connection, selection: Selection, buckets: Sequence[Span], by: Dimension, measure: Measure
) -> Iterator[tuple[int, Any, int, int, int]]:
    """Yield rows: the index of a time bucket, the value of a dimension, the amount of a measure, the number of calls
    with an unknown cost, and the number of calls.

    The caller must add the rows with the same bucket and the same value. Some rows are negative, because they are
    subtracted (`grouped`).
    """
    what = f"sum({MEASURES[measure]}), sum(f.cost_unknown_calls), sum(f.calls)"
    return cast("Iterator[tuple[int, Any, int, int, int]]", grouped(connection, selection, buckets, what, COLUMNS[by]))
