"""The migration that adds sums over the calls with a recorded header.

For each table of sums, there is a second table of sums by header term: a header, or a header and its value
(`header_index.py`). Calls from before the migration are not in the second table.
"""

from __future__ import annotations

from typing import Final

_FIGURES: Final = (
    "calls", "input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning", "known_cost",
    "cost_unknown_calls", "estimated_calls", "cache_saved", "duration_ms",
    *(f"d{pair}" for pair in range(9)), *(f"f{pair}" for pair in range(9)),
)  # fmt: skip
"""The columns of sums in the release that introduced this migration."""


def _table(name: str, key: str, columns: tuple[str, ...]) -> str:
    """Return the SQL statement that creates a table of sums by header term.

    The primary key has the columns `term` and `time`, and then the columns that `key` defines in SQL.
    """
    names = ", ".join(part.split()[0] for part in key.split(", "))
    sums = ", ".join(f"{column} INTEGER NOT NULL" for column in columns)
    return f"""
    CREATE TABLE {name} (
        term INTEGER NOT NULL REFERENCES header_terms (n), time INTEGER NOT NULL, {key}, {sums},
        PRIMARY KEY (term, time, {names})
    ) WITHOUT ROWID
    """


_SERIES: Final = "series INTEGER NOT NULL REFERENCES series (n)"

SUMS_OF_HEADERS: Final = (
    "ALTER TABLE header_terms ADD COLUMN has_sums INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX header_terms_with_sums ON header_terms (term) WHERE has_sums = 1",
    *(
        _table(f"header_{kind}_{level}", _SERIES, _FIGURES)
        for kind in ("figures", "everybody")
        for level in ("quarter", "hour", "day", "period")
    ),
    _table("header_tools_quarter", f"{_SERIES}, tool TEXT NOT NULL", ("calls",)),
    _table("header_tools_day", f"{_SERIES}, tool TEXT NOT NULL", ("calls",)),
    _table("header_errors_quarter", f"{_SERIES}, kind INTEGER NOT NULL REFERENCES error_kinds (n)", ("calls",)),
)
