"""Creation and opening of the SQLite file of the store, and its migration to the newest schema."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from gateway.store.base import StoreFailed
from gateway.store.schema import migrate, schema_version

BUSY_SECONDS: Final = 1.0
"""Maximum number of seconds for which a statement waits for a lock of another connection."""

WAL_BYTES: Final = 64 * 1024 * 1024
"""Maximum size in bytes of the write-ahead log between writes. During a long read, the log may grow larger. SQLite cuts
it to this size afterwards."""


REPAIR: Final = "; stop the gateway and run irisgate doctor --repair"
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""SQLite's primary error codes for a damaged file. The low byte of an extended code is its primary code."""
WRITER_CACHE_KB: Final = 8_000
"""Size in KB of the page cache of the connection that writes, enough for the indexes of a busy hour."""


def prepare(path: Path) -> None:
    """Create the file if it does not exist, and migrate it. Raises `StoreFailed` if the file cannot be opened."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # only this user may read the records; SQLite gives its -wal and -shm files the permissions of this file
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        connect(path).close()
    except (OSError, sqlite3.Error) as error:
        raise StoreFailed(f"{path}: the store cannot be opened: {error}{remedy(error)}") from error


def remedy(error: Exception) -> str:
    """Return advice about an SQLite error, for the end of a message, or "" if there is none."""
    return REPAIR if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED else ""


def connect(path: Path, *, cache_kb: int = WRITER_CACHE_KB) -> sqlite3.Connection:
    """Return a connection for the calling thread, in autocommit mode: transactions must be begun explicitly.

    Migrates the file. Raises `StoreFailed` for a file of a later release, and `sqlite3.Error` if SQLite cannot open or
    migrate the file.
    """
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        # checked first, because the journal mode is written to the file: a file of a later release is left unchanged
        schema_version(connection, str(path))
        connection.execute("PRAGMA journal_mode = WAL")
        # with WAL, NORMAL loses the last commits when the machine loses power, and never damages the file
        connection.execute("PRAGMA synchronous = NORMAL")
        # the content of deleted rows is private, so it is overwritten
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA cache_size = -{cache_kb}")
        # checkpoints of the write-ahead log are fewer and larger than by default
        connection.execute("PRAGMA wal_autocheckpoint = 5000")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        migrate(connection, str(path))
    except BaseException:
        connection.close()
        raise
    return connection
