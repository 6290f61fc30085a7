"""The positions of exports in a store, and the calls that an export reads, in the order of their insertion.

An export copies each call exactly once to files or to objects in S3. Both are called objects here.

- A call gets its number `n` when it is inserted. A call that is inserted late gets a high number, so an export does not
  miss it.
- Before an object is written, its name and the number of its last call are stored. This is the plan of the object.
  After a crash, the same calls are written to an object of the same name.
- When the object is complete, the position of the export moves to the last call of the object.
- Two processes may run the same export. Only one of their plans is stored, and both then write the same object.

SQLite may use the numbers of deleted calls again. `forget_numbers` ensures that calls with such numbers are exported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from gateway.contract.record import Record
from gateway.store.calls import CALL_COLUMNS, record_of
from gateway.store.sql import Connection, Thread

T = TypeVar("T")

ROWS_AT_ONCE: Final = 50
"""Number of calls that are read in one step. Converting them takes a few milliseconds of a thread."""

CREATE_TABLE: Final = (
    "CREATE TABLE exports (name {text} PRIMARY KEY, position {integer}, until {integer}, object {text})"
)
"""Statement that creates the table of positions. `{text}` and `{integer}` are replaced by the names of column types in
SQLite or PostgreSQL.
"""
_POSITION: Final = "SELECT position, until, object FROM exports WHERE name = ?"
_PLAN: Final = """
INSERT INTO exports (name, position, until, object) VALUES (?, 0, ?, ?)
ON CONFLICT (name) DO UPDATE SET until = excluded.until, object = excluded.object
WHERE exports.position = ? AND exports.object = ''
"""
_DONE: Final = "UPDATE exports SET position = until, object = '' WHERE name = ? AND object = ?"
_NEWEST: Final = "SELECT coalesce(max(n), 0) FROM calls"
_CALLS: Final = f"SELECT at, n, {', '.join(CALL_COLUMNS)} FROM calls WHERE n > ? AND n <= ? ORDER BY n LIMIT ?"  # noqa: S608 (our own names)
_OF_TIME: Final = f"""
SELECT at, n, {", ".join(CALL_COLUMNS)} FROM calls WHERE (at, n) > (?, ?) AND at < ? ORDER BY at, n LIMIT ?
"""  # noqa: S608 (our own names)
_FORGET: Final = """
UPDATE exports SET position = CASE WHEN position > ? THEN ? ELSE position END,
    until = CASE WHEN until > ? THEN ? ELSE until END
WHERE position > ? OR until > ?
"""


class Position(NamedTuple):
    """The progress of an export, and the object that it writes next."""

    n: int = 0
    """The number of the last call that is in a complete object."""
    until: int = 0
    """The number of the last call of the newest planned object. The object is planned before it is written, so it may
    be complete, incomplete or missing."""
    object: str = ""
    """The name of the planned object, which may be incomplete or missing. It is "" if no object is planned."""


NOWHERE: Final = Position()
"""The position of an export that has not begun."""

Numbered = tuple[int, Record]
"""The number of a call, and its record."""


class ExportStore:
    """Reads and writes the positions of exports in a store. Each method raises `StoreFailed` if the store cannot be
    reached.
    """

    def __init__(self, reading: Thread, writing: Thread) -> None:
        self._reading = reading
        self._writing = writing

    async def position(self, name: str) -> Position:
        """Return the position of an export. `name` names the destination and the format."""
        return await self._writing.run(partial(_position, name=name))

    async def plan(self, name: str, before: int, until: int, object_name: str) -> Position:
        """Store the plan of the next object: its name `object_name`, and its calls, whose numbers are above `before`
        and at most `until`.

        Return the position of the export, which has the plan. If another process has stored a plan first, the position
        has that plan instead.
        """

        def store(connection: Connection) -> Position:
            connection.execute(_PLAN, (name, until, object_name, before))
            return _position(connection, name)

        return await self._writing.run(store)

    async def complete(self, name: str, object_name: str) -> None:
        """Record that an object is completely written: move the position of the export to the last call of the object.

        Nothing changes if the stored plan is for another object than `object_name`.
        """
        await self._writing.run(lambda connection: connection.execute(_DONE, (name, object_name)).fetchall())

    async def newest(self) -> int:
        """Return the number of the newest call, or 0 if there is no call."""
        return await self._reading.run(lambda connection: int(connection.execute(_NEWEST).fetchone()[0]))

    async def read(self, after: int, until: int, limit: int, use: Callable[[Iterator[Numbered]], T]) -> T:
        """Call `use` with the calls whose numbers are above `after` and at most `until`, and return its result. If
        there are more than `limit` of these calls, `use` gets the first ones.

        `use` is called in the thread that reads.
        """
        return await self._reading.run(lambda connection: use(_calls(connection, after, until, limit)))

    async def read_time(self, since: int, until: int, use: Callable[[Iterator[Numbered]], T]) -> T:
        """Call `use` with the calls that began in a range of Unix times in milliseconds, and return its result.

        `use` is called in the thread that reads.
        """
        return await self._reading.run(lambda connection: use(_calls_of_time(connection, since, until)))

    async def close(self) -> None:
        await self._reading.close()


def forget_numbers(connection: Connection, newest: int) -> None:
    """Lower the position of each export to `newest`, the number of the newest call, if the position is greater.

    The position is greater if the newest calls were deleted. SQLite then gives their numbers to new calls. Without this
    function, an export would take such calls for exported ones.
    """
    connection.execute(_FORGET, (newest,) * 6)


def _position(connection: Connection, name: str) -> Position:
    row = connection.execute(_POSITION, (name,)).fetchone()
    return NOWHERE if row is None else Position(*row)


def _calls(connection: Connection, after: int, until: int, limit: int) -> Iterator[Numbered]:
    while limit > 0:
        some = connection.execute(_CALLS, (after, until, min(limit, ROWS_AT_ONCE))).fetchall()
        yield from _numbered(some)
        if len(some) < min(limit, ROWS_AT_ONCE):
            return
        after, limit = some[-1][1], limit - len(some)


def _calls_of_time(connection: Connection, since: int, until: int) -> Iterator[Numbered]:
    after = (since - 1, 2**62)
    while some := connection.execute(_OF_TIME, (*after, until, ROWS_AT_ONCE)).fetchall():
        yield from _numbered(some)
        after = some[-1][:2]


def _numbered(rows: list[Any]) -> Iterator[Numbered]:
    for row in rows:
        yield row[1], record_of(row)
