"""A connection to the SQLite file of the store, with the only thread that uses the connection."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from gateway.store.base import StoreFailed
from gateway.store.file import WRITER_CACHE_KB, connect, prepare, remedy

T = TypeVar("T")

READER_CACHE_KB: Final = 2_000
"""Size in KB of the page cache of the connection that reads. The operating system caches the file too."""
REPORTS_CACHE_KB: Final = 16_000
"""Size in KB of the page cache of the connection for reports. Most reports read the sums by day, and the sums of a year
fit into the cache."""


class SqliteThread:
    """A connection to the SQLite file, and the only thread that uses the connection."""

    def __init__(self, path: Path, name: str, *, sync: bool = False, cache_kb: int = WRITER_CACHE_KB) -> None:
        self._path = path
        self._cache_kb = cache_kb
        self._sync = sync
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function with the connection as its argument, in the thread. Raises `StoreFailed` for SQLite errors."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._reopen_if_replaced()
            if self._connection is None:
                self._connection = connect(self._path, cache_kb=self._cache_kb)
                if self._sync:
                    self._connection.execute("PRAGMA synchronous = FULL")
            return work(self._connection)
        except sqlite3.Error as error:
            # the next use opens a new connection, which sees a file that was replaced or repaired
            self._close()
            raise StoreFailed(f"{self._path}: {error}{remedy(error)}") from error

    def _reopen_if_replaced(self) -> None:
        """Close the connection if its file was removed or replaced, because SQLite would continue to use the removed
        file. The next use opens a new connection.

        If the file was removed, also create it again.
        """
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
