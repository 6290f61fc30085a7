"""Conversion between the record of a call and a row of a store.

Times are integer milliseconds, and money is integer nanodollars. Texts were already cut to a maximum length in
`entries.py`. Sums over rows are in `sums.py`, queries in `rows.py`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec
import orjson

from gateway.contract.flag import USAGE_KINDS, Part, Usage
from gateway.contract.record import Direct, Record, Tried
from gateway.store.entries import MAX_INTEGER

_BEFORE_USAGE: Final = (
    "id", "session_id", "at", "identity", "node", "provider", "model", "served_model", "api", "upstream_api",
    "operation", "stream", "status", "outcome", "error", "error_native", "error_message", "upstream_request_id",
)  # fmt: skip
_AFTER_USAGE: Final = (
    "extra", "tier", "geo", "parts", "reported", "cost", "cache_saved", "cost_basis", "estimated", "charges", "stop",
    "tools", "duration_ms", "first_event_ms", "attempts", "auto_cached", "dropped", "agent", "tried",
    "key", "headers", "direct",
)  # fmt: skip
CALL_COLUMNS: Final = (*_BEFORE_USAGE, *USAGE_KINDS, *_AFTER_USAGE)

_BOOLS: Final = frozenset({"stream", "reported", "estimated", "auto_cached"})
_LISTS: Final = frozenset({"tools", "dropped"})
_OBJECTS: Final = frozenset({"extra", "charges", "headers"})
_ENCODER: Final = msgspec.json.Encoder()
_PARTS_DECODER: Final = msgspec.json.Decoder(tuple[Part, ...])
_TRIED_DECODER: Final = msgspec.json.Decoder(tuple[Tried, ...])
_DIRECT_DECODER: Final = msgspec.json.Decoder(Direct)
assert set(Record.__struct_fields__) - {"usage"} == {*_BEFORE_USAGE, *_AFTER_USAGE}

# values are passed by position, which is faster than by name, and `sums.py` reads the same tuples by column
INSERT_CALL: Final = " ".join([
    "INSERT INTO calls (", ", ".join(CALL_COLUMNS), ") VALUES (", ", ".join("?" for _ in CALL_COLUMNS), ")",
    "ON CONFLICT (id) DO NOTHING",
])  # fmt: skip


def call_row(record: Record) -> tuple[Any, ...]:
    """Return the values of a call's row, in the order of `CALL_COLUMNS`.

    This is written for speed, because a busy gateway writes tens of thousands of rows in a second. The operator `+`
    converts booleans to 0 and 1. Otherwise sqlite3 would search for an adapter for each boolean, which takes time.
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
        record.served_model,
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
        *_clamp_counts(
            usage.input,
            usage.output,
            usage.cache_read,
            usage.cache_write_5m,
            usage.cache_write_1h,
            usage.reasoning,
        ),
        _json(record.extra) if record.extra else "{}",
        record.tier,
        record.geo,
        _ENCODER.encode(record.parts).decode() if record.parts else "[]",
        +record.reported,
        None if record.cost is None else max(0, min(record.cost, MAX_INTEGER)),
        None if record.cache_saved is None else max(-MAX_INTEGER, min(record.cache_saved, MAX_INTEGER)),
        record.cost_basis,
        +record.estimated,
        _json(record.charges) if record.charges else "{}",
        record.stop,
        _json_list(record.tools),
        record.duration_ms,
        record.first_event_ms,
        record.attempts,
        +record.auto_cached,
        _json_list(record.dropped),
        record.agent,
        _ENCODER.encode(record.tried).decode() if record.tried else "[]",
        record.key,
        _json(record.headers) if record.headers else "{}",
        _ENCODER.encode(record.direct).decode() if record.direct else "",
    )


def _clamp_counts(*counts: int) -> tuple[int, ...]:
    """Return counts limited to the range from 0 to `MAX_INTEGER`."""
    if min(counts) >= 0 and max(counts) <= MAX_INTEGER:
        return counts
    return tuple(max(0, min(count, MAX_INTEGER)) for count in counts)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


MAX_CACHED_NAMES: Final = 32
"""Maximum number of names in a list. The JSON of a longer list is not cached."""
MAX_CACHED: Final = 500
"""Maximum total length of the names in a list whose JSON is kept in the cache, in characters.

Clients choose the names of dropped fields. A cache of long lists could need hundreds of megabytes."""


def _json_list(names: tuple[str, ...]) -> str:
    """Return the JSON of a list of names: a call's tools or its dropped fields.

    Short lists are cached, because many calls of a client have the same lists.
    """
    if not names:
        return "[]"
    return (
        _cached_json(names) if sum(map(len, names)) <= MAX_CACHED and len(names) <= MAX_CACHED_NAMES else _json(names)
    )


_cached_json: Final = lru_cache(1024)(_json)


def record_of(row: tuple[Any, ...]) -> Record:
    """Return the record of a call from a row of the query `rows.select_calls`."""
    cells = dict(zip(CALL_COLUMNS, row[2:], strict=True))
    usage = Usage(**{name: cells.pop(name) for name in USAGE_KINDS})
    cells["at"] /= 1000
    for name in _BOOLS:
        cells[name] = bool(cells[name])
    for name in _LISTS:
        cells[name] = tuple(orjson.loads(cells[name]))
    for name in _OBJECTS:
        cells[name] = orjson.loads(cells[name])
    cells["parts"] = _PARTS_DECODER.decode(cells["parts"])
    cells["tried"] = _TRIED_DECODER.decode(cells["tried"])
    cells["direct"] = _DIRECT_DECODER.decode(cells["direct"]) if cells["direct"] else None
    return Record(usage=usage, **cells)
