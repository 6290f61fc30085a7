"""Queries of usage by hour or day in a store, and conversion of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from gateway.contract.flag import USAGE_KINDS, Usage
from gateway.store.base import MAX_ROWS, UsageQuery, UsageRow
from gateway.store.few_calls import with_sums
from gateway.store.header_index import NUMBER
from gateway.store.header_sums import PREFIX
from gateway.store.reports.values import Selection, Span
from gateway.store.sql import Connection
from gateway.store.sums import SUMS
from gateway.store.units import DAY, UNITS

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
"""SQL of the sums for which the tables `figures_*` have no column."""
_GROUPED: Final = ", ".join(f"sum({name}) AS {name}" for name in _SUMS if name not in _SUMMED)
_END: Final = 400_000 * DAY
"""A Unix time in milliseconds after all calls, in the year 3065."""
_FORMATS: Final[Mapping[str, str]] = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00Z"}


def usage_rows(connection: Connection, query: UsageQuery) -> list[UsageRow]:
    """Return at most `MAX_ROWS` rows of usage, sorted by the columns in `query.by`.

    Raises `TooManyCalls` if the query is for a value of a header that has many calls and no sums.
    """
    since, until = _range(query)
    selection = Selection(span=Span(since / 1000, until / 1000), header=query.header)
    with with_sums(connection, selection) as (source, selected):
        statement, values = select(replace(query, header=selected.header))
        return [_row_of(query, row) for row in source.execute(statement, values)]


def select(query: UsageQuery) -> tuple[str, list[Any]]:
    """Return the SQL statement of a query, and the values for its placeholders.

    If the query has a term of a header, the term must have sums (`few_calls.py`).
    If a query groups neither by hour nor by day, rows are first grouped by series (`sums.Series`), because grouping by
    integers is faster than by texts. Names in the SQL are constants of this package. Text from clients is only among
    the values.
    """
    columns = [_COLUMNS[name] for name in query.by]
    conditions, values = _conditions(query)
    only = f"AND series IN (SELECT n FROM series WHERE {' AND '.join(conditions)})" if conditions else ""  # noqa: S608 (our own names)
    if query.header is not None:
        only, values = f"AND term = {NUMBER} {only}", [query.header, *values]
    of_everybody = query.identity is None and query.agent is None and not {"user", "agent"}.intersection(query.by)
    what = ", ".join(f"coalesce(sum({_SUMMED.get(name, name)}), 0)" for name in _SUMS)
    parts, bounds = [], []
    for level, since, until in _levels(query):
        table = f"{PREFIX if query.header is not None else ''}{'everybody' if of_everybody else 'figures'}_{level}"
        grouped = (f"series, {_GROUPED}", "GROUP BY series") if "time" not in columns else ("*", "")
        parts.append(f"SELECT {grouped[0]} FROM {table} WHERE time >= ? AND time < ? {only} {grouped[1]}")  # noqa: S608 (our own names)
        bounds += [since, until, *values]
    group = f"GROUP BY {', '.join(columns)} ORDER BY {', '.join(columns)}" if columns else ""
    return (
        f"SELECT {', '.join([*columns, what])} FROM ({' UNION ALL '.join(parts)}) f CROSS JOIN series ON n = series "  # noqa: S608 (our own names)
        f"{group} LIMIT {MAX_ROWS}"
    ), bounds


def _levels(query: UsageQuery) -> Iterator[tuple[str, int, int]]:
    """Yield the tables of sums to read: the unit of time in a table's name, and a range in Unix milliseconds.

    A query that groups by hour or by day reads one table. Any other query reads the table of months for the whole
    months within its range, and the table of days for the rest.
    """
    since, until = _range(query)
    if "hour" in query.by or "day" in query.by:
        yield "hour" if "hour" in query.by else "day", since, until
        return
    months = UNITS["month"]
    begin, end = months.following(since - 1), months.start(until)
    if begin >= end:
        yield "day", since, until
        return
    yield "day", since, begin
    yield "month", begin, end
    yield "day", end, until


def _range(query: UsageQuery) -> tuple[int, int]:
    """Return the range of time in Unix milliseconds."""
    since = 0 if query.since is None else round(query.since * 1000)
    return since, _END if query.until is None else round(query.until * 1000)


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
    """Return the usage in a row that the statement of `select` returned."""
    group = {
        name: _time(name, value) if name in _FORMATS else str(value) for name, value in zip(query.by, row, strict=False)
    }
    sums = dict(zip(_SUMS, row[len(query.by) :], strict=True))
    usage = Usage(**{name: sums.pop(name) for name in USAGE_KINDS})
    return UsageRow(group=group, usage=usage, **sums)


@lru_cache(4096)
def _time(name: str, value: int) -> str:
    return datetime.fromtimestamp(value / 1000, UTC).strftime(_FORMATS[name])
