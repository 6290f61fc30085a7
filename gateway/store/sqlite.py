"""The store in one SQLite file: a thread that writes (`writer.py`), and a connection in another thread that reads.

With the write-ahead log neither waits for the other. SQL is in `rows.py` and `schema.py`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.log import Logger
from gateway.record import Record
from gateway.store import rows
from gateway.store.base import Ambiguous, Page, Session, StoreFailed
from gateway.store.file import connect, prepare
from gateway.store.writer import Writer

T = TypeVar("T")

MAX_PENDING: Final = 100_000
"""Records kept in memory while the file cannot be written: about 100 MB, or minutes of a busy gateway."""
CLOSE_SECONDS: Final = 5.0
"""How long a flush or a shutdown waits for a file that refuses."""
_NAMED: Final = 10
"""How many callers an ambiguous id is shown with."""


class SqliteStore:
    """A `Store` in the file `path`, which is made with its folder. Raises `StoreFailed` if that cannot be."""

    def __init__(
        self, path: Path, log: Logger, *, max_pending: int = MAX_PENDING, close_seconds: float = CLOSE_SECONDS
    ) -> None:
        prepare(path)
        self._path = path
        self._close_seconds = close_seconds
        self._writer = Writer(path, log, max_pending)
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._reading: sqlite3.Connection | None = None
        self.put = self._writer.put

    async def sessions(self, identity: str | None, limit: int, cursor: str | None = None) -> Page[Session]:
        conditions, values = _conditions({"identity": identity}, cursor, "(last_at, n) < (?, ?)")
        return await self._page(rows.session_of, rows.select_sessions(*conditions), values, limit)

    async def session(self, identity: str | None, session_id: str) -> Session | None:
        conditions, values = _conditions({"id": session_id, "identity": identity})
        found = await self._read(rows.select_sessions(*conditions), [*values, _NAMED])
        if len(found) > 1:
            raise Ambiguous(session_id, tuple(rows.session_of(row).identity for row in found))
        return rows.session_of(found[0]) if found else None

    async def calls(
        self, identity: str | None, session_id: str | None, limit: int, cursor: str | None = None
    ) -> Page[Record]:
        equal = {"session_id": session_id, "identity": identity}
        conditions, values = _conditions(equal, cursor, "(at, n) < (?, ?)")
        return await self._page(rows.record_of, rows.select_calls(*conditions), values, limit)

    async def flush(self) -> None:
        if not await asyncio.to_thread(self._writer.wait, self._close_seconds):
            raise StoreFailed(f"{self._path}: {self._writer.pending} records could not be written yet")

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.close, self._close_seconds)
        await asyncio.get_running_loop().run_in_executor(self._readers, self._close_reading)
        self._readers.shutdown()

    async def _page(self, of: Callable[[tuple[Any, ...]], T], query: str, values: list[Any], limit: int) -> Page[T]:
        """One row more than asked for tells whether there is a next page."""
        found = await self._read(query, [*values, limit + 1])
        shown = found[:limit]
        return Page(tuple(of(row) for row in shown), rows.cursor_of(shown[-1]) if len(found) > limit else None)

    async def _read(self, query: str, values: list[Any]) -> list[tuple[Any, ...]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, partial(self._select, query, values))

    def _select(self, query: str, values: list[Any]) -> list[tuple[Any, ...]]:
        """In the reader's thread, to which its connection belongs."""
        try:
            if self._reading is None:
                self._reading = connect(self._path)
            return self._reading.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreFailed(f"{self._path}: {error}") from error

    def _close_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None


def _conditions(
    equal: dict[str, str | None], cursor: str | None = None, behind: str = ""
) -> tuple[list[str], list[Any]]:
    """Conditions of a query and their values; a column that is None in `equal` may be anything."""
    wanted = {column: value for column, value in equal.items() if value is not None}
    conditions = [f"{column} = ?" for column in wanted]
    values: list[Any] = list(wanted.values())
    if cursor is not None:
        conditions.append(behind)
        values.extend(rows.parse_cursor(cursor))
    return conditions, values
