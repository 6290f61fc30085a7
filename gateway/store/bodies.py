"""Storage of the bodies of calls, in a separate SQLite file, if the configuration enables it.

- Bodies are stored separately from calls because they are large and private, and are deleted earlier than the calls.
- A thread takes bodies from a queue of limited size and writes them to the file.
- **Bodies may be lost**, unlike records of calls. This happens if the queue is full, or if they cannot be written to
  the disk. The log then reports the number of lost bodies. Unwritten bodies are also lost if the process is killed.
- With a retention of zero nothing is written, and existing bodies are deleted.

`call/capture.py` collects the bodies of a call.
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
"""Maximum number of bytes in the queue. If the queue has no room for the bodies of a call, these bodies are lost."""
OVERHEAD: Final = 4096
"""Number of bytes that are added to the size of each call's bodies, because headers take memory in the queue too."""
GATHER_SECONDS: Final = 0.05
"""Seconds for which the thread collects more bodies after the first. So there are at most about 20 commits a second."""
BATCH: Final = 200
"""Maximum number of calls whose bodies are written or deleted in one transaction. The file is locked meanwhile."""
EXPIRE_SECONDS: Final = 10.0
"""Seconds until the next search for expired bodies, if the last search has deleted all expired bodies."""
REPORT_SECONDS: Final = 10.0
"""Minimum number of seconds between two log lines about lost bodies."""
FREE_PAGES: Final = 5000
"""Maximum number of pages (of 4 KiB) by which the file shrinks after a deletion."""
CLOSE_SECONDS: Final = 5.0
"""Maximum number of seconds for which `Bodies.close` waits until the queue is written."""

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
"""A function that returns the seconds for which bodies are kept. None means for ever, and 0 means not at all.

The function is called before each write, read and deletion, because the configuration may change.
"""


def bodies_path(database: Path) -> Path:
    """Return the path of the file of bodies, which is in the database's folder."""
    return database.with_name(f"{database.name}-bodies")


class Bodies:
    """The bodies in the file `path`, and the thread that writes them. The first body creates the file."""

    def __init__(self, path: Path, log: Logger, retention: Retention) -> None:
        self._path = path
        self._log = log
        self._retention = retention
        self._queue: SimpleQueue[Capture | None] = SimpleQueue()
        # the event loop's thread changes the first counter and the writing thread the second, so neither needs a lock
        self._put_bytes = 0
        self._taken_bytes = 0
        self._too_fast = 0
        self._unwritten = 0
        self._reason = ""
        self._reported = 0
        self._report_at = 0.0
        self._expire_at = 0.0
        self._lock = threading.Lock()
        """A lock that is held while a connection is open, so that this process has one connection at a time. Otherwise,
        many reads could keep the file locked until a write fails, because each connection that is opened or closed may
        take the file's exclusive lock."""
        self._thread = threading.Thread(target=self._run, name="bodies", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, capture: Capture) -> None:
        """Queue the bodies of a call to be written. Never raises and never waits.

        May be called only from the event loop's thread.
        """
        size = capture.size + OVERHEAD
        if self._put_bytes - self._taken_bytes + size > MAX_WAITING:
            self._too_fast += 1
            return
        self._put_bytes += size
        self._queue.put(capture)

    async def of(self, call: str, identity: str | None) -> CapturedBodies | None:
        """Return the bodies of a call. Return None if there are none, or if the call was made by another login than
        `identity`.

        If `identity` is None, the login is not checked. Raises `StoreFailed` if the file cannot be read.
        """
        return await asyncio.to_thread(self.read, call, identity)

    def close(self) -> None:
        """Make the thread write the bodies that are still queued, and then end. Wait at most `CLOSE_SECONDS` for it."""
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
        """Wait for bodies. Return a batch of bodies, and whether further bodies may follow.

        The second value is False after `close` was called.
        """
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
            # the retention may have been set to zero while the bodies waited
            if self._retention() != 0:
                rows = [_row(capture.redacted()) for capture in captures]
                with self._connect() as connection, _transaction(connection):
                    connection.executemany(_INSERT, rows)
        except Exception as error:  # noqa: BLE001 (whatever it is, the thread must go on with the next bodies)
            self._unwritten += len(captures)
            self._reason = str(error) if isinstance(error, StoreFailed) else repr(error)
        finally:
            self._taken_bytes += sum(capture.size + OVERHEAD for capture in captures)

    def _report_lost(self, *, at_once: bool) -> None:
        """Log the number of bodies lost since the last report.

        If `at_once` is False, there is at most one report in `REPORT_SECONDS`.
        """
        lost = self._unwritten + self._too_fast
        if lost > self._reported and (at_once or monotonic() >= self._report_at):
            reason = self._reason or "they came faster than they could be written"
            self._log.error("bodies.lost", lost=lost - self._reported, reason=reason)
            self._reported = lost
            self._reason = ""
            self._report_at = monotonic() + REPORT_SECONDS

    def _expire(self) -> float:
        """Delete a batch of expired bodies. Return the number of seconds until this method must be called again."""
        retention = self._retention()
        if retention is None or not self._path.exists():
            return EXPIRE_SECONDS
        try:
            with self._connect() as connection:
                before = time() - retention
                with _transaction(connection):
                    deleted = connection.execute(_DELETE, (before, BATCH)).rowcount
                if deleted:
                    # the pragma frees one page in each step, and `execute` would stop after the first step
                    connection.executescript(f"PRAGMA incremental_vacuum({FREE_PAGES})")
        except StoreFailed as error:
            self._log.error("bodies.expire_failed", reason=str(error))
            return EXPIRE_SECONDS
        return GATHER_SECONDS if deleted == BATCH else EXPIRE_SECONDS

    def read(self, call: str, identity: str | None) -> CapturedBodies | None:
        """Return the bodies of a call. Return None if there are none, or if the login of the call's caller is not
        `identity`.

        If `identity` is None, the login is not checked. Raises `StoreFailed` if the file cannot be read. This function
        blocks while it reads the disk.
        """
        retention = self._retention()
        if retention == 0 or not self._path.exists():
            return None
        # expired bodies that are not deleted yet are not returned
        since = 0.0 if retention is None else time() - retention
        with self._connect() as connection:
            connection.row_factory = sqlite3.Row
            row = connection.execute(_SELECT, (call, since)).fetchone()
        if row is None or identity not in {None, row["identity"]}:
            return None
        return _captured(row)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection to the file, and close it at the end of the block.

        Raises `StoreFailed` for errors of SQLite or the disk. When the last connection is closed, SQLite clears the
        write-ahead log.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite gives its -wal and -shm files the permissions of this file
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            with (
                self._lock,
                closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)) as connection,
            ):
                _prepare(connection)
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise StoreFailed(f"{self._path}: {error}") from error


def _prepare(connection: sqlite3.Connection) -> None:
    """Set the options of the SQLite file, and create the table if it is missing.

    Raises `StoreFailed` for a file of a later release, which is left unchanged.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        raise StoreFailed(f"its schema is version {version} and this irisgate knows up to {_VERSION}")
    # the content of deleted rows is private, so it is overwritten; free pages are returned to the file system
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if version == _VERSION:
        return
    with _transaction(connection):
        # the version is read again under the lock: another thread may have created the table in between
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
