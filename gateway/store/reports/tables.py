"""Queries of tables: a row of sums for each value of a dimension, with the time of its last call.

All functions run in the thread of a connection. Text from clients is never part of a statement, only a bound value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from gateway.store.reports.pieces import parts_within
from gateway.store.reports.sums import (
    COLUMNS,
    SUMMED,
    SUMMED_AMOUNTS,
    Amounts,
    added,
    amounts_of,
    grouped,
    grouped_in_table,
    grouped_within,
    tables_for,
)
from gateway.store.reports.values import Dimension, Row, Selection, Span
from gateway.store.sql import Connection


def table_rows(connection: Connection, selection: Selection, by: Dimension, *, latencies: bool) -> tuple[Row, ...]:
    """Return one row of sums for each value of a dimension, such as each model.

    If `latencies` is false, the rows have empty latencies. Reading the latencies would take half of the time.
    """
    sums: dict[str, list[Sequence[int]]] = {}
    for _, name, *row in grouped(
        connection, selection, [selection.span], SUMMED if latencies else SUMMED_AMOUNTS, COLUMNS[by]
    ):
        sums.setdefault(str(name), []).append(row)
    amounts = {name: amounts_of(added(rows)) for name, rows in sums.items()}
    called = {name: each for name, each in amounts.items() if each.figures.calls > 0}
    last = _quarters(connection, selection, COLUMNS[by], called)
    return tuple(_row(name, called[name], at / 1000) for name, at in last.items())


def _quarters(connection: Connection, selection: Selection, by: str, names: Collection[str]) -> Mapping[str, int]:
    """Return the start of the quarter hour of each name's last call, as Unix time in milliseconds.

    The result has no name without calls. First, the last unit of time with a call, such as a month, is found for each
    name. The calls of this unit are searched in the table with the next shorter unit.
    """
    tables = tables_for(selection, by)
    found: dict[str, int] = {}
    levels: dict[str, str] = {}
    for table, at, name in _last_units(connection, selection, by, names):
        found[name], levels[name] = at, table
    for (table, unit), (finer, finer_unit) in pairwise(tables.items()):
        here = [name for name, level in levels.items() if level == table]
        within = {at: Span(at / 1000, unit.following(at) / 1000) for at in sorted({found[name] for name in here})}
        later = {
            (at, str(name)): newest
            for at, span in within.items()
            for _, name, newest in grouped_within(connection, selection, [span], "max(f.time)", by, {finer: finer_unit})
        }
        for name in here:
            found[name], levels[name] = later[found[name], name], finer
    return found


def _last_units(
    connection: Connection, selection: Selection, by: str, names: Collection[str]
) -> Iterator[tuple[str, int, str]]:
    """Yield a table, the start of its last unit of time with a call of a name, and the name, for each of the names."""
    missing = set(names)
    parts = [
        (part, table)
        for table, each in parts_within([selection.span], tables_for(selection, by)).items()
        for part in each
    ]
    for part, table in sorted(parts, key=lambda item: item[0].since, reverse=True):
        if not missing:
            return
        for _, name, at in grouped_in_table(connection, selection, table, [part], "max(f.time)", by):
            if str(name) in missing:
                missing.remove(str(name))
                yield table, at, str(name)


def _row(name: str, amounts: Amounts, last_at: float) -> Row:
    return Row(
        name=name,
        figures=amounts.figures,
        duration=amounts.duration,
        first_event=amounts.first_event,
        last_at=last_at,
    )
