"""The tables of the SQLite store, and how an older file becomes a newer one.

A migration is a tuple of statements; the file's `user_version` counts those that ran. A migration that was released is
never edited: a change is a new one at the end. Queries live in `rows.py`.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from gateway.store.base import StoreFailed

_FIRST: Final = (
    """
    CREATE TABLE calls (
        n INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        session_id TEXT NOT NULL,
        at INTEGER NOT NULL,
        identity TEXT NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        api TEXT NOT NULL,
        upstream_api TEXT NOT NULL,
        operation TEXT NOT NULL,
        stream INTEGER NOT NULL,
        status INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        error TEXT NOT NULL,
        error_native TEXT NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cache_read INTEGER NOT NULL,
        cache_write_5m INTEGER NOT NULL,
        cache_write_1h INTEGER NOT NULL,
        reasoning INTEGER NOT NULL,
        reported INTEGER NOT NULL,
        cost INTEGER,
        cost_basis TEXT NOT NULL,
        estimated INTEGER NOT NULL,
        stop TEXT NOT NULL,
        tools TEXT NOT NULL,
        duration_ms REAL NOT NULL,
        first_event_ms REAL,
        attempts INTEGER NOT NULL,
        dropped TEXT NOT NULL,
        agent TEXT NOT NULL
    )
    """,
    "CREATE INDEX calls_by_time ON calls (at, n)",
    "CREATE INDEX calls_by_identity ON calls (identity, at, n)",
    "CREATE INDEX calls_by_session ON calls (session_id, identity, at, n)",
    """
    CREATE TABLE sessions (
        n INTEGER PRIMARY KEY,
        identity TEXT NOT NULL,
        id TEXT NOT NULL,
        agent TEXT NOT NULL,
        provider TEXT NOT NULL,
        calls INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cache_read INTEGER NOT NULL,
        cache_write_5m INTEGER NOT NULL,
        cache_write_1h INTEGER NOT NULL,
        reasoning INTEGER NOT NULL,
        known_cost INTEGER NOT NULL,
        cost_unknown_calls INTEGER NOT NULL,
        estimated_calls INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        UNIQUE (id, identity)
    )
    """,
    "CREATE INDEX sessions_by_time ON sessions (last_at, n)",
    "CREATE INDEX sessions_by_identity ON sessions (identity, last_at, n)",
    """
    CREATE TABLE session_models (
        session INTEGER NOT NULL REFERENCES sessions (n),
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        last_at INTEGER NOT NULL,
        PRIMARY KEY (session, provider, model)
    ) WITHOUT ROWID
    """,
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST,)


def migrate(connection: sqlite3.Connection, name: str) -> None:
    """Bring a file to the newest version, in one transaction. Raises `StoreFailed` for a file from the future."""
    if _version(connection, name) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # asked again under the lock: another process may have migrated in between
        for statements in MIGRATIONS[_version(connection, name) :]:
            for statement in statements:
                connection.execute(statement)
        # a pragma takes no placeholder; the number is our own
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection, name: str) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StoreFailed(
            f"{name}: its schema is version {version} and this irisgate knows up to {len(MIGRATIONS)}; "
            "run the release that wrote it, or move the file away"
        )
    return version
