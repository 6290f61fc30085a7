"""Bodies of calls, in an SQLite file of their own beside the store, where the configuration asks for them.

- They are apart from calls because they are large, private, and expire first.
- A thread of this file writes them from a bounded queue.
- Calls are never lost, but **bodies may be**: those in the queue when the process is killed, those that come while the
  queue is full, and those that the disk refuses. The log counts them.
- With a retention of zero nothing is written, and existing bodies are deleted.

A call gathers its bodies in `call/capture.py`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic, time
from typing import Final

import msgspec

from gateway.store.base import StoreFailed
from gateway.store.captured import Capture, CapturedBodies, CapturedBody
from gateway.store.file import BUSY_SECONDS
from gateway.telemetry.log import Logger

MAX_WAITING: Final = 32 * 1024 * 1024
"""Most bytes of bodies that wait for the disk; bodies beyond that are lost."""
OVERHEAD: Final = 4096
"""Bytes that a capture counts for beside its bodies, because it has headers."""
GATHER_SECONDS: Final = 0.05
"""Seconds that a body waits for others, so that a busy second has at most 20 commits."""
BATCH: Final = 200
"""Most bodies that are written or deleted in one transaction, because it holds the lock."""
EXPIRE_SECONDS: Final = 10.0
"""Seconds between two searches for expired bodies, once all of them are deleted."""
REPORT_SECONDS: Final = 10.0
"""Seconds between two log lines about bodies that were lost."""
FREE_PAGES: Final = 5000
"""Pages of 4 KiB that the file gives back after a deletion."""
CLOSE_SECONDS: Final = 5.0
"""Seconds that the end of the process waits for bodies that are not written yet."""

_VERSION: Final = 1
_SCHEMA: Final = """
    CREATE TABLE bodies (
        id TEXT PRIMARY KEY,
        identity TEXT NOT NULL,
        at REAL NOT NULL,
        request_headers BLOB NOT NULL, request BLOB NOT NULL, request_cut INTEGER NOT NULL,
        reply_headers BLOB NOT NULL, reply BLOB NOT NULL, reply_cut INTEGER NOT NULL
    )
"""
_INDEX: Final = "CREATE INDEX bodies_at ON bodies (at)"
_INSERT: Final = """
    INSERT OR REPLACE INTO bodies (
        id, identity, at, request_headers, request, request_cut, reply_headers, reply, reply_cut
    ) VALUES (
        :id, :identity, :at, :request_headers, :request, :request_cut, :reply_headers, :reply, :reply_cut
    )
"""
_DELETE: Final = "DELETE FROM bodies WHERE id IN (SELECT id FROM bodies WHERE at < ? ORDER BY at LIMIT ?)"
_SELECT: Final = "SELECT * FROM bodies WHERE id = ? AND at >= ?"

Retention = Callable[[], float | None]
"""Seconds for which bodies are kept, asked for anew each time; None for ever, 0 not at all."""


class Bodies:
    """Owns the file `path`, which is made when the first body comes, and the thread that writes it."""

    def __init__(self, path: Path, log: Logger, retention: Retention) -> None:
        self._path = path
        self._log = log
        self._retention = retention
        self._queue: SimpleQueue[Capture | None] = SimpleQueue()
        # each of the two is changed by one thread only, so that neither needs a lock
        self._put_bytes = 0
        self._taken_bytes = 0
        self._too_fast = 0
        self._unwritten = 0
        self._reason = ""
        self._reported = 0
        self._report_at = 0.0
        self._expire_at = 0.0
        self._thread = threading.Thread(target=self._run, name="bodies", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, capture: Capture) -> None:
        """Queue a call's bodies. Never raises and never waits; only for the event loop's thread."""
        size = capture.size + OVERHEAD
        if self._put_bytes - self._taken_bytes + size > MAX_WAITING:
            self._too_fast += 1
            return
        self._put_bytes += size
        self._queue.put(capture)

    async def of(self, call: str, identity: str | None) -> CapturedBodies | None:
        """Return the bodies of a call, if it is of this login; None is any login. Raises `StoreFailed`."""
        return await asyncio.to_thread(self._read, call, identity)

    def close(self) -> None:
        """Write the rest of the queue, and end the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        going = True
        while going:
            captures, going = self._gather()
            if captures:
                self._write(captures)
            self._report_lost(at_once=not going)
            if monotonic() >= self._expire_at:
                self._expire_at = monotonic() + self._expire()

    def _gather(self) -> tuple[list[Capture], bool]:
        """Wait for bodies and return a batch; False says that it is the last one."""
        captures: list[Capture] = []
        end = self._expire_at
        while len(captures) < BATCH:
            try:
                capture = self._queue.get(timeout=max(0.0, end - monotonic()))
            except Empty:
                break
            if capture is None:
                return captures, False
            if not captures:
                end = monotonic() + GATHER_SECONDS
            captures.append(capture)
        return captures, True

    def _write(self, captures: Sequence[Capture]) -> None:
        try:
            # a retention of zero may have come while they waited
            if self._retention() != 0:
                rows = [_row(capture.redacted()) for capture in captures]
                with self._connect() as connection, _transaction(connection):
                    connection.executemany(_INSERT, rows)
        except StoreFailed as error:
            self._unwritten += len(captures)
            self._reason = str(error)
        finally:
            self._taken_bytes += sum(capture.size + OVERHEAD for capture in captures)

    def _report_lost(self, *, at_once: bool) -> None:
        """Log the bodies lost since the last report; a broken disk is not reported with every call."""
        lost = self._unwritten + self._too_fast
        if lost > self._reported and (at_once or monotonic() >= self._report_at):
            reason = self._reason or "they came faster than they could be written"
            self._log.error("bodies.lost", lost=lost - self._reported, reason=reason)
            self._reported = lost
            self._reason = ""
            self._report_at = monotonic() + REPORT_SECONDS

    def _expire(self) -> float:
        """Delete a batch of expired bodies; return the seconds until the next search."""
        retention = self._retention()
        if retention is None or not self._path.exists():
            return EXPIRE_SECONDS
        try:
            with self._connect() as connection:
                before = time() - retention
                with _transaction(connection):
                    deleted = connection.execute(_DELETE, (before, BATCH)).rowcount
                if deleted:
                    # `execute` would take the first of its steps, one page, for all of them
                    connection.executescript(f"PRAGMA incremental_vacuum({FREE_PAGES})")
        except StoreFailed as error:
            self._log.error("bodies.expire_failed", reason=str(error))
            return EXPIRE_SECONDS
        return GATHER_SECONDS if deleted == BATCH else EXPIRE_SECONDS

    def _read(self, call: str, identity: str | None) -> CapturedBodies | None:
        retention = self._retention()
        if retention == 0 or not self._path.exists():
            return None
        # expired bodies that are not deleted yet are not shown
        since = 0.0 if retention is None else time() - retention
        with self._connect() as connection:
            connection.row_factory = sqlite3.Row
            row = connection.execute(_SELECT, (call, since)).fetchone()
        if row is None or identity not in {None, row["identity"]}:
            return None
        return _captured(row)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """Yield a short-lived connection; closing the last one clears the write-ahead log. Raises `StoreFailed`."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite gives its -wal and -shm files the mode of this one
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
                _prepare(connection)
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise StoreFailed(f"{self._path}: {error}") from error


def _prepare(connection: sqlite3.Connection) -> None:
    """Set the file's options and make its table. Raises `StoreFailed` for a file of a later release, unchanged."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        raise StoreFailed(f"its schema is version {version} and this irisgate knows up to {_VERSION}")
    # deleted rows are overwritten and their pages given back: they were deleted for a reason
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if version == _VERSION:
        return
    with _transaction(connection):
        # read again under the lock: a reader may have made the table in between
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            connection.execute(_SCHEMA)
            connection.execute(_INDEX)
            connection.execute(f"PRAGMA user_version = {_VERSION}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        yield


def _row(bodies: CapturedBodies) -> dict[str, object]:
    return {
        "id": bodies.id,
        "identity": bodies.identity,
        "at": bodies.at,
        "request_headers": msgspec.json.encode(bodies.request.headers),
        "request": bodies.request.body,
        "request_cut": bodies.request.cut,
        "reply_headers": msgspec.json.encode(bodies.reply.headers),
        "reply": bodies.reply.body,
        "reply_cut": bodies.reply.cut,
    }


def _captured(row: sqlite3.Row) -> CapturedBodies:
    request, reply = (
        CapturedBody(
            msgspec.json.decode(row[f"{part}_headers"], type=dict[str, str]), row[part], bool(row[f"{part}_cut"])
        )
        for part in ("request", "reply")
    )
    return CapturedBodies(row["id"], row["identity"], row["at"], request, reply)
