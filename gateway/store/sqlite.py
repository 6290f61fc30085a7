"""The store in one SQLite file. Four threads use it, each with its own connection.

With SQLite's write-ahead log, no thread waits for another. The SQL that only SQLite needs is in `writing.py` and
`schema.py`. Other modules, such as `rows.py`, `usage.py` and `adding.py`, have SQL for both SQLite and PostgreSQL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from gateway.store.base import JournalOffset, StoreFailed
from gateway.store.entries import Entry
from gateway.store.exports import ExportStore
from gateway.store.file import REPAIR, connect, prepare, remedy
from gateway.store.sql_reader import SqlReader
from gateway.store.sqlite_thread import READER_CACHE_KB, REPORTS_CACHE_KB, SqliteThread
from gateway.store.writing import expire, write

_OFFSET: Final = "SELECT segment, offset FROM place"


class SqliteStore(SqlReader):
    """A `Store` in the SQLite file `path`. The file and its folder are created if missing.

    With `sync`, each transaction is flushed to the disk when it ends. Without it, a power failure may undo the last
    transactions. Raises `StoreFailed` if the SQLite file cannot be opened.
    """

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        prepare(path)
        self._writing = SqliteThread(path, "store-writer", sync=sync)
        reading = SqliteThread(path, "store-reader", cache_kb=READER_CACHE_KB)
        super().__init__(reading, SqliteThread(path, "store-reports", cache_kb=REPORTS_CACHE_KB), reading)
        self._exports = ExportStore(SqliteThread(path, "store-exports", cache_kb=READER_CACHE_KB), self._writing)
        try:
            with closing(connect(path)) as connection:
                self._start_offset = JournalOffset(*connection.execute(_OFFSET).fetchone())
        except (sqlite3.Error, TypeError) as error:
            # a damaged table may have no row
            raise StoreFailed(f"{path}: the store cannot be read: {error}{remedy(error) or REPAIR}") from error

    @property
    def start_offset(self) -> JournalOffset:
        return self._start_offset

    @property
    def exports(self) -> ExportStore:
        return self._exports

    async def offset(self) -> JournalOffset:
        (place,) = await self._read(_OFFSET, [])
        return JournalOffset(*place)

    async def write(self, entries: Sequence[Entry], offset: JournalOffset) -> None:
        await self._writing.run(partial(write, entries=entries, offset=offset))

    async def expire(self, before: float, limit: int) -> int:
        return await self._writing.run(partial(expire, before=before, limit=limit))

    async def close(self) -> None:
        await self._exports.close()
        await self._writing.close()
        await super().close()
