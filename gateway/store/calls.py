"""A call as a row of the SQLite store, there and back.

Times are integer milliseconds, money integer nanodollars; texts are bounded already (`entries.py`). What is summed of
rows is in `sums.py`, how they are found in `rows.py`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import orjson

from gateway.contract.flag import USAGE_KINDS, Usage
from gateway.contract.record import Record
from gateway.store.entries import MAX_INTEGER

_BEFORE_USAGE: Final = (
    "id", "session_id", "at", "identity", "node", "provider", "model", "api", "upstream_api", "operation", "stream",
    "status", "outcome", "error", "error_native", "error_message",
    "upstream_request_id",
)  # fmt: skip
_AFTER_USAGE: Final = (
    "extra", "tier", "reported", "cost", "cost_basis", "estimated", "charges", "stop", "tools", "duration_ms",
    "first_event_ms", "attempts", "dropped", "agent",
)  # fmt: skip
CALL_COLUMNS: Final = (*_BEFORE_USAGE, *USAGE_KINDS, *_AFTER_USAGE)

_BOOLS: Final = frozenset({"stream", "reported", "estimated"})
_LISTS: Final = frozenset({"tools", "dropped"})
_OBJECTS: Final = frozenset({"extra", "charges"})
assert set(Record.__struct_fields__) - {"usage"} == {*_BEFORE_USAGE, *_AFTER_USAGE}

INSERT_CALL: Final = " ".join([
    "INSERT INTO calls (", ", ".join(CALL_COLUMNS), ") VALUES (", ", ".join("?" for _ in CALL_COLUMNS), ")",
    "ON CONFLICT (id) DO NOTHING",
])  # fmt: skip


def call_row(record: Record) -> tuple[Any, ...]:
    """The values of `CALL_COLUMNS`, one by one: a busy gateway writes tens of thousands of them in a second.

    Truths are given as 0 and 1: for what is no plain number or text, sqlite3 first looks for an adapter.
    """
    usage = record.usage
    return (
        record.id,
        record.session_id,
        round(record.at * 1000),
        record.identity,
        record.node,
        record.provider,
        record.model,
        record.api,
        record.upstream_api,
        record.operation,
        +record.stream,
        record.status,
        record.outcome,
        record.error,
        record.error_native,
        record.error_message,
        record.upstream_request_id,
        *_counts(
            usage.input,
            usage.output,
            usage.cache_read,
            usage.cache_write_5m,
            usage.cache_write_1h,
            usage.reasoning,
        ),
        _json(record.extra) if record.extra else "{}",
        record.tier,
        +record.reported,
        None if record.cost is None else max(0, min(record.cost, MAX_INTEGER)),
        record.cost_basis,
        +record.estimated,
        _json(record.charges) if record.charges else "{}",
        record.stop,
        _listed(record.tools),
        record.duration_ms,
        record.first_event_ms,
        record.attempts,
        _listed(record.dropped),
        record.agent,
    )


def _counts(*counts: int) -> tuple[int, ...]:
    """As SQLite can hold them, and as sums can; nearly always just what was given."""
    if min(counts) >= 0 and max(counts) <= MAX_INTEGER:
        return counts
    return tuple(max(0, min(count, MAX_INTEGER)) for count in counts)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


_listed: Final = lru_cache(4096)(_json)
"""Of a call's tools, or of its dropped fields: calls of one client have the same ones."""


def record_of(row: tuple[Any, ...]) -> Record:
    """A row of `rows.select_calls` as the record that it came from."""
    cells = dict(zip(CALL_COLUMNS, row[2:], strict=True))
    usage = Usage(**{name: cells.pop(name) for name in USAGE_KINDS})
    cells["at"] /= 1000
    for name in _BOOLS:
        cells[name] = bool(cells[name])
    for name in _LISTS:
        cells[name] = tuple(orjson.loads(cells[name]))
    for name in _OBJECTS:
        cells[name] = orjson.loads(cells[name])
    return Record(usage=usage, **cells)
