"""Usage as JSON and as CSV, for the API and the command.

The CSV follows RFC 4180, with exact decimals for money. Cells may have text chosen by clients. If a spreadsheet would
interpret a cell as a formula, the cell gets an apostrophe in front (OWASP, CSV injection).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway.contract.flag import USAGE_KINDS
from gateway.store.base import MAX_ROWS, UsageRow
from gateway.web.reports.csv_files import decimal, safe_text
from gateway.web.usage.parameters import UsageRequest

SUMS: Final = (
    "calls", "failed", *USAGE_KINDS, "cost_usd", "cost_unknown_calls", "estimated_calls", "cache_saved_usd",
    "duration_ms",
)  # fmt: skip
"""Columns of the CSV file for the sums. They come after the columns by which the calls are grouped."""


def truncated(rows: Sequence[UsageRow]) -> bool:
    """Return whether the answer has the maximum number of rows. Further rows may then be missing."""
    return len(rows) >= MAX_ROWS


def as_json(wanted: UsageRequest, rows: Sequence[UsageRow]) -> bytes:
    """Return the answer in JSON. `from` and `to` are the first and last day or hour of the range. An open end of the
    range is null.
    """
    document: dict[str, Any] = {
        "usage": [row.as_dict() for row in rows],
        "next": None,
        "truncated": truncated(rows),
        "by": list(wanted.query.by),
        "from": wanted.first,
        "to": wanted.last,
    }
    return orjson.dumps(document)


def as_csv(wanted: UsageRequest, rows: Sequence[UsageRow]) -> bytes:
    """Return the answer in CSV: a header line, then a line for each row. An unknown cost is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow((*wanted.query.by, *SUMS))
    for row in rows:
        groups = [safe_text(row.group[name]) for name in wanted.query.by]
        tokens = row.usage.as_dict().values()
        saved = decimal(row.cache_saved)
        money = (decimal(row.cost), row.cost_unknown_calls, row.estimated_calls, saved, row.duration_ms)
        writer.writerow((*groups, row.calls, row.failed, *tokens, *money))
    return out.getvalue().encode()


def file_name(wanted: UsageRequest) -> str:
    """Return a name such as `irisgate-usage-2026-11-01-2026-11-23.csv`. No part of it is text chosen by a client."""
    parts = ["irisgate-usage", *(bound.replace(":", "") for bound in (wanted.first, wanted.last) if bound)]
    return "-".join(parts) + ".csv"
