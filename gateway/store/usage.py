"""Queries of usage by hour or day in a store, and conversion of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise, takewhile
from math import ceil
from typing import Any, Final

import msgspec

from gateway.contract.flag import Usage
from gateway.store.base import MAX_ROWS, UsageQuery, UsageRow
from gateway.store.few_calls import with_sums
from gateway.store.figures_writing import AGENT_TABLES
from gateway.store.header_index import NUMBER
from gateway.store.header_sums import PREFIX
from gateway.store.reports.pieces import parts_within
from gateway.store.reports.values import Selection, Span
from gateway.store.sql import Connection
from gateway.store.sums import SUMS
from gateway.store.units import UNITS

_COLUMNS: Final[Mapping[str, str]] = {
    "user": "identity",
    "provider": "provider",
    "model": "model",
    "agent": "agent",
    "day": "time",
    "hour": "time",
}
_SUMS: Final = (*SUMS, "duration_ms")
_SUMMED: Final = {"failed": "CASE WHEN outcome = 'ok' THEN 0 ELSE calls END"}
"""SQL expressions for those amounts that are not columns of the tables `figures_*`. The keys are the names of the
amounts."""
_AMOUNTS: Final = tuple(f"coalesce(sum({_SUMMED.get(name, name)}), 0)" for name in _SUMS)
"""SQL expressions for the sums in a row of the result, in the order of `_SUMS`."""
_UNITS: Final = 32
"""Number of hours or days that one statement reads. This is for queries that sort their rows by hour or day first."""
_MORE: Final = 1.1
"""Safety factor for the number of names that a statement of `_in_steps` reads. The number of names that are needed is
estimated, and the estimate would often be too low, because names have different numbers of rows."""
_GROWTH: Final = 4
"""Each statement of `_in_steps` reads at most this many times as many names as the statement before."""
_GROUPED: Final = ", ".join(f"sum({name}) AS {name}" for name in _SUMS if name not in _SUMMED)
_END: Final = 400_000 * 86_400.0
"""The end of a query without an end, as Unix time in seconds. It is in the year 3065."""
Names = tuple[str, ...]
"""The values of a query's grouping columns, except hours and days. For example, a query by login and model has pairs of
a login and a model."""
_FORMATS: Final[Mapping[str, str]] = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00Z"}


def read(connection: Connection, query: UsageQuery) -> list[UsageRow]:
    """Return at most `MAX_ROWS` rows of usage, sorted by the columns in `query.by`.

    The store does not keep sums for every value of a header. If the query selects a value without sums, the calls with
    this value are read. Raises `TooManyCalls` if there are too many of them.
    """
    selection = Selection(span=_span(query), header=query.header)
    with with_sums(connection, selection) as (source, selected):
        return _read(source, replace(query, header=selected.header))


def _read(connection: Connection, query: UsageQuery) -> list[UsageRow]:
    """Return the rows of a query. If the query selects a header, the store must keep sums for it (`few_calls.py`)."""
    by_time = [name for name in query.by if name in _FORMATS]
    if by_time and len(by_time) < len(query.by):
        rows = _by_time_and_names(connection, query)
    else:
        statement, values = _select(query)
        rows = connection.execute(statement, values).fetchall()
    return [_row_of(query, row) for row in rows]


def _by_time_and_names(connection: Connection, query: UsageQuery) -> list[tuple[Any, ...]]:
    """Return the rows of a query that groups both by time (hour or day) and by names (such as models)."""
    times, groups = _times(connection, query), _groups(connection, query)
    if query.by[0] in _FORMATS or len(times) * len(groups) <= MAX_ROWS:
        return _lists(connection, query, times)
    return _in_steps(connection, query, len(times), groups)


def _select(query: UsageQuery, between: Sequence[Names] = ()) -> tuple[str, list[Any]]:
    """Return the SQL statement of a query, and the values for its placeholders.

    If a query groups neither by hour nor by day, its rows are first grouped by series (`sums.Series`). Grouping by
    these integers is faster than grouping by texts. `between` selects a range of names (`_of_series`).

    Names in the SQL are constants of this package. Texts from clients are only bound values.
    """
    columns = [_COLUMNS[name] for name in query.by]
    only, values = _of_series(query, between)
    parts, bounds = [], []
    for level, since, until in _levels(query):
        grouped = (f"series, {_GROUPED}", "GROUP BY series") if "time" not in columns else ("*", "")
        parts.append(
            f"SELECT {grouped[0]} FROM {_table(query, level)} WHERE time >= ? AND time < ? {only} {grouped[1]}"  # noqa: S608 (our own names)
        )
        bounds += [since, until, *values]
    group = f"GROUP BY {', '.join(columns)} ORDER BY {', '.join(columns)}" if columns else ""
    return (
        f"SELECT {', '.join([*columns, *_AMOUNTS])} FROM ({' UNION ALL '.join(parts)}) f "  # noqa: S608 (our own names)
        f"CROSS JOIN series ON n = series {group} LIMIT {MAX_ROWS}"
    ), bounds


def _table(query: UsageQuery, level: str) -> str:
    """Return the name of the smallest table of sums with which a query can be answered. `level` is the table's unit of
    time, such as `day`.

    The sums of `everybody_*` are over all callers and agents. Those of `agents_*` are by agent, and those of
    `figures_*` by caller and agent. Not every unit of time has a table `agents_*`.
    """
    needs_callers = query.identity is not None or "user" in query.by
    needs_agents = query.agent is not None or "agent" in query.by
    prefix = "" if query.header is None else PREFIX
    if not (needs_callers or needs_agents):
        return f"{prefix}everybody_{level}"
    of_agents = f"{prefix}agents_{level}"
    return of_agents if not needs_callers and of_agents in AGENT_TABLES else f"{prefix}figures_{level}"


def _times(connection: Connection, query: UsageQuery) -> list[int]:
    """Return the times that the rows may have (starts of hours or of days), in ascending order.

    The times are read from the table of sums over all callers and agents. It has the same times as the other tables,
    and fewer rows.
    """
    ((level, since, until),) = _levels(query)
    statement = f"SELECT DISTINCT time FROM everybody_{level} WHERE time >= ? AND time < ?"  # noqa: S608 (our own names)
    return sorted(time for (time,) in connection.execute(statement, (since, until)))


def _groups(connection: Connection, query: UsageQuery) -> list[Names]:
    """Return the combinations of names that may occur in the rows of a query, such as pairs of a model and an agent.

    The combinations come from all series, so some of them may have no rows in the query's range of time.
    """
    columns = ", ".join(_COLUMNS[name] for name in query.by if name not in _FORMATS)
    conditions, values = _conditions(query)
    statement = f"SELECT DISTINCT {columns} FROM series WHERE {' AND '.join(conditions) or '1 = 1'}"  # noqa: S608 (our own names)
    return connection.execute(statement, values).fetchall()


def _in_steps(connection: Connection, query: UsageQuery, times: int, groups: Sequence[Names]) -> list[tuple[Any, ...]]:
    """Return the rows of a query that groups by names first, and then by hour or day. `times` is the number of hours or
    days.

    SQLite sorts all rows that a statement reads, although at most `MAX_ROWS` are returned. So the names are read in
    several steps, until there are enough rows. The number of names in a step is estimated from the rows of the step
    before.
    """
    names = sorted({group[: len(_leading(query))] for group in groups})
    rows: list[tuple[Any, ...]] = []
    size, each = len(names), times * len(groups) / len(names)
    while names and len(rows) < MAX_ROWS:
        size = min(ceil(_MORE * (MAX_ROWS - len(rows)) / each) if each else len(names), _GROWTH * size)
        some, names = names[:size], names[size:]
        statement, values = _select(query, (some[0], some[-1]))
        found = connection.execute(statement, values).fetchall()
        rows += found
        each = len(found) / len(some)
    return rows[:MAX_ROWS]


def _leading(query: UsageQuery) -> list[str]:
    """Return the first grouping columns of a query, up to the hour or the day."""
    return [_COLUMNS[name] for name in takewhile(lambda name: name not in _FORMATS, query.by)]


def _lists(connection: Connection, query: UsageQuery, times: Sequence[int]) -> list[tuple[Any, ...]]:
    """Return the rows of a query that groups by time and by names. `times` are the starts of its hours or days, in
    ascending order.

    The database returns one JSON list for each time, because many short rows would take longer.
    """
    ((level, _, _),) = _levels(query)
    names = [_COLUMNS[name] for name in query.by if name not in _FORMATS]
    only, values = _of_series(query)
    inner = ", ".join(f"{sql} AS c{number}" for number, sql in enumerate((*names, *_AMOUNTS)))
    outer = ", ".join(f"q.c{number}" for number in range(len(names) + len(_AMOUNTS)))
    statement = (
        f"SELECT q.time, json_group_array(json_array({outer})) FROM ("  # noqa: S608 (our own names)
        f"SELECT f.time AS time, {inner} FROM {_table(query, level)} f CROSS JOIN series ON n = f.series "
        f"WHERE f.time >= ? AND f.time < ? {only} GROUP BY f.time, {', '.join(names)}) q GROUP BY q.time"
    )
    rows: list[tuple[Any, ...]] = []
    for span in _spans(query, times):
        for time, text in connection.execute(statement, [*span, *values]):
            for each in msgspec.json.decode(text):
                given = iter(each)
                rows.append((*[time if name in _FORMATS else next(given) for name in query.by], *given))
        if len(rows) >= MAX_ROWS:
            break
    return sorted(rows)[:MAX_ROWS]


def _spans(query: UsageQuery, times: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield ranges of time that together contain all of `times`. The caller runs one statement for each range.

    If the rows are sorted by time first, the ranges are short and in ascending order, so that the caller can stop when
    it has enough rows. For any other order, all rows must be read, so there is only one range.
    """
    unit = UNITS.get(query.by[0])
    starts = sorted({unit.start(time) for time in times}) if unit is not None else [*times[:1]]
    yield from pairwise([*starts[::_UNITS], *(time + 1 for time in times[-1:])])


def _of_series(query: UsageQuery, between: Sequence[Names] = ()) -> tuple[str, list[Any]]:
    """Return the SQL condition that selects the series of a query, and the values for its placeholders. The condition
    begins with AND.

    If `between` is not empty, it has the first and the last name of a range, as values of the columns `_leading`. Then
    only the series within this range are selected.
    """
    conditions, values = _conditions(query)
    columns = ", ".join(_leading(query))
    for sign, names in zip((">=", "<="), between, strict=False):
        conditions.append(f"({columns}) {sign} ({', '.join('?' for _ in names)})")
        values += names
    only = f"AND series IN (SELECT n FROM series WHERE {' AND '.join(conditions)})" if conditions else ""  # noqa: S608 (our own names)
    return (only, values) if query.header is None else (f"AND term = {NUMBER} {only}", [query.header, *values])


def _levels(query: UsageQuery) -> Iterator[tuple[str, int, int]]:
    """Yield triples: a unit of time, and a range to read from the tables with this unit. The range is given by its
    start and its exclusive end in Unix milliseconds.

    A query that groups by hour or day uses this unit. Any other query uses months for the whole months in its range,
    and days for the rest.
    """
    names = next(((name,) for name in ("hour", "day") if name in query.by), ("month", "day"))
    for name, parts in parts_within([_span(query)], {name: UNITS[name] for name in names}).items():
        for _, since, until in parts:
            yield name, since, until


def _span(query: UsageQuery) -> Span:
    """Return the range of time of a query. The default is all time."""
    return Span(query.since or 0.0, _END if query.until is None else query.until)


def _conditions(query: UsageQuery) -> tuple[list[str], list[Any]]:
    equal = [
        ("identity = ?", query.identity),
        ("provider = ?", query.provider),
        ("model = ?", query.model),
        ("agent = ?", query.agent),
    ]
    wanted = [(condition, value) for condition, value in equal if value is not None]
    return [condition for condition, _ in wanted], [value for _, value in wanted]


def _row_of(query: UsageQuery, row: tuple[Any, ...]) -> UsageRow:
    """Return the usage in a row of the columns `query.by` and the sums `_AMOUNTS`."""
    group = {
        name: _time(name, value) if name in _FORMATS else str(value) for name, value in zip(query.by, row, strict=False)
    }
    # passing the sums by position is faster than by name
    calls, failed, *counts, cost, unknown, estimated, saved, duration = row[len(query.by) :]
    return UsageRow(
        group=group,
        calls=calls,
        failed=failed,
        usage=Usage(*counts),
        known_cost=cost,
        cost_unknown_calls=unknown,
        estimated_calls=estimated,
        cache_saved=saved,
        duration_ms=duration,
    )


@lru_cache(4096)
def _time(name: str, value: int) -> str:
    return datetime.fromtimestamp(value / 1000, UTC).strftime(_FORMATS[name])
