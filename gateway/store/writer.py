"""The one thread that writes to the SQLite file: records gather, and are committed many at a time.

A file that is locked or full is tried again, with the records kept in memory up to a bound; the log says when that
starts, when records are lost to the bound, and when it ends. Nothing here knows what a record holds.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from pathlib import Path
from time import monotonic
from typing import Final

from gateway.log import Logger
from gateway.record import Record
from gateway.store.base import StoreFailed
from gateway.store.file import connect
from gateway.store.rows import write

GATHER_SECONDS: Final = 0.05
"""How long records gather: a call can be read well within 100 ms, and a busy second is at most 20 commits."""
BATCH: Final = 500
"""Records of one transaction: bounds how long the lock is held."""
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)


class Writer:
    """Takes records on the event loop and writes them in its own thread."""

    def __init__(self, path: Path, log: Logger, max_pending: int) -> None:
        self._path = path
        self._log = log
        self._max_pending = max_pending
        self._queue: deque[Record] = deque()
        self._batch: list[Record] = []
        self._connection: sqlite3.Connection | None = None
        self._taken = 0
        self._written = 0
        self._lost = 0
        self._full = False
        self._failures = 0
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._progress = threading.Condition()
        self._close_by: float | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Records that were taken and are not in the file."""
        return self._taken - self._written

    def put(self, record: Record) -> None:
        if self.pending >= self._max_pending:
            self._refuse()
            return
        self._full = False
        self._queue.append(record)
        self._taken += 1
        if not self._wake.is_set():
            self._wake.set()

    def _refuse(self) -> None:
        self._lost += 1
        if not self._full:
            self._full = True
            self._log.error("store.full", path=str(self._path), pending=self.pending)

    def wait(self, seconds: float) -> bool:
        """Block until all that was taken is written; False when that takes longer than `seconds`."""
        target = self._taken
        self._urge()
        with self._progress:
            return self._progress.wait_for(lambda: self._written >= target, seconds)

    def close(self, seconds: float) -> None:
        """Block until all is written, at most `seconds` while the file refuses, and end the thread."""
        self._close_by = monotonic() + seconds
        self._urge()
        self._thread.join()
        if self.pending or self._lost:
            self._log.error("store.records_lost", path=str(self._path), lost=self.pending + self._lost)

    def _urge(self) -> None:
        self._hurry.set()
        self._wake.set()

    def _run(self) -> None:
        while self._close_by is None or (self.pending and monotonic() < self._close_by):
            self._wake.wait()
            self._wake.clear()
            self._pause(GATHER_SECONDS)
            while not self._drain() and (self._close_by is None or monotonic() < self._close_by):
                self._pause(RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1])
        if self._connection is not None:
            self._connection.close()

    def _pause(self, seconds: float) -> None:
        self._hurry.wait(seconds)
        self._hurry.clear()

    def _drain(self) -> bool:
        """Write what there is; False when the file refuses, with the batch kept for the next try."""
        while self._batch or self._queue:
            while self._queue and len(self._batch) < BATCH:
                self._batch.append(self._queue.popleft())
            try:
                self._commit()
            except (sqlite3.Error, StoreFailed) as error:
                self._failed(error)
                return False
            self._succeeded()
        return True

    def _commit(self) -> None:
        if self._connection is None:
            self._connection = connect(self._path)
        self._connection.execute("BEGIN IMMEDIATE")
        for record in self._batch:
            write(self._connection, record)
        self._connection.execute("COMMIT")

    def _succeeded(self) -> None:
        if self._failures:
            self._log.info("store.recovered", path=str(self._path), failures=self._failures)
            self._failures = 0
        with self._progress:
            self._written += len(self._batch)
            self._batch.clear()
            self._progress.notify_all()

    def _failed(self, error: Exception) -> None:
        """Closing rolls back what was begun, and a fresh connection finds a file that was replaced or repaired."""
        self._failures += 1
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._failures == 1:
            self._log.error("store.write_failed", path=str(self._path), reason=str(error), pending=self.pending)
