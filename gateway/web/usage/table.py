"""Usage as a table for a terminal: the rows of the API's answer in aligned columns, with totals.

Clients choose names, so unprintable characters, such as a terminal's control characters, are shown as "?". An unknown
cost is shown as "unknown", with the number of calls without a known cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

CACHE_WRITE: Final = ("cache_write_5m", "cache_write_1h")
_NUMBERS: Final = ("calls", "failed", "input", "output", "cache read", "cache write", "cost")
_LEAST: Final = Decimal("0.0001")
"""Smallest amount in dollars that can be shown with four decimal places."""

Row = Mapping[str, Any]
Line = tuple[str, ...]


def table(document: Mapping[str, Any]) -> str:
    """Return the table of a decoded answer of /api/usage, without a newline at the end.

    Money in the answer is a `Decimal`.
    """
    rows: Sequence[Row] = document["usage"]
    by: Sequence[str] = document["by"]
    if not any(row["calls"] for row in rows):
        return "no calls"
    lines: list[Line] = [(*by, *_NUMBERS), *(_line(row, by) for row in rows)]
    if len(rows) > 1:
        total = _total(rows)
        lines.append((*("total", *[""] * len(by))[: len(by)], *_cells(total)))
    text = _align(lines, len(by))
    if document.get("truncated"):
        text += f"\nonly the first {len(rows):,} rows are shown; ask for fewer days or groups"
    return text


def _line(row: Row, by: Sequence[str]) -> Line:
    return (*(_printable(row[name]) or "-" for name in by), *_cells(row))


def _cells(row: Row) -> Line:
    tokens = row["tokens"]
    counts = (
        row["calls"],
        row["failed"],
        tokens["input"],
        tokens["output"],
        tokens["cache_read"],
        sum(tokens[kind] for kind in CACHE_WRITE),
    )
    return (*(f"{count:,}" for count in counts), _cost(row["cost_usd"], row["cost_unknown_calls"]))


def _cost(dollars: Decimal | None, unknown: int) -> str:
    unknown_calls = f"unknown ({unknown:,} {'call' if unknown == 1 else 'calls'})"
    if dollars is None:
        return unknown_calls
    known = f"<${_LEAST}" if 0 < dollars < _LEAST else f"${dollars:,.4f}"
    return f"{known} + {unknown_calls}" if unknown else known


def _total(rows: Sequence[Row]) -> Row:
    known = [row["cost_usd"] for row in rows if row["cost_usd"] is not None]
    return {
        "calls": sum(row["calls"] for row in rows),
        "failed": sum(row["failed"] for row in rows),
        "tokens": {kind: sum(row["tokens"][kind] for row in rows) for kind in rows[0]["tokens"]},
        "cost_usd": sum(known, Decimal(0)) if known else None,
        "cost_unknown_calls": sum(row["cost_unknown_calls"] for row in rows),
    }


def _align(lines: Sequence[Line], texts: int) -> str:
    """Return the lines with aligned columns. The first `texts` columns are aligned left, and the others right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at < texts else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
