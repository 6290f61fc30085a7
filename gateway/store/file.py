"""The SQLite file itself: made, opened, and brought to the newest schema."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from gateway.store.base import StoreFailed
from gateway.store.schema import migrate, schema_version

BUSY_SECONDS: Final = 1.0
"""Seconds that one try waits for another process's lock."""

WAL_BYTES: Final = 64 * 1024 * 1024
"""Bytes to which the write-ahead log shrinks after a long read has made it grow."""


def prepare(path: Path) -> None:
    """Make the file if there is none, and migrate it. Raises `StoreFailed`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # only this user may read who called what; SQLite gives its -wal and -shm files the mode of this file
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        connect(path).close()
    except (OSError, sqlite3.Error) as error:
        raise StoreFailed(f"{path}: the store cannot be opened: {error}") from error


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection for the calling thread, in autocommit mode: transactions are begun explicitly."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        # before the journal's mode, which stands in the file: one of a later release stays as it is
        schema_version(connection, str(path))
        connection.execute("PRAGMA journal_mode = WAL")
        # with WAL, NORMAL loses the last commits when the machine loses power, and never damages the file
        connection.execute("PRAGMA synchronous = NORMAL")
        # deleted rows are overwritten: they were deleted for a reason
        connection.execute("PRAGMA secure_delete = ON")
        # room for the indexes of a busy hour; and fewer, larger moves from the write-ahead log into the file
        connection.execute("PRAGMA cache_size = -16000")
        connection.execute("PRAGMA wal_autocheckpoint = 5000")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        migrate(connection, str(path))
    except BaseException:
        connection.close()
        raise
    return connection
