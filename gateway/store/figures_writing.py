"""Writes the sums over a batch of calls to a store: figures, uses of tools, errors, and the health of models.

Figures are sums over the calls of one series in one unit of time, such as a day. A series is all calls with the same
caller, provider, model, agent, API format, status and outcome (`sums.Series`). All functions run within a transaction
of the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from operator import add
from typing import Any, Final, TypeVar

from gateway.store.sql import Connection, larger, rows_of_values
from gateway.store.sums import FIGURES, ErrorKind, ErrorShare, Group, Health, Series, Sums
from gateway.store.units import DAY, QUARTER, UNITS, Unit

FIGURE_TABLES: Final[Mapping[str, Unit]] = {f"figures_{name}": unit for name, unit in UNITS.items()}
"""Tables of sums over calls, each with its unit of time, the longest unit first."""
EVERYBODY_TABLES: Final[Mapping[str, Unit]] = {f"everybody_{name}": unit for name, unit in UNITS.items()}
"""Tables of sums over all callers and agents, each with its unit of time, the longest unit first.

Their rows name no caller and no agent, so they have far fewer rows than `FIGURE_TABLES`. Most pages for admins read
these tables.
"""
AGENT_TABLES: Final[Mapping[str, Unit]] = {"agents_day": UNITS["day"]}
"""Tables of sums over all callers, each with its unit of time. Their rows name the agent, but no caller."""
MAX_SHAPES: Final = 200
"""Maximum number of message shapes for one error code of one provider. A shape is an error message without numbers and
quoted text (`sums.shape`).

Errors with further shapes are counted together under the shape ""."""
_LOOKUP_ROWS: Final = 512
"""Maximum number of series that one statement looks up, because SQLite limits the number of values. It must be a power
of two, because `_padded` rounds the number of series up to a power of two.
"""
_KEY: Final = ", ".join(Series._fields)
_TYPES: Final = tuple("BIGINT" if name == "status" else "TEXT" for name in Series._fields)
_INSERT_SERIES: Final = f"INSERT INTO series ({_KEY}) VALUES {rows_of_values(1, *_TYPES)} ON CONFLICT DO NOTHING"  # noqa: S608 (our own names)
_UPSERT_TOOL: Final = (
    "INSERT INTO {table} (time, series, tool, calls) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (time, series, tool) DO UPDATE SET calls = {table}.calls + excluded.calls"
)
_UPSERT_ERROR: Final = (
    "INSERT INTO errors_quarter (time, series, kind, calls) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (time, series, kind) DO UPDATE SET calls = errors_quarter.calls + excluded.calls"
)
_UPSERT_KIND: Final = """
INSERT INTO error_kinds (code, native, provider, shape, message, example, at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (code, native, provider, shape) DO UPDATE SET
    message = excluded.message, example = excluded.example, at = excluded.at
WHERE excluded.at >= error_kinds.at
"""
_LATER: Final = "CASE WHEN excluded.error_at >= health.error_at THEN excluded.{name} ELSE health.{name} END"
_UPSERT_HEALTH: Final = f"""
INSERT INTO health (provider, model, success_at, error_at, error, message, call) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (provider, model) DO UPDATE SET
    success_at = {larger("health.success_at", "excluded.success_at")},
    {", ".join(f"{name} = {_LATER.format(name=name)}" for name in ("error", "message", "call", "error_at"))}
"""  # noqa: S608 (our own names)


@cache
def upsert_figures(table: str, key: tuple[str, ...] = ("time", "series")) -> str:
    """Return the SQL statement that adds sums to a row of a table, or inserts the row. `key` has the columns of the
    table's key.
    """
    added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in FIGURES)
    marks = ", ".join("?" for _ in (*key, *FIGURES))
    return (
        f"INSERT INTO {table} ({', '.join((*key, *FIGURES))}) VALUES ({marks}) "  # noqa: S608 (our own names)
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {added}"
    )


def add_figures(connection: Connection, sums: Sums) -> None:
    """Add the sums of a batch to the tables of sums over calls, tools and errors, and update the health of models."""
    if not sums.figures:
        return
    series = dict.fromkeys(group.series for group in sums.figures)
    of_agents = {one: _of_agent(one) for one in series}
    of_all = {one: of_everybody(one) for one in series}
    numbers = series_numbers(connection, dict.fromkeys([*series, *of_agents.values(), *of_all.values()]))
    rows = {(time, numbers[one]): amounts for (time, one), amounts in sums.figures.items()}
    _add_to_tables(connection, FIGURE_TABLES, rows)
    for tables, wider in ((AGENT_TABLES, of_agents), (EVERYBODY_TABLES, of_all)):
        merged: Rows = {}
        for (time, one), amounts in sums.figures.items():
            add_amounts(merged, (time, numbers[wider[one]]), amounts)
        _add_to_tables(connection, tables, merged)
    _add_tools(connection, sums, numbers)
    if sums.errors:
        write_errors(connection, sums.errors, sums.kinds, numbers)
    update_health(connection, sums.health)


def _of_agent(series: Series) -> Series:
    """Return the series without its caller. It stands for all callers together."""
    return series._replace(identity="")


def of_everybody(series: Series) -> Series:
    """Return the series that stands for all callers and agents. Its other values are those of `series`."""
    return series._replace(identity="", agent="")


Rows = dict[tuple[int, int], Sequence[int]]
"""Sums by time and series. A key has the start of a unit of time, as Unix time in milliseconds, and the row number of a
series. A value has the sums in the order of the columns `FIGURES`."""


K = TypeVar("K")


def add_amounts(to: dict[K, Sequence[int]], key: K, amounts: Sequence[int]) -> None:
    """Add `amounts` to `to[key]`, item by item. A missing `to[key]` is set to `amounts`."""
    before = to.get(key)
    to[key] = amounts if before is None else [*map(add, before, amounts)]


def _add_to_tables(connection: Connection, tables: Mapping[str, Unit], quarters: Rows) -> None:
    """Add the sums over quarter hours to tables of sums by longer units of time.

    `tables` lists the table with the longest unit first. The rows for the shortest unit are computed from the quarter
    hours, and the rows for each longer unit from those for the next shorter one.
    """
    rows = quarters
    for table, unit in reversed([*tables.items()]):
        rows = _summed(rows, unit)
        connection.executemany(upsert_figures(table), [(*key, *amounts) for key, amounts in rows.items()])


def _summed(rows: Rows, unit: Unit) -> Rows:
    """Return the rows for a longer unit of time. The rows that begin in the same `unit` are added up."""
    starts = {time: unit.start(time) for time in {time for time, _ in rows}}
    if len(set(starts.values())) == len(starts):
        # most batches are within a quarter hour, and their rows have nothing to add
        return {(starts[time], series): amounts for (time, series), amounts in rows.items()}
    summed: Rows = {}
    for (time, series), amounts in rows.items():
        add_amounts(summed, (starts[time], series), amounts)
    return summed


def series_numbers(connection: Connection, wanted: Iterable[Series]) -> dict[Series, int]:
    """Return the row number of each series in the table `series`. New series are inserted."""
    missing = list(wanted)
    numbers = _look_up(connection, missing)
    if new := [series for series in missing if series not in numbers]:
        connection.executemany(_INSERT_SERIES, new)
        numbers |= _look_up(connection, new)
    return numbers


def _look_up(connection: Connection, series: Sequence[Series]) -> dict[Series, int]:
    numbers: dict[Series, int] = {}
    for start in range(0, len(series), _LOOKUP_ROWS):
        some = _padded(series[start : start + _LOOKUP_ROWS])
        equal = " AND ".join(f"s.{name} = w.{name}" for name in Series._fields)
        # a join in a fixed order uses the index
        statement = (
            f"WITH w ({_KEY}) AS (VALUES {rows_of_values(len(some), *_TYPES)}) "  # noqa: S608 (our own names)
            f"SELECT s.n, {', '.join(f's.{name}' for name in Series._fields)} FROM w CROSS JOIN series s ON {equal}"
        )
        values = [value for one in some for value in one]
        numbers |= {Series(*key): number for number, *key in connection.execute(statement, values)}
    return numbers


def _padded(series: Sequence[Series]) -> Sequence[Series]:
    """Return the series, with the last one repeated until their number is a power of two.

    With only these numbers of series, there are few different SQL statements. This saves memory, because a connection
    caches its statements, and a long one takes 30 KB.
    """
    size = 1 << (len(series) - 1).bit_length()
    return [*series, *[series[-1]] * (size - len(series))]


def _add_tools(connection: Connection, sums: Sums, numbers: Mapping[Series, int]) -> None:
    rows = [(group.time, numbers[group.series], tool, calls) for (group, tool), calls in sums.tools.items()]
    connection.executemany(_UPSERT_TOOL.format(table="tools_quarter"), rows)
    by_day = [(time - time % DAY, *rest) for time, *rest in rows]
    connection.executemany(_UPSERT_TOOL.format(table="tools_day"), by_day)


def write_errors(
    connection: Connection,
    errors: Mapping[tuple[Group, ErrorKind], int],
    kinds: Mapping[ErrorKind, ErrorShare],
    numbers: Mapping[Series, int],
) -> None:
    """Add the numbers of errors in a batch to the stored numbers of errors.

    `kinds` has the last error of each kind. `numbers` has the row number of each series.
    """
    stored = kind_numbers(connection, kinds)
    rows = [(group.time, numbers[group.series], stored[kind], calls) for (group, kind), calls in errors.items()]
    connection.executemany(_UPSERT_ERROR, rows)


def kind_numbers(connection: Connection, kinds: Mapping[ErrorKind, ErrorShare]) -> dict[ErrorKind, int]:
    """Return the row number of each kind of errors. For each kind, store the last message, and the id of the call with
    this message.
    """
    return {kind: _kind_number(connection, kind, share) for kind, share in kinds.items()}


def _kind_number(connection: Connection, kind: ErrorKind, share: ErrorShare) -> int:
    """Return the row number of a kind of errors. Store the last message of this kind, and the id of the call with this
    message.
    """
    number = "SELECT n FROM error_kinds WHERE code = ? AND native = ? AND provider = ? AND shape = ?"
    if connection.execute(number, kind).fetchone() is None:
        shapes = "SELECT count(*) FROM error_kinds WHERE code = ? AND native = ? AND provider = ?"
        if connection.execute(shapes, kind[:3]).fetchone()[0] >= MAX_SHAPES:
            kind = kind._replace(shape="")
    connection.execute(_UPSERT_KIND, (*kind, share.message, share.example, share.at))
    (row,) = connection.execute(number, kind)
    return int(row[0])


def update_health(connection: Connection, health: Mapping[tuple[str, str], Health]) -> None:
    """Store the last success and the last error of models, unless later ones are stored already."""
    rows: list[tuple[Any, ...]] = [
        (*key, one.success_at, one.error_at, one.error, one.message, one.call) for key, one in health.items()
    ]
    connection.executemany(_UPSERT_HEALTH, rows)


_OF_TEXTS: Final = ("tools_quarter", "tools_day", "errors_quarter")
"""Tables of sums that contain texts chosen by clients and providers, such as names of tools.

For each of them there is a table with the same sums by header term (`header_sums.py`)."""
_OF_A_TERM: Final = "term IN (SELECT n FROM header_terms WHERE has_sums = 1)"
"""SQL condition that is true for all rows of a table of sums by header term.

With this condition, SQLite searches the table by its primary key, whose first column is `term`. Without it, SQLite
would read the whole table."""


def expire_texts(connection: Connection, before: int) -> None:
    """Delete counts of errors and of tool uses from before the time `before`, in Unix milliseconds. They contain texts
    chosen by clients and providers.

    The store is locked meanwhile. So one run deletes at most the oldest day of each table of counts. If the last error
    of a model is from before `before`, its message is deleted too.
    """
    for table in _OF_TEXTS:
        # the calls of a row begin up to this long after its time
        span = DAY if table == "tools_day" else QUARTER
        (oldest,) = connection.execute(f"SELECT min(time) FROM {table}").fetchone()  # noqa: S608 (our own names)
        if oldest is not None and oldest <= before - span:
            until = min(before - span, oldest + DAY)
            connection.execute(f"DELETE FROM {table} WHERE time <= ?", (until,))  # noqa: S608 (our own names)
            connection.execute(f"DELETE FROM header_{table} WHERE {_OF_A_TERM} AND time <= ?", (until,))  # noqa: S608
    connection.execute(
        "DELETE FROM error_kinds WHERE at < ? AND NOT EXISTS (SELECT 1 FROM errors_quarter e WHERE e.kind = n)",
        (before,),
    )
    connection.execute("UPDATE health SET message = '', call = '' WHERE error_at < ? AND call <> ''", (before,))
