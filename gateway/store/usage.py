"""Queries of usage by hour or day in the SQLite store, and conversion of their rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from gateway.contract.flag import USAGE_KINDS, Usage
from gateway.store.base import MAX_ROWS, UsageQuery, UsageRow
from gateway.store.sums import SUMS

_COLUMNS: Final[Mapping[str, str]] = {
    "user": "identity",
    "provider": "provider",
    "model": "model",
    "agent": "agent",
    "day": "time",
    "hour": "time",
}
_SUMS: Final = (*SUMS, "duration_ms")
_SUMMED: Final = {"failed": "iif(outcome = 'ok', 0, calls)"}
"""SQL of the sums for which the tables `figures_*` have no column."""
_FORMATS: Final[Mapping[str, str]] = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00Z"}


def select(query: UsageQuery) -> tuple[str, list[Any]]:
    """Return the SQL statement of a query, and the values for its placeholders.

    Names in the SQL are constants of this package. Text from clients is only among the values.
    """
    columns = [_COLUMNS[name] for name in query.by]
    table = "figures_hour" if "hour" in query.by else "figures_day"
    conditions, values = _conditions(query)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    summed = ", ".join(f"coalesce(sum({_SUMMED.get(name, name)}), 0)" for name in _SUMS)
    group = f"GROUP BY {', '.join(columns)} ORDER BY {', '.join(columns)}" if columns else ""
    what = ", ".join([*columns, summed])
    return f"SELECT {what} FROM {table} JOIN series ON n = series {where} {group} LIMIT {MAX_ROWS}", values  # noqa: S608 (our own names)


def _conditions(query: UsageQuery) -> tuple[list[str], list[Any]]:
    bounds = [
        ("time >= ?", None if query.since is None else round(query.since * 1000)),
        ("time < ?", None if query.until is None else round(query.until * 1000)),
        ("identity = ?", query.identity),
        ("provider = ?", query.provider),
        ("model = ?", query.model),
        ("agent = ?", query.agent),
    ]
    wanted = [(condition, value) for condition, value in bounds if value is not None]
    return [condition for condition, _ in wanted], [value for _, value in wanted]


def row_of(query: UsageQuery, row: tuple[Any, ...]) -> UsageRow:
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
