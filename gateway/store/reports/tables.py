"""Queries of tables: a row of sums for each value of a dimension, with the time of its last call.

All functions run in the thread of a connection. Text from clients is never part of a statement, only a bound value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Final

from gateway.store.reports.pieces import Piece, Range, parts_within
from gateway.store.reports.sums import (
    COLUMNS,
    SUMMED,
    SUMMED_AMOUNTS,
    Amounts,
    added,
    amounts_of,
    conditions,
    grouped,
    lists_of,
    tables_for,
)
from gateway.store.reports.values import Dimension, Row, Selection
from gateway.store.sql import Connection
from gateway.store.units import Unit

_RANGES: Final = 500
"""Maximum number of ranges of time that one statement searches, because databases limit the number of bound values."""


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
    """Return the start of the quarter hour of the last call for each of `names`, as Unix time in milliseconds.

    The names are values of the column `by`. Names without calls are left out. The search goes from longer to shorter
    units of time: it finds the last month with a call, then the last day of this month with a call, and so on.
    """
    where, values = conditions(selection)
    known = connection.execute(f"SELECT s.n, {by} FROM series s WHERE {where}", values)  # noqa: S608 (our own names)
    named = {number: name for number, name in ((number, str(name)) for number, name in known) if name in names}
    tables = tables_for(selection, by)
    parts = [(part, table) for table, each in parts_within([selection.span], tables).items() for part in each]
    found: dict[str, int] = {}
    levels: dict[str, str] = {}
    for part, table in sorted(parts, key=lambda item: item[0].since, reverse=True):
        units = _units(part.since, part.until, tables[table])
        last = _last_units(connection, selection, table, units, named, names - found.keys())
        found |= last
        levels |= dict.fromkeys(last, table)
    for (table, unit), (finer, _) in pairwise(tables.items()):
        within = {name for name, level in levels.items() if level == table}
        starts = sorted({found[name] for name in within}, reverse=True)
        longer = [(at, unit.following(at)) for at in starts]
        found |= _last_units(connection, selection, finer, longer, named, within)
        levels |= dict.fromkeys(within, finer)
    return found


def _units(since: int, until: int, unit: Unit) -> list[Range]:
    """Return the units of time (such as days) from `since` to `until` as ranges, the newest first.

    `since` and `until` are the beginnings of units, as Unix times in milliseconds.
    """
    bounds = [since]
    while bounds[-1] < until:
        bounds.append(unit.following(bounds[-1]))
    return [*pairwise(bounds)][::-1]


def _last_units(
    connection: Connection,
    selection: Selection,
    table: str,
    ranges: Sequence[Range],
    named: Mapping[int, str],
    names: AbstractSet[str],
) -> dict[str, int]:
    """Return the time of the last row in `table` for each of `names`, such as the start of the last day with a call.
    Names without a row are left out.

    A name is a value of a dimension, such as a model. Only rows within `ranges` are searched. `ranges` must be sorted,
    the newest first. `named` maps the row numbers of series to names.
    """
    wanted = {number: name for number, name in named.items() if name in names}
    if not wanted:
        return {}
    what = "json_array(json_group_array(f.series), json_group_array(f.time))"
    found: dict[str, int] = {}
    for start in range(0, len(ranges), _RANGES):
        pieces = [Piece(0, *bounds) for bounds in ranges[start : start + _RANGES]]
        for _, lists in lists_of(connection, selection, table, pieces, what):
            # PostgreSQL returns null for a list without items
            for number, at in zip(*(each or () for each in lists), strict=True):
                name = wanted.get(number)
                if name is not None and at > found.get(name, -1):
                    found[name] = at
            if len(found) == len(names):
                return found
    return found


def _row(name: str, amounts: Amounts, last_at: float) -> Row:
    return Row(
        name=name,
        figures=amounts.figures,
        duration=amounts.duration,
        first_event=amounts.first_event,
        last_at=last_at,
    )
