"""The interface of a database connection that the SQLite and the PostgreSQL store share, and SQL that both databases
accept.

- Statements are written once, for SQLite and for PostgreSQL. Placeholders are question marks.
- In `ON CONFLICT ... DO UPDATE`, the name of a stored row's column is qualified by its table, as PostgreSQL requires.
- `postgres/dialect.py` replaces the few words that PostgreSQL does not accept.

This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")

_LARGEST: Final = 2**63 - 1
_LOWER: Final = 2**32 - 1
"""Bit mask of the lower 32 bits of a 64-bit integer."""


class Rows(Protocol):
    """The rows that a statement returned. Each row is a tuple."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows that were not fetched yet."""

    def fetchone(self) -> Any:
        """Return the next row, or None if there is none."""

    def fetchall(self) -> list[Any]:
        """Return the rows that were not fetched yet."""


class Connection(Protocol):
    """A connection to a database, used by one thread. The class `sqlite3.Connection` conforms to this protocol."""

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Rows:
        """Run a statement, with a value for each of its placeholders."""

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> object:
        """Run a statement once for each row of values."""


class Thread(Protocol):
    """A thread with a connection that no other thread uses."""

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run a function with the connection as its argument, in the thread. Raises `StoreFailed` if that fails."""

    async def close(self) -> None:
        """Close the connection, and end the thread."""


def larger(one: str, other: str) -> str:
    """Return SQL for the larger of two values, which are given as SQL and are not null."""
    return f"CASE WHEN {one} >= {other} THEN {one} ELSE {other} END"


def smaller(one: str, other: str) -> str:
    """Return SQL for the smaller of two values, which are given as SQL and are not null."""
    return f"CASE WHEN {one} <= {other} THEN {one} ELSE {other} END"


def bounded_sum(column: str) -> str:
    """Return SQL for the sum of a column of integers in SQLite, limited to the range of a column.

    `sum(column)` raises an error beyond this range. So the upper and the lower 32 bits of the integers are summed
    separately, which is exact for up to two thousand million rows.
    """
    lower = f"sum({column} & {_LOWER})"
    upper = f"(sum({column} >> 32) + ({lower} >> 32))"
    return (
        f"CASE WHEN {upper} >= {2**31} THEN {_LARGEST} WHEN {upper} < {-(2**31)} THEN {-_LARGEST} "
        f"ELSE ({upper} << 32) | ({lower} & {_LOWER}) END"
    )


def rows_of_values(count: int, *types: str) -> str:
    """Return SQL for `count` rows of placeholders in a `VALUES` list. `types` are the types of the columns.

    PostgreSQL takes the types of the columns from the first row. So the first row casts its placeholders to these
    types.
    """
    first = f"({', '.join(f'CAST(? AS {name})' for name in types)})"
    return ", ".join([first, *[f"({', '.join('?' for _ in types)})"] * (count - 1)])
