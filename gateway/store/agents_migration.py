"""The migration of the SQLite store that adds the table of daily sums by agent, and fills it from the daily sums by
caller and agent.
"""

from __future__ import annotations

from typing import Final

from gateway.store.sql import bounded_sum

_FIGURES: Final = (
    "calls", "input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning", "known_cost",
    "cost_unknown_calls", "estimated_calls", "cache_saved", "duration_ms",
    *(f"d{pair}" for pair in range(9)), *(f"f{pair}" for pair in range(9)),
)  # fmt: skip
"""The columns of sums in the release that introduced this migration."""
_KEY: Final = ("provider", "model", "agent", "api", "status", "outcome")
"""The columns that identify a series of calls by agent. The login of the caller is not one of them."""

SUMS_OF_AGENTS: Final = (
    f"""
    CREATE TABLE agents_day (
        time INTEGER NOT NULL, series INTEGER NOT NULL REFERENCES series (n),
        {", ".join(f"{name} INTEGER NOT NULL" for name in _FIGURES)},
        PRIMARY KEY (time, series)
    ) WITHOUT ROWID
    """,
    f"INSERT OR IGNORE INTO series (identity, {', '.join(_KEY)}) SELECT DISTINCT '', {', '.join(_KEY)} FROM series",  # noqa: S608 (our own names)
    f"""
    INSERT INTO agents_day SELECT f.time, a.n, {", ".join(bounded_sum(f"f.{name}") for name in _FIGURES)}
    FROM figures_day f JOIN series s ON s.n = f.series
    JOIN series a ON a.identity = '' AND {" AND ".join(f"a.{name} = s.{name}" for name in _KEY)}
    GROUP BY 1, 2
    """,  # noqa: S608 (our own names)
)
