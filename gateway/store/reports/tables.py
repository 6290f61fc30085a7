"""Queries of tables: a row of sums for each value of a dimension, with the time of its last call.

All functions run in the thread of a connection. Text from clients is never part of a statement, only a bound value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise

import orjson

from gateway.store.reports.pieces import Range, parts_within
from gateway.store.reports.sums import (
    COLUMNS,
    SUMMED,
    SUMMED_AMOUNTS,
    Amounts,
    added,
    amounts_of,
    conditions,
    grouped,
    source_of,
    tables_for,
)
from gateway.store.reports.values import Dimension, Row, Selection
from gateway.store.sql import Connection


def table_rows(connection: Connection, selection: Selection, by: Dimension, *, latencies: bool) -> tuple[Row, ...]:
    """Return one row of sums for each value of a dimension, such as each model.

    If `latencies` is false, the rows have empty latencies, which halves the time of the query.
    """
    sums: dict[str, list[Sequence[int]]] = {}
    for _, name, *row in grouped(
        connection, selection, [selection.span], SUMMED if latencies else SUMMED_AMOUNTS, COLUMNS[by]
    ):
        sums.setdefault(str(name), []).append(row)
    amounts = {name: amounts_of(added(rows)) for name, rows in sums.items()}
    called = {name: each for name, each in amounts.items() if each.figures.calls > 0}
    last = _quarters(connection, selection, COLUMNS[by], called.keys())
    return tuple(_row(name, called[name], at / 1000) for name, at in last.items())


def _quarters(connection: Connection, selection: Selection, by: str, names: AbstractSet[str]) -> Mapping[str, int]:
    """Return, for each name in the column `by`, the start of the quarter hour of its last call, as Unix time in
    milliseconds.

    Names without calls are left out. For each name, the last month with a call is found first, then the last day of
    this month with a call, and so on down to the quarter hour.
    """
    where, values = conditions(selection)
    known = connection.execute(f"SELECT s.n, {by} FROM series s WHERE {where}", values)  # noqa: S608 (our own names)
    named = {number: str(name) for number, name in known if str(name) in names}
    tables = tables_for(selection, by)
    parts = [(part, table) for table, each in parts_within([selection.span], tables).items() for part in each]
    found: dict[str, int] = {}
    levels: dict[str, str] = {}
    for part, table in sorted(parts, key=lambda item: item[0].since, reverse=True):
        missing = names - found.keys()
        last = _last_units(connection, selection, table, (part.since, part.until), named, missing)
        found |= last
        levels |= dict.fromkeys(last, table)
    for (table, unit), (finer, _) in pairwise(tables.items()):
        units = defaultdict[int, set[str]](set)
        for name in (name for name, level in levels.items() if level == table):
            units[found[name]].add(name)
        for at, within in units.items():
            found |= _last_units(connection, selection, finer, (at, unit.following(at)), named, within)
            levels |= dict.fromkeys(within, finer)
    return found


def _last_units(
    connection: Connection,
    selection: Selection,
    table: str,
    bounds: Range,
    named: Mapping[int, str],
    names: AbstractSet[str],
) -> dict[str, int]:
    """Return, for each name, the start of the last unit of time (such as a day) in which the name has a call.

    Only rows of `table` within `bounds` are searched, the newest first. `named` has the name of each series.
    """
    if not names:
        return {}
    statement = (
        f"SELECT f.time, json_group_array(f.series) FROM {source_of(connection, selection, table)} f "  # noqa: S608 (our own)
        "WHERE f.time >= ? AND f.time < ? GROUP BY f.time ORDER BY f.time DESC"
    )
    found: dict[str, int] = {}
    for at, series in connection.execute(statement, bounds):
        here = {named[number] for number in named.keys() & orjson.loads(series)}
        found |= dict.fromkeys((here & names) - found.keys(), at)
        if len(found) == len(names):
            break
    return found


def _row(name: str, amounts: Amounts, last_at: float) -> Row:
    return Row(
        name=name,
        figures=amounts.figures,
        duration=amounts.duration,
        first_event=amounts.first_event,
        last_at=last_at,
    )
