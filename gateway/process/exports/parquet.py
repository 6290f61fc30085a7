"""Parquet as the format of an export: a flat table with a row for each call, for DuckDB, Athena, Spark and others.

- The columns have the names of a record's fields. Only the columns of tokens (`input_tokens`, ...) and money
  (`cost_usd`, ...) have other names.
- Money is an exact decimal number of dollars.
- Lists of objects (`parts`, `tried`) and objects (`direct`) are JSON.
- pyarrow is imported at the first use, because only this format needs it (the extra `parquet`).

Columns are never renamed. New releases add columns at the end.
"""

from __future__ import annotations

import importlib
from decimal import Decimal
from typing import Any, Final

import orjson

from gateway.contract.flag import USAGE_KINDS
from gateway.contract.record import Record
from gateway.store.captured import CapturedBodies

_AT_ONCE: Final = 100
"""Number of rows that are converted at once. The conversion holds the GIL, which the event loop needs too."""
_ROW_BYTES: Final = 1500
"""Estimate of the memory of a row, in bytes."""
_NANODOLLAR: Final = Decimal(1).scaleb(-9)
_TEXTS: Final = (
    "identity", "node", "provider", "model", "served_model", "api", "upstream_api", "operation", "outcome", "error",
    "error_native", "error_message", "upstream_request_id", "cost_basis", "tier", "geo", "stop", "key", "agent",
)  # fmt: skip
_FLAGS: Final = ("stream", "reported", "estimated", "auto_cached")


class ParquetEncoder:
    """An encoder of a Parquet file, compressed with zstd."""

    def __init__(self) -> None:
        self.size = 0
        self._arrow: Any = importlib.import_module("pyarrow")
        self._schema = _schema(self._arrow)
        self._rows: list[dict[str, Any]] = []
        self._batches: list[Any] = []

    def add(self, _number: int, record: Record, _bodies: CapturedBodies | None) -> None:
        self.size += _ROW_BYTES
        self._rows.append(_row(record))
        if len(self._rows) >= _AT_ONCE:
            self._convert()

    def finish(self) -> bytes:
        self._convert()
        table = self._arrow.Table.from_batches(self._batches, self._schema)
        output = self._arrow.BufferOutputStream()
        # written by threads of pyarrow, without Python's lock
        importlib.import_module("pyarrow.parquet").write_table(table, output, compression="zstd")
        content: bytes = output.getvalue().to_pybytes()
        return content

    def _convert(self) -> None:
        self._batches.append(self._arrow.RecordBatch.from_pylist(self._rows, self._schema))
        self._rows = []


def _schema(arrow: Any) -> Any:
    text, whole, number = arrow.string(), arrow.int64(), arrow.float64()
    money, names = arrow.decimal128(18, 9), arrow.list_(arrow.string())
    return arrow.schema([
        ("id", text),
        ("session_id", text),
        ("at", arrow.timestamp("ms", tz="UTC")),
        *((name, text) for name in _TEXTS),
        *((name, arrow.bool_()) for name in _FLAGS),
        ("status", whole),
        ("attempts", whole),
        *((f"{kind}_tokens", whole) for kind in USAGE_KINDS),
        ("cost_usd", money),
        ("cache_saved_usd", money),
        ("duration_ms", number),
        ("first_event_ms", number),
        ("tools", names),
        ("dropped", names),
        ("extra", arrow.map_(text, whole)),
        ("charges_usd", arrow.map_(text, money)),
        ("headers", arrow.map_(text, text)),
        ("parts", text),
        ("tried", text),
        ("direct", text),
    ])  # fmt: skip


def _row(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "session_id": record.session_id,
        "at": round(record.at * 1000),
        **{name: getattr(record, name) for name in (*_TEXTS, *_FLAGS, "status", "attempts")},
        **{f"{kind}_tokens": getattr(record.usage, kind) for kind in USAGE_KINDS},
        "cost_usd": _dollars(record.cost),
        "cache_saved_usd": _dollars(record.cache_saved),
        "duration_ms": record.duration_ms,
        "first_event_ms": record.first_event_ms,
        "tools": list(record.tools),
        "dropped": list(record.dropped),
        "extra": list(record.extra.items()),
        "charges_usd": [(bucket, _dollars(amount)) for bucket, amount in record.charges.items()],
        "headers": list(record.headers.items()),
        "parts": orjson.dumps([part.as_dict() for part in record.parts]).decode(),
        "tried": orjson.dumps([attempt.as_dict() for attempt in record.tried]).decode(),
        "direct": None if record.direct is None else orjson.dumps(record.direct.as_dict()).decode(),
    }


def _dollars(nanodollars: int | None) -> Decimal | None:
    return None if nanodollars is None else nanodollars * _NANODOLLAR
