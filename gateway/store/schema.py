"""The tables of the SQLite store, and the migrations of files of older releases.

- A migration is a tuple of SQL statements. `user_version` in the SQLite file is the number of migrations that ran.
- A migration in a released version is never edited. A change of the schema is a new migration at the end.

Queries are in `rows.py`.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from gateway.store.agents_migration import SUMS_OF_AGENTS
from gateway.store.base import StoreFailed
from gateway.store.exports import CREATE_TABLE as CREATE_EXPORTS
from gateway.store.figures_migration import FIGURES_OF_CALLS
from gateway.store.header_migration import SUMS_OF_HEADERS
from gateway.store.month_migration import SUMS_OF_MONTHS

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

_SUMS: Final = """
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
        duration_ms INTEGER NOT NULL
"""


def _roll_up(name: str) -> str:
    return f"""
    CREATE TABLE {name} (
        time INTEGER NOT NULL,
        identity TEXT NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        agent TEXT NOT NULL,
        {_SUMS},
        PRIMARY KEY (time, identity, provider, model, agent)
    ) WITHOUT ROWID
    """


def _fill(name: str, milliseconds: int) -> str:
    """Return the statement that fills a new table of totals from the calls in the file. `milliseconds` is the length of
    an hour or a day.
    """
    return f"""
    INSERT INTO {name}
    SELECT at - at % {milliseconds}, identity, provider, model, agent,
        count(*), sum(outcome <> 'ok'), sum(input), sum(output), sum(cache_read), sum(cache_write_5m),
        sum(cache_write_1h), sum(reasoning), coalesce(sum(cost), 0), sum(cost IS NULL), sum(estimated),
        sum(CAST(round(duration_ms) AS INTEGER))
    FROM calls GROUP BY 1, 2, 3, 4, 5
    """  # noqa: S608 (our own names and numbers)


_SECOND: Final = (
    "ALTER TABLE calls ADD COLUMN node TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE calls ADD COLUMN extra TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE calls ADD COLUMN tier TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE calls ADD COLUMN charges TEXT NOT NULL DEFAULT '{}'",
    # without the identity, so that calls of several callers with one session id are ordered by time too
    "DROP INDEX calls_by_session",
    "CREATE INDEX calls_by_session ON calls (session_id, at, n)",
    """
    CREATE TABLE session_tools (
        session INTEGER NOT NULL REFERENCES sessions (n),
        tool TEXT NOT NULL,
        calls INTEGER NOT NULL,
        PRIMARY KEY (session, tool)
    ) WITHOUT ROWID
    """,
    _roll_up("usage_hourly"),
    _roll_up("usage_daily"),
    _fill("usage_hourly", 3_600_000),
    _fill("usage_daily", 86_400_000),
    """
    CREATE TABLE balances (
        bucket TEXT PRIMARY KEY,
        amount INTEGER NOT NULL,
        remainder INTEGER NOT NULL,
        at REAL NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE versions (
        n INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        who TEXT NOT NULL,
        etag TEXT NOT NULL,
        changed TEXT NOT NULL
    )
    """,
    # the offset up to which the journal is applied; it changes in the same transaction as the rows
    "CREATE TABLE place (one INTEGER PRIMARY KEY CHECK (one = 1), segment INTEGER NOT NULL, offset INTEGER NOT NULL)",
    "INSERT INTO place VALUES (1, 0, 0)",
)

_THIRD: Final = (
    "ALTER TABLE calls ADD COLUMN error_message TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE calls ADD COLUMN upstream_request_id TEXT NOT NULL DEFAULT ''",
)

_FOURTH: Final = ("ALTER TABLE balances ADD COLUMN terms TEXT NOT NULL DEFAULT ''",)

_FIFTH: Final = (
    # the calls that were sent and have not ended, as lines of JSON (`entries.SentCall`)
    "CREATE TABLE open_calls (id TEXT PRIMARY KEY, line BLOB NOT NULL) WITHOUT ROWID",
)

_SIXTH: Final = (
    "ALTER TABLE calls ADD COLUMN served_model TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE calls ADD COLUMN geo TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE calls ADD COLUMN parts TEXT NOT NULL DEFAULT '[]'",
)

_EIGHTH: Final = ("ALTER TABLE calls ADD COLUMN auto_cached INTEGER NOT NULL DEFAULT 0",)

_NINTH: Final = (
    # the attempts of a call that took several, as JSON (`contract.record.Tried`)
    "ALTER TABLE calls ADD COLUMN tried TEXT NOT NULL DEFAULT '[]'",
)

_TENTH: Final = ("ALTER TABLE calls ADD COLUMN key TEXT NOT NULL DEFAULT ''",)

_ELEVENTH: Final = (
    # the values of recorded headers, and an index by their terms (`header_index.py`)
    "ALTER TABLE calls ADD COLUMN headers TEXT NOT NULL DEFAULT '{}'",
    "CREATE TABLE header_terms (n INTEGER PRIMARY KEY, term TEXT NOT NULL UNIQUE)",
    """
    CREATE TABLE call_headers (
        term INTEGER NOT NULL REFERENCES header_terms (n),
        time INTEGER NOT NULL,
        call INTEGER NOT NULL REFERENCES calls (n),
        PRIMARY KEY (term, time, call)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE session_headers (
        term INTEGER NOT NULL REFERENCES header_terms (n),
        session INTEGER NOT NULL REFERENCES sessions (n),
        PRIMARY KEY (term, session)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX session_headers_by_session ON session_headers (session)",
)

_TWELFTH: Final = (
    # the request line and the sizes of a direct call, as JSON (`contract.record.Direct`)
    "ALTER TABLE calls ADD COLUMN direct TEXT NOT NULL DEFAULT ''",
)

_FOURTEENTH: Final = (
    # the positions of exports (`exports.py`)
    CREATE_EXPORTS.format(text="TEXT NOT NULL", integer="INTEGER NOT NULL") + " WITHOUT ROWID",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    _FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH, FIGURES_OF_CALLS, _EIGHTH, _NINTH, _TENTH,
    _ELEVENTH, _TWELFTH, SUMS_OF_HEADERS, _FOURTEENTH, SUMS_OF_MONTHS, SUMS_OF_AGENTS,
)  # fmt: skip


def migrate(connection: sqlite3.Connection, name: str) -> None:
    """Bring a file to the newest version of the schema, in one transaction.

    Raises `StoreFailed` for a file that a later release wrote.
    """
    if schema_version(connection, name) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # the version is read again under the lock: another process may have migrated the file in between
        for statements in MIGRATIONS[schema_version(connection, name) :]:
            for statement in statements:
                connection.execute(statement)
        # a pragma accepts no placeholder; the number is a constant of this module
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def require_this_schema(connection: sqlite3.Connection, name: str) -> None:
    """Raise `StoreFailed` unless a file has the schema of this release. The file is not changed.

    This is for commands that only read a file. They must not migrate it, because a gateway of an older release may be
    using it.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != len(MIGRATIONS):
        raise StoreFailed(
            f"{name}: its schema is version {version}, and this irisgate reads version {len(MIGRATIONS)}; "
            "serve with it once, or use the release that wrote it"
        )


def schema_version(connection: sqlite3.Connection, name: str) -> int:
    """Return the version of a file's schema. Raises `StoreFailed` for a file that a later release wrote."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StoreFailed(
            f"{name}: its schema is version {version} and this irisgate knows up to {len(MIGRATIONS)}; "
            "run the release that wrote it, or move the file away"
        )
    return version
