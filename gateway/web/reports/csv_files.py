"""Tables as CSV files (RFC 4180), safe to open in a spreadsheet.

Cells may have text chosen by clients. If a spreadsheet would interpret a cell as a formula, the cell gets an apostrophe
in front (OWASP, CSV injection).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.contract.record import NANODOLLARS

# the last four are the full-width forms of the first four; some spreadsheets treat both forms alike
_FORMULA: Final = frozenset({"=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"})

_PLAIN_CELL: Final = f'(?:[^{re.escape("".join(_FORMULA))}",][^",\r\n]*)?'
_PLAIN: Final = re.compile(f"{_PLAIN_CELL}(?:,{_PLAIN_CELL})*")
"""Pattern for a line of cells with commas between them. It does not match if a cell needs quotes, or if a spreadsheet
could interpret a cell as a formula.
"""

Cell = str | int | float | None


LINE_END: Final = "\r\n"


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> bytes:
    """Return a table as CSV: a header line, then a line for each row. The value None becomes an empty cell."""
    return csv_lines((columns, *rows))


def csv_lines(rows: Iterable[Sequence[Cell]]) -> bytes:
    """Return the lines of CSV for some rows."""
    out = io.StringIO()
    writer = csv.writer(out)
    # most texts are safe, and calling a function for each would take a third of the time
    writer.writerows(
        [safe_text(cell) if cell.__class__ is str and cell[:1] in _FORMULA else cell for cell in row] for row in rows
    )
    return out.getvalue().encode("utf-8", "replace")


def texts_as_csv(*texts: str) -> str:
    """Return `texts` as cells of a CSV line, with commas between them and without a line end.

    If no text needs quotes, which is usual, the texts are only joined. This is faster than a CSV writer.
    """
    cells = ",".join(texts)
    if cells.count(",") == len(texts) - 1 and _PLAIN.fullmatch(cells):
        return cells
    return csv_lines([texts]).decode().removesuffix(LINE_END)


def safe_text(text: str) -> str:
    """Return a text that no spreadsheet interprets as a formula."""
    return f"'{text}" if text[:1] in _FORMULA else text


def decimal(cost: int | None) -> str:
    """Return nanodollars as exact decimal dollars, or "" if the cost is unknown."""
    if cost is None:
        return ""
    sign, amount = ("-", -cost) if cost < 0 else ("", cost)
    return f"{sign}{amount // NANODOLLARS}.{amount % NANODOLLARS:09d}"
