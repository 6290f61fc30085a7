"""Recounts the uses of tools, the errors, and the health of models, from the stored calls.

There is a count for each quarter hour and each series: all calls with the same caller, provider, model and so on
(`sums.Series`). A count that is lower than the number of stored calls is wrong. A higher count is right, because counts
outlive their calls. `repair.py` recounts the other sums.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

from gateway.store.calls import CALL_COLUMNS, record_of
from gateway.store.figures_writing import series_numbers, update_health, write_errors
from gateway.store.sums import Group, Health, Series, Sums, sum_calls
from gateway.store.units import DAY, QUARTER

Missing = dict[int, set[Series]]
"""Series whose counts are too low, for each quarter hour. The key is the start of the quarter hour, as Unix time in
milliseconds."""

_HAS_ERROR: Final = "outcome <> 'ok' AND error <> ''"
_COUNTS: Final = {
    "tools_quarter": ("sum(iif(json_valid(tools), json_array_length(tools), 0))", "tools <> '[]'"),
    "errors_quarter JOIN error_kinds e ON e.n = kind": ("count(*)", _HAS_ERROR),
}
"""Two SQL expressions for each table of counts. The first computes the correct count from rows of the table `calls`.
The second is the condition that selects these rows.
"""
_MISSING: Final = """
SELECT counted.* FROM (
    SELECT at - at % {quarter} AS time, identity, provider, iif(provider = '', '', model) AS model, agent, api, status,
        outcome, {number} AS calls FROM calls WHERE {condition} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
) counted LEFT JOIN series s ON {same}
WHERE counted.calls > coalesce((SELECT sum(calls) FROM {table} WHERE time = counted.time AND series = s.n), 0)
"""
_COMPLETE_DAYS: Final = f"""
INSERT OR REPLACE INTO tools_day SELECT counted.* FROM (
    SELECT time - time % {DAY} AS time, series, tool, sum(calls) AS calls FROM tools_quarter GROUP BY 1, 2, 3
) counted LEFT JOIN tools_day kept USING (time, series, tool) WHERE kept.calls IS NULL OR kept.calls < counted.calls
"""  # noqa: S608 (our own names)
_ROWS: Final = f"""
SELECT at, n, {", ".join(CALL_COLUMNS)} FROM calls WHERE at >= ? AND at < ? AND (tools <> '[]' OR ({_HAS_ERROR}))
"""  # noqa: S608 (our own names)
# SQLite takes the columns beside max() from the row with the maximum
_LAST: Final = """
SELECT provider, model, outcome, max(at), error, error_message, id FROM calls
WHERE provider <> '' AND outcome IN ('ok', 'failed') GROUP BY 1, 2, 3
"""


def missing_texts(connection: sqlite3.Connection) -> int:
    """Return the number of sums that do not count all errors, or all uses of tools, of the stored calls.

    A sum is for one series and one quarter hour.
    """
    return sum(len(series) for table in _COUNTS for series in _missing(connection, table).values())


def recount_texts(connection: sqlite3.Connection) -> None:
    """Correct the numbers of tool uses and the numbers of errors that are too low (`missing_texts`).

    They are computed anew from the stored calls. The health of models is updated too.
    """
    connection.execute("DELETE FROM errors_quarter WHERE kind NOT IN (SELECT n FROM error_kinds)")
    tools, errors = (_missing(connection, table) for table in _COUNTS)
    numbers = series_numbers(connection, dict.fromkeys(chain(*tools.values(), *errors.values())))
    for time in sorted(tools.keys() | errors.keys()):
        sums = sum_calls(_readable(connection.execute(_ROWS, (time, time + QUARTER))))
        _replace_tools(connection, sums, _groups(tools, time), numbers)
        _replace_errors(connection, sums, _groups(errors, time), numbers)
    connection.execute(_COMPLETE_DAYS)
    _complete_health(connection)


def _missing(connection: sqlite3.Connection, table: str) -> Missing:
    number, condition = _COUNTS[table]
    same = " AND ".join(f"s.{name} = counted.{name}" for name in Series._fields)
    query = _MISSING.format(quarter=QUARTER, number=number, condition=condition, same=same, table=table)
    missing = defaultdict[int, set[Series]](set)
    for time, *series, _ in connection.execute(query):
        missing[time].add(Series(*series))
    return missing


def _groups(missing: Missing, time: int) -> set[Group]:
    return {Group(time, series) for series in missing.get(time, ())}


def _readable(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows from which a call can be read. The columns of a yielded row are `CALL_COLUMNS`."""
    for row in rows:
        try:
            record_of(row)
        except (ValueError, TypeError):
            continue
        yield row[2:]


def _replace_tools(connection: sqlite3.Connection, sums: Sums, groups: set[Group], numbers: dict[Series, int]) -> None:
    keys = [(group.time, numbers[group.series]) for group in groups]
    connection.executemany("DELETE FROM tools_quarter WHERE time = ? AND series = ?", keys)
    rows = [
        (group.time, numbers[group.series], tool, calls)
        for (group, tool), calls in sums.tools.items()
        if group in groups
    ]
    connection.executemany("INSERT INTO tools_quarter (time, series, tool, calls) VALUES (?, ?, ?, ?)", rows)


def _replace_errors(connection: sqlite3.Connection, sums: Sums, groups: set[Group], numbers: dict[Series, int]) -> None:
    keys = [(group.time, numbers[group.series]) for group in groups]
    connection.executemany("DELETE FROM errors_quarter WHERE time = ? AND series = ?", keys)
    errors = {key: calls for key, calls in sums.errors.items() if key[0] in groups}
    kinds = {kind: sums.kinds[kind] for _, kind in errors}
    write_errors(connection, errors, kinds, numbers)


def _complete_health(connection: sqlite3.Connection) -> None:
    health: dict[tuple[str, str], Health] = {}
    for provider, model, outcome, at, error, message, call in connection.execute(_LAST):
        one = health.setdefault((provider, model), Health())
        if outcome == "ok":
            one.success_at = at
        else:
            one.error_at, one.error, one.message, one.call = at, error, message, call
    update_health(connection, health)
