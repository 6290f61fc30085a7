"""The bodies of calls, in an SQLite file of their own beside the store, where the configuration asks for them.

Apart from the calls, since they are large, private, and go first: a thread of this file's own writes them from a
bounded queue. Calls are never lost; **bodies may be**: what waits when the process is killed, what comes while the
queue is full, and what a full or broken disk refuses. The log says how many. With a retention of zero nothing is
written, and what was there is deleted. What a capture is, is in `call/capture.py`.
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
"""Bytes of bodies that wait for the disk; what comes on top of it is lost."""
OVERHEAD: Final = 4096
"""Bytes that a capture counts for beside its bodies: its headers."""
GATHER_SECONDS: Final = 0.05
"""How long a body waits for others, so that a busy second is at most 20 commits."""
BATCH: Final = 200
"""Bodies that are written, or deleted, in one transaction."""
EXPIRE_EVERY: Final = 10.0
"""Seconds between two looks for what is too old, once nothing is left to delete."""
TELL_EVERY: Final = 10.0
"""Seconds between two log lines about bodies that were lost."""
FREE_PAGES: Final = 5000
"""Pages of 4 KiB that the file gives back after a deletion."""
CLOSE_SECONDS: Final = 5.0
"""How long the end of the process waits for what is not written yet."""

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
_INSERT: Final = "INSERT OR REPLACE INTO bodies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
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
        self._told = 0
        self._tell_at = 0.0
        self._expire_at = 0.0
        self._thread = threading.Thread(target=self._run, name="bodies", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, capture: Capture) -> None:
        """Take a call's bodies. Never raises and never waits; of the event loop's thread only."""
        size = capture.size + OVERHEAD
        if self._put_bytes - self._taken_bytes + size > MAX_WAITING:
            self._too_fast += 1
            return
        self._put_bytes += size
        self._queue.put(capture)

    async def of(self, call: str, identity: str | None) -> CapturedBodies | None:
        """The bodies of a call of this login, or of anybody's for None. Raises `StoreFailed`."""
        return await asyncio.to_thread(self._read, call, identity)

    def close(self) -> None:
        """Write what is left to write."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        going = True
        while going:
            captures, going = self._gathered()
            if captures:
                self._write(captures)
            self._tell(at_once=not going)
            if monotonic() >= self._expire_at:
                self._expire_at = monotonic() + self._expire()

    def _gathered(self) -> tuple[list[Capture], bool]:
        """What has come, after a wait for it; False when it is the last."""
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
                with self._connected() as connection, _transaction(connection):
                    connection.executemany(_INSERT, rows)
        except StoreFailed as error:
            self._unwritten += len(captures)
            self._reason = str(error)
        finally:
            self._taken_bytes += sum(capture.size + OVERHEAD for capture in captures)

    def _tell(self, *, at_once: bool) -> None:
        """Log what was lost since it was told last; a broken disk is not told of with every call."""
        lost = self._unwritten + self._too_fast
        if lost > self._told and (at_once or monotonic() >= self._tell_at):
            reason = self._reason or "they came faster than they could be written"
            self._log.error("bodies.lost", lost=lost - self._told, reason=reason)
            self._told = lost
            self._reason = ""
            self._tell_at = monotonic() + TELL_EVERY

    def _expire(self) -> float:
        """Delete some of what is too old. Seconds until the next look."""
        retention = self._retention()
        if retention is None or not self._path.exists():
            return EXPIRE_EVERY
        try:
            with self._connected() as connection:
                before = time() - retention
                with _transaction(connection):
                    deleted = connection.execute(_DELETE, (before, BATCH)).rowcount
                if deleted:
                    # `execute` would take the first of its steps, one page, for all of them
                    connection.executescript(f"PRAGMA incremental_vacuum({FREE_PAGES})")
        except StoreFailed as error:
            self._log.error("bodies.expire_failed", reason=str(error))
            return EXPIRE_EVERY
        return GATHER_SECONDS if deleted == BATCH else EXPIRE_EVERY

    def _read(self, call: str, identity: str | None) -> CapturedBodies | None:
        retention = self._retention()
        if retention == 0 or not self._path.exists():
            return None
        # what is too old and not deleted yet is not shown
        since = 0.0 if retention is None else time() - retention
        with self._connected() as connection:
            row = connection.execute(_SELECT, (call, since)).fetchone()
        if row is None or identity not in {None, row[1]}:
            return None
        return CapturedBodies(row[0], row[1], row[2], _part(*row[3:6]), _part(*row[6:9]))

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection of the moment; closing the last one also clears the write-ahead log. Raises `StoreFailed`."""
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
    """Raises `StoreFailed` for a file that a later release wrote."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        raise StoreFailed(f"its schema is version {version} and this irisgate knows up to {_VERSION}")
    # what is deleted is overwritten, and what is freed given back: it was deleted for a reason
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if version == _VERSION:
        return
    with _transaction(connection):
        # asked again under the lock: a reader may have made it in between
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            connection.execute(_SCHEMA)
            connection.execute(_INDEX)
            connection.execute(f"PRAGMA user_version = {_VERSION}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        yield


def _row(kept: CapturedBodies) -> tuple[object, ...]:
    head = (kept.id, kept.identity, kept.at)
    return (*head, *_columns(kept.request), *_columns(kept.reply))


def _columns(part: CapturedBody) -> tuple[bytes, bytes, bool]:
    return msgspec.json.encode(part.headers), part.body, part.cut


def _part(headers: bytes, body: bytes, cut: int) -> CapturedBody:
    return CapturedBody(msgspec.json.decode(headers, type=dict[str, str]), body, bool(cut))
