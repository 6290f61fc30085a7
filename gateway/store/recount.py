"""Corrects the counts of tool uses and of errors, and the health of models, from the stored calls.

There is a count for each quarter hour and each series: all calls with the same caller, provider, model and so on
(`sums.Series`). A count is wrong if the stored calls yield a higher count. A count that is higher than this is right,
because counts outlive their calls. `repair.py` corrects the other sums.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

from gateway.store.calls import CALL_COLUMNS, record_of
from gateway.store.figures_writing import series_numbers, update_health, write_errors
from gateway.store.sql import Connection
from gateway.store.sums import Group, Health, Series, Sums, sum_calls
from gateway.store.units import DAY, QUARTER

Missing = dict[int, set[Series]]
"""Maps the start of a quarter hour, as Unix time in milliseconds, to the series whose counts for this quarter hour are
too low."""

_HAS_ERROR: Final = "outcome <> 'ok' AND error <> ''"
_TEXTS: Final = ("tools_quarter", "errors_quarter JOIN error_kinds e ON e.n = kind")
_COUNTS: Final = {
    "figures_quarter": ("count(*)", "1 = 1"),
    "tools_quarter": ("sum(iif(json_valid(tools), json_array_length(tools), 0))", "tools <> '[]'"),
    "errors_quarter JOIN error_kinds e ON e.n = kind": ("count(*)", _HAS_ERROR),
}
"""Two SQL expressions for each table of counts. The first computes the correct count from rows of the table `calls`.
The second is the condition that selects these rows.
"""
_MISSING: Final = """
SELECT counted.* FROM (
    SELECT at - at % {quarter} AS time, identity, provider, CASE WHEN provider = '' THEN '' ELSE model END AS model,
        agent, api, status, outcome, {number} AS calls
    FROM calls WHERE {condition} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
) counted LEFT JOIN series s ON {same}
WHERE counted.calls > coalesce((SELECT sum(calls) FROM {table} WHERE time = counted.time AND series = s.n), 0)
"""
_LACKING_DAYS: Final = f"""
SELECT counted.time, counted.series, counted.tool, counted.calls FROM (
    SELECT time - time % {DAY} AS time, series, tool, sum(calls) AS calls FROM tools_quarter GROUP BY 1, 2, 3
) counted LEFT JOIN tools_day kept ON
    kept.time = counted.time AND kept.series = counted.series AND kept.tool = counted.tool
WHERE kept.calls IS NULL OR kept.calls < counted.calls
"""  # noqa: S608 (our own names)
_COMPLETE_DAYS: Final = f"""
INSERT INTO tools_day (time, series, tool, calls) {_LACKING_DAYS}
ON CONFLICT (time, series, tool) DO UPDATE SET calls = excluded.calls
"""
_ROWS: Final = f"SELECT at, n, {', '.join(CALL_COLUMNS)} FROM calls WHERE at >= ? AND at < ? AND ({{condition}})"  # noqa: S608
_LAST: Final = """
SELECT provider, model, outcome, at, error, error_message, id FROM (
    SELECT provider, model, outcome, at, error, error_message, id,
        row_number() OVER (PARTITION BY provider, model, outcome ORDER BY at DESC, n DESC) AS place
    FROM calls WHERE provider <> '' AND outcome IN ('ok', 'failed')
) c WHERE place = 1
"""


def missing_texts(connection: Connection) -> int:
    """Return how many stored counts of errors and of tool uses are too low: fewer than the stored calls have.

    Counts are stored for each series and quarter hour. Tool uses are also counted for each series, tool and day. A
    series is all calls with the same caller, provider, model and so on (`sums.Series`).
    """
    days = connection.execute(f"SELECT count(*) FROM ({_LACKING_DAYS}) l").fetchone()[0]  # noqa: S608 (our own query)
    return int(days) + sum(len(series) for table in _TEXTS for series in missing(connection, table).values())


def recount_texts(connection: Connection) -> None:
    """Correct the counts of tool uses and of errors that are too low (`missing_texts`), and the last success and the
    last error of each model.

    All of them are computed from the stored calls.
    """
    connection.execute("DELETE FROM errors_quarter WHERE kind NOT IN (SELECT n FROM error_kinds)")
    tools, errors = (missing(connection, table) for table in _TEXTS)
    numbers = series_numbers(connection, dict.fromkeys(chain(*tools.values(), *errors.values())))
    for time in sorted(tools.keys() | errors.keys()):
        sums = sums_of_quarter(connection, time, f"tools <> '[]' OR ({_HAS_ERROR})")
        _replace_tools(connection, sums, _groups(tools, time), numbers)
        _replace_errors(connection, sums, _groups(errors, time), numbers)
    connection.execute(_COMPLETE_DAYS)
    _complete_health(connection)


def missing(connection: Connection, table: str) -> Missing:
    """Return the series for which the table `table` counts too little in a quarter hour: less than the stored calls
    have.

    The table `figures_quarter` counts calls, `tools_quarter` uses of tools, and `errors_quarter` errors.
    """
    number, condition = _COUNTS[table]
    same = " AND ".join(f"s.{name} = counted.{name}" for name in Series._fields)
    query = _MISSING.format(quarter=QUARTER, number=number, condition=condition, same=same, table=table)
    missing = defaultdict[int, set[Series]](set)
    for time, *series, _ in connection.execute(query):
        missing[time].add(Series(*series))
    return missing


def _groups(missing: Missing, time: int) -> set[Group]:
    return {Group(time, series) for series in missing.get(time, ())}


def sums_of_quarter(connection: Connection, time: int, condition: str = "1 = 1") -> Sums:
    """Return sums over the stored calls of one quarter hour. Only calls that meet the SQL condition `condition` are
    summed.

    `time` is the start of the quarter hour, as Unix time in milliseconds.
    """
    return sum_calls(_readable(connection.execute(_ROWS.format(condition=condition), (time, time + QUARTER))))


def _readable(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows that can be read as calls. The columns of a yielded row are `CALL_COLUMNS`."""
    for row in rows:
        try:
            record_of(row)
        except (ValueError, TypeError):
            continue
        yield row[2:]


def _replace_tools(connection: Connection, sums: Sums, groups: set[Group], numbers: dict[Series, int]) -> None:
    keys = [(group.time, numbers[group.series]) for group in groups]
    connection.executemany("DELETE FROM tools_quarter WHERE time = ? AND series = ?", keys)
    rows = [
        (group.time, numbers[group.series], tool, calls)
        for (group, tool), calls in sums.tools.items()
        if group in groups
    ]
    connection.executemany("INSERT INTO tools_quarter (time, series, tool, calls) VALUES (?, ?, ?, ?)", rows)


def _replace_errors(connection: Connection, sums: Sums, groups: set[Group], numbers: dict[Series, int]) -> None:
    keys = [(group.time, numbers[group.series]) for group in groups]
    connection.executemany("DELETE FROM errors_quarter WHERE time = ? AND series = ?", keys)
    errors = {key: calls for key, calls in sums.errors.items() if key[0] in groups}
    kinds = {kind: sums.kinds[kind] for _, kind in errors}
    write_errors(connection, errors, kinds, numbers)


def _complete_health(connection: Connection) -> None:
    health: dict[tuple[str, str], Health] = {}
    for provider, model, outcome, at, error, message, call in connection.execute(_LAST):
        one = health.setdefault((provider, model), Health())
        if outcome == "ok":
            one.success_at = at
        else:
            one.error_at, one.error, one.message, one.call = at, error, message, call
    update_health(connection, health)
