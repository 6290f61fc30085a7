"""The migration of the SQLite store that replaces sums over periods of 32 days by sums over calendar months."""

from __future__ import annotations

from typing import Final

from gateway.store.sql import bounded_sum

_FIGURES: Final = (
    "calls", "input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning", "known_cost",
    "cost_unknown_calls", "estimated_calls", "cache_saved", "duration_ms",
    *(f"d{pair}" for pair in range(9)), *(f"f{pair}" for pair in range(9)),
)  # fmt: skip
"""The columns of sums in the release that introduced this migration."""
_KEYS: Final = {
    "figures": ("time", "series"),
    "everybody": ("time", "series"),
    "header_figures": ("term", "time", "series"),
    "header_everybody": ("term", "time", "series"),
}
"""Maps the name of a table, without its unit of time, to the columns of its primary key. For example, `figures` stands
for `figures_month`."""
_REFERENCES: Final = {"time": "", "series": " REFERENCES series (n)", "term": " REFERENCES header_terms (n)"}
_MONTH: Final = "CAST(strftime('%s', time / 1000, 'unixepoch', 'start of month') AS INTEGER) * 1000"


def _replace(name: str, key: tuple[str, ...]) -> tuple[str, str, str]:
    """Return the statements that create a table of sums by month, fill it from the daily sums, and drop the table of
    sums by periods of 32 days.
    """
    columns = ", ".join(
        [*(f"{column} INTEGER NOT NULL{_REFERENCES[column]}" for column in key)]
        + [f"{column} INTEGER NOT NULL" for column in _FIGURES]
    )
    kept = ", ".join(_MONTH if column == "time" else column for column in key)
    summed = ", ".join(bounded_sum(column) for column in _FIGURES)
    groups = ", ".join(str(position) for position in range(1, len(key) + 1))
    return (
        f"CREATE TABLE {name}_month ({columns}, PRIMARY KEY ({', '.join(key)})) WITHOUT ROWID",
        f"INSERT INTO {name}_month SELECT {kept}, {summed} FROM {name}_day GROUP BY {groups}",  # noqa: S608 (our own)
        f"DROP TABLE {name}_period",
    )


SUMS_OF_MONTHS: Final = tuple(statement for name, key in _KEYS.items() for statement in _replace(name, key))
