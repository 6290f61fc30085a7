"""The store in one SQLite file: a thread that writes, and a connection in another thread that reads.

With the write-ahead log neither waits for the other. SQL is in `rows.py`, `writing.py`, `usage.py` and `schema.py`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.contract.record import Record
from gateway.store import rows, usage
from gateway.store.base import (
    ALL_ROWS,
    Ambiguous,
    Filters,
    JournalOffset,
    Page,
    Session,
    StoreFailed,
    UsageQuery,
    UsageRow,
)
from gateway.store.calls import CALL_COLUMNS, record_of
from gateway.store.entries import Balance, Entry
from gateway.store.file import connect, prepare
from gateway.store.writing import expire, write

T = TypeVar("T")

_NAMED: Final = 10
"""How many callers an ambiguous id is shown with."""


class SqliteStore:
    """A `Store` in the file `path`, which is made with its folder. Raises `StoreFailed` if that cannot be."""

    def __init__(self, path: Path) -> None:
        prepare(path)
        self._path = path
        self._writing = _Thread(path, "store-writer")
        self._reading = _Thread(path, "store-reader")
        with closing(connect(path)) as connection:
            self._begun = JournalOffset(*connection.execute("SELECT segment, offset FROM place").fetchone())

    @property
    def begun(self) -> JournalOffset:
        return self._begun

    async def write(self, entries: Sequence[Entry], place: JournalOffset) -> None:
        await self._writing.run(partial(write, entries=entries, place=place))

    async def sessions(
        self, identity: str | None, limit: int, cursor: str | None = None, where: Filters = ALL_ROWS
    ) -> Page[Session]:
        equal = {"identity": identity, **{name: where[name] for name in rows.SESSION_FILTERS if name in where}}
        conditions, values = _conditions(equal, cursor, "(last_at, n) < (?, ?)")
        for name in rows.MODEL_FILTERS:
            if name in where:
                conditions.append(rows.has_model(name))
                values.append(where[name])
        return await self._page(rows.session_of, rows.select_sessions(*conditions), values, limit)

    async def session(self, identity: str | None, session_id: str) -> Session | None:
        conditions, values = _conditions({"id": session_id, "identity": identity})
        found = await self._read(rows.select_sessions(*conditions), [*values, _NAMED])
        if len(found) > 1:
            raise Ambiguous(session_id, tuple(rows.session_of(row).identity for row in found))
        return rows.session_of(found[0]) if found else None

    async def calls(
        self,
        identity: str | None,
        session_id: str | None,
        limit: int,
        cursor: str | None = None,
        where: Filters = ALL_ROWS,
    ) -> Page[Record]:
        known = {name: where[name] for name in CALL_COLUMNS if name in where}
        equal = {"session_id": session_id, "identity": identity, **known}
        conditions, values = _conditions(equal, cursor, "(at, n) < (?, ?)")
        return await self._page(record_of, rows.select_calls(*conditions), values, limit)

    async def call(self, identity: str | None, call_id: str) -> Record | None:
        conditions, values = _conditions({"id": call_id, "identity": identity})
        found = await self._read(rows.select_calls(*conditions), [*values, 1])
        return record_of(found[0]) if found else None

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        statement, values = usage.select(query)
        return await self._reading.run(
            # made in that thread: ten thousand rows take a tenth of a second
            lambda connection: [usage.row_of(query, row) for row in connection.execute(statement, values)]
        )

    async def balances(self) -> Sequence[Balance]:
        return [Balance(*row) for row in await self._read("SELECT bucket, amount, remainder, at FROM balances", [])]

    async def expire(self, before: float, limit: int) -> int:
        return await self._writing.run(partial(expire, before=before, limit=limit))

    async def close(self) -> None:
        await self._writing.close()
        await self._reading.close()

    async def _page(self, of: Callable[[tuple[Any, ...]], T], query: str, values: list[Any], limit: int) -> Page[T]:
        """One row more than asked for tells whether there is a next page."""
        found = await self._read(query, [*values, limit + 1])
        shown = found[:limit]
        return Page(tuple(of(row) for row in shown), rows.cursor_of(shown[-1]) if len(found) > limit else None)

    async def _read(self, query: str, values: list[Any]) -> list[tuple[Any, ...]]:
        return await self._reading.run(lambda connection: connection.execute(query, values).fetchall())


class _Thread:
    """A connection and the one thread that it belongs to."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the connection. Raises `StoreFailed` for what SQLite refuses."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._see_that_it_is_there()
            if self._connection is None:
                self._connection = connect(self._path)
            return work(self._connection)
        except sqlite3.Error as error:
            # a fresh connection finds a file that was replaced or repaired
            self._close()
            raise StoreFailed(f"{self._path}: {error}") from error

    def _see_that_it_is_there(self) -> None:
        """A file that somebody has removed would be written to for ever; where it is another one, that one counts."""
        try:
            now = self._path.stat().st_ino
        except OSError:
            self._close()
            prepare(self._path)
            now = self._path.stat().st_ino
        if now != self._inode:
            self._close()
            self._inode = now

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._close)
        self._threads.shutdown()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _conditions(
    equal: Mapping[str, str | int | None], cursor: str | None = None, behind: str = ""
) -> tuple[list[str], list[Any]]:
    """Conditions of a query and their values; a column that is None in `equal` may be anything."""
    wanted = {column: value for column, value in equal.items() if value is not None}
    conditions = [f"{column} = ?" for column in wanted]
    values: list[Any] = list(wanted.values())
    if cursor is not None:
        conditions.append(behind)
        values.extend(rows.parse_cursor(cursor))
    return conditions, values
