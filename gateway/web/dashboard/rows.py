"""Tables of calls, tokens and cost by person, model or client: rows, sortable column heads, and CSV cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.contract.record import dollars
from gateway.store.reports.values import Dimension, Row
from gateway.web.dashboard import figures
from gateway.web.dashboard.visit import Visit

SORTS: Final = ("cost", "calls", "errors", "tokens", "saved", "wasted", "cache_read", "last", "name")
"""Orders of a table: the values of the query parameter `sort`. The first is the default."""
COLUMNS: Final = (
    "calls", "errors", "cancelled", "input", "output", "cache_read", "cache_written", "cost_usd", "cost_unknown_calls",
    "saved_usd", "duration_p50_ms", "duration_p95_ms", "first_event_p95_ms",
)  # fmt: skip
"""Columns of a table's CSV file after the first column. The first column has the name of the row."""
_HEADS: Final = (
    ("name", "Name", ""),
    ("calls", "Calls", "number"),
    ("errors", "Errors", "number"),
    ("tokens", "Tokens", "number"),
    ("saved", "Cache saved", "number"),
    ("cost", "Cost", "number"),
    ("last", "Last call", ""),
)


class Head(NamedTuple):
    """The head of a column. It links to the table sorted by this column."""

    label: str
    css: str
    href: str
    current: bool
    ascending: bool


class TableRow(NamedTuple):
    """A row with its name as text, and the URL to which the name links."""

    name: str
    href: str
    row: Row


def head(seen: Visit, sort: str) -> list[Head]:
    return [Head(label, css, seen.href(sort=name), name == sort, name == "name") for name, label, css in _HEADS]


def table_rows(seen: Visit, by: Dimension, rows: Sequence[Row], path: str) -> list[TableRow]:
    """Return the rows of a table. Each row links to the page at `path`, filtered by the row's name."""
    return [
        TableRow(figures.label(by, row.name), f"{path}?{seen.filter.query(**{by: row.name})}" if row.name else "", row)
        for row in rows
    ]


def cells(row: Row) -> tuple[str | int | float | None, ...]:
    """Return the values of a row, in the order of `COLUMNS`."""
    sums = row.figures
    return (
        sums.calls, sums.errors, sums.cancelled, sums.usage.input, sums.usage.output, sums.usage.cache_read,
        sums.cache_written, dollars(sums.cost), sums.cost_unknown_calls, dollars(sums.cache_saved),
        row.duration.p50, row.duration.p95, row.first_event.p95,
    )  # fmt: skip
