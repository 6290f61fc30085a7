"""Tables as CSV files (RFC 4180), safe to open in a spreadsheet.

Cells may have text chosen by clients. If a spreadsheet would interpret a cell as a formula, the cell gets an apostrophe
in front (OWASP, CSV injection).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.contract.record import NANODOLLARS

# the last four are the full-width forms of the first four; some spreadsheets treat both forms alike
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

Cell = str | int | float | None


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> bytes:
    """Return a table as CSV: a header line, then a line for each row. The value None becomes an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([safe_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return out.getvalue().encode("utf-8", "replace")


def safe_text(text: str) -> str:
    """Return a text that no spreadsheet interprets as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def decimal(cost: int | None) -> str:
    """Return nanodollars as exact decimal dollars, or "" if the cost is unknown."""
    if cost is None:
        return ""
    sign, amount = ("-", -cost) if cost < 0 else ("", cost)
    return f"{sign}{amount // NANODOLLARS}.{amount % NANODOLLARS:09d}"
