"""The tables of the PostgreSQL store, and their migrations.

- A migration is a tuple of SQL statements. The table `schema_version` has the number of migrations that ran.
- A migration in a released version is never edited. A change of the schema is a new migration at the end.
- Tables and columns have the names that they have in SQLite (`store/schema.py`), so that both share their queries.
- Texts are compared by their bytes, as in SQLite, so that both stores sort alike.
"""

from __future__ import annotations

from typing import Final

from gateway.store.base import StoreFailed
from gateway.store.exports import CREATE_TABLE as CREATE_EXPORTS
from gateway.store.sql import Connection

_TEXT: Final = 'TEXT COLLATE "C" NOT NULL'
_TIMES: Final = "time BIGINT NOT NULL, series BIGINT NOT NULL REFERENCES series (n)"
_TERM: Final = "term BIGINT NOT NULL REFERENCES header_terms (n)"
_USAGE: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning")
_SUMS: Final = (*_USAGE, "known_cost", "cost_unknown_calls", "estimated_calls", "cache_saved")
_HISTOGRAMS: Final = (*(f"d{pair}" for pair in range(9)), *(f"f{pair}" for pair in range(9)))


def _numbers(*names: str) -> str:
    return ", ".join(f"{name} BIGINT NOT NULL" for name in names)


def _texts(*names: str) -> str:
    return ", ".join(f"{name} {_TEXT}" for name in names)


_FIRST: Final = (
    "CREATE SEQUENCE calls_n",
    f"""
    CREATE TABLE calls (
        n BIGINT NOT NULL DEFAULT nextval('calls_n'),
        at BIGINT NOT NULL,
        {_texts("id", "session_id", "identity", "node", "provider", "model", "served_model", "api", "upstream_api")},
        {_texts("operation", "outcome", "error", "error_native", "error_message", "upstream_request_id")},
        {_numbers("stream", "status", *_USAGE)},
        {_texts("extra", "tier", "geo", "parts", "cost_basis", "charges", "stop", "tools", "dropped", "agent")},
        {_texts("tried", "key", "headers", "direct")},
        {_numbers("reported", "estimated", "attempts", "auto_cached")},
        cost BIGINT,
        cache_saved BIGINT,
        duration_ms DOUBLE PRECISION NOT NULL,
        first_event_ms DOUBLE PRECISION,
        UNIQUE (id, at)
    ) PARTITION BY RANGE (at)
    """,
    "CREATE INDEX calls_by_time ON calls (at, n)",
    "CREATE INDEX calls_by_identity ON calls (identity, at, n)",
    "CREATE INDEX calls_by_session ON calls (session_id, at, n)",
    f"""
    CREATE TABLE sessions (
        n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        {_texts("identity", "id", "agent", "provider")},
        {_numbers("calls", "failed", *_SUMS, "started_at", "last_at")},
        UNIQUE (id, identity)
    )
    """,
    "CREATE INDEX sessions_by_time ON sessions (last_at, n)",
    "CREATE INDEX sessions_by_identity ON sessions (identity, last_at, n)",
    f"""
    CREATE TABLE session_models (
        session BIGINT NOT NULL REFERENCES sessions (n) ON DELETE CASCADE,
        {_texts("provider", "model")}, {_numbers("last_at")},
        PRIMARY KEY (session, provider, model)
    )
    """,
    f"""
    CREATE TABLE session_tools (
        session BIGINT NOT NULL REFERENCES sessions (n) ON DELETE CASCADE,
        {_texts("tool")}, {_numbers("calls")},
        PRIMARY KEY (session, tool)
    )
    """,
    # the index of calls and sessions by the terms of recorded headers (`store/header_index.py`)
    f"""
    CREATE TABLE header_terms (
        n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, term {_TEXT} UNIQUE, {_numbers("has_sums")}
    )
    """,
    "CREATE INDEX header_terms_with_sums ON header_terms (term) WHERE has_sums = 1",
    f"""
    CREATE TABLE call_headers (
        term BIGINT NOT NULL REFERENCES header_terms (n), {_numbers("time", "call")}, PRIMARY KEY (term, time, call)
    )
    """,
    "CREATE INDEX call_headers_by_time ON call_headers (time)",
    """
    CREATE TABLE session_headers (
        term BIGINT NOT NULL REFERENCES header_terms (n),
        session BIGINT NOT NULL REFERENCES sessions (n) ON DELETE CASCADE,
        PRIMARY KEY (term, session)
    )
    """,
    "CREATE INDEX session_headers_by_session ON session_headers (session)",
    f"""
    CREATE TABLE series (
        n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        {_texts("identity", "provider", "model", "agent", "api", "outcome")}, {_numbers("status")},
        UNIQUE (identity, provider, model, agent, api, status, outcome)
    )
    """,
    *(
        f"CREATE TABLE {table}_{level} ({_TIMES}, {_numbers('calls', *_SUMS, 'duration_ms', *_HISTOGRAMS)}, "
        "PRIMARY KEY (time, series))"
        for table in ("figures", "everybody")
        for level in ("quarter", "hour", "day", "period")
    ),
    *(
        f"CREATE TABLE {table} ({_TIMES}, {_texts('tool')}, {_numbers('calls')}, PRIMARY KEY (time, series, tool))"
        for table in ("tools_quarter", "tools_day")
    ),
    f"""
    CREATE TABLE error_kinds (
        n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        {_texts("code", "native", "provider", "shape", "message", "example")}, {_numbers("at")},
        UNIQUE (code, native, provider, shape)
    )
    """,
    f"""
    CREATE TABLE errors_quarter (
        {_TIMES}, kind BIGINT NOT NULL REFERENCES error_kinds (n), {_numbers("calls")},
        PRIMARY KEY (time, series, kind)
    )
    """,
    "CREATE INDEX errors_by_kind ON errors_quarter (kind)",
    # the same sums by the terms of recorded headers (`store/header_sums.py`)
    *(
        f"CREATE TABLE header_{table}_{level} ({_TERM}, {_TIMES}, "
        f"{_numbers('calls', *_SUMS, 'duration_ms', *_HISTOGRAMS)}, PRIMARY KEY (term, time, series))"
        for table in ("figures", "everybody")
        for level in ("quarter", "hour", "day", "period")
    ),
    *(
        f"CREATE TABLE header_{table} ({_TERM}, {_TIMES}, {_texts('tool')}, {_numbers('calls')}, "
        "PRIMARY KEY (term, time, series, tool))"
        for table in ("tools_quarter", "tools_day")
    ),
    f"""
    CREATE TABLE header_errors_quarter (
        {_TERM}, {_TIMES}, {_numbers("kind", "calls")}, PRIMARY KEY (term, time, series, kind)
    )
    """,
    f"""
    CREATE TABLE health (
        {_texts("provider", "model")}, {_numbers("success_at", "error_at")}, {_texts("error", "message", "call")},
        PRIMARY KEY (provider, model)
    )
    """,
    f"""
    CREATE TABLE balances (
        bucket {_TEXT} PRIMARY KEY, {_numbers("amount", "remainder")}, at DOUBLE PRECISION NOT NULL, terms {_TEXT}
    )
    """,
    f"""
    CREATE TABLE versions (
        n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at DOUBLE PRECISION NOT NULL, {_texts("who", "etag", "changed")}
    )
    """,
    f"CREATE TABLE open_calls (id {_TEXT} PRIMARY KEY, line BYTEA NOT NULL)",
    # the offset up to which each journal is applied; it changes in the same transaction as the rows
    f"CREATE TABLE place (journal {_TEXT} PRIMARY KEY, segment BIGINT NOT NULL, byte BIGINT NOT NULL)",
)

_LARGEST: Final = 2**63 - 1
"""The largest integer that a column can have. Sums stop there (`dialect.bounded`)."""
_MONTH: Final = (
    "CAST(extract(epoch FROM date_trunc('month', to_timestamp(time / 1000) AT TIME ZONE 'UTC')) AS BIGINT) * 1000"
)


def _months(name: str, *term: str) -> tuple[str, str, str]:
    """Return the statements that create a table of sums by month, fill it from the daily sums, and drop the table of
    sums by periods of 32 days.

    `term` is the name of the column with the header term. It is left out for tables without this column.
    """
    sums = ("calls", *_SUMS, "duration_ms", *_HISTOGRAMS)
    summed = ", ".join(f"GREATEST({-_LARGEST}, LEAST(sum({column}), {_LARGEST}))" for column in sums)
    key = ", ".join((*term, "time", "series"))
    columns = ", ".join((*(_TERM for _ in term), _TIMES, _numbers(*sums)))
    group = ", ".join((*term, _MONTH, "series"))
    names = ", ".join((key, *sums))
    return (
        f"CREATE TABLE {name}_month ({columns}, PRIMARY KEY ({key}))",
        f"INSERT INTO {name}_month ({names}) SELECT {group}, {summed} FROM {name}_day GROUP BY {group}",  # noqa: S608
        f"DROP TABLE {name}_period",
    )


_SECOND: Final = (
    # the positions of exports (`store/exports.py`), which read calls by their number
    CREATE_EXPORTS.format(text=_TEXT, integer="BIGINT NOT NULL"),
    "CREATE INDEX calls_by_number ON calls (n)",
)
_THIRD: Final = (
    *_months("figures"),
    *_months("everybody"),
    *_months("header_figures", "term"),
    *_months("header_everybody", "term"),
)

_SHARED: Final = (
    # the time since when the rule in `terms` is used, by the clock of the gateway that loaded it last
    "ALTER TABLE balances ADD COLUMN terms_at DOUBLE PRECISION NOT NULL DEFAULT 0",
    "CREATE INDEX balances_by_time ON balances (at)",
    # the gateways that share the balances; `epoch` counts their processes
    f"""
    CREATE TABLE gateways (
        journal {_TEXT} PRIMARY KEY, epoch BIGINT NOT NULL, ends_at DOUBLE PRECISION NOT NULL, is_ended BOOLEAN NOT NULL
    )
    """,
    f"""
    CREATE TABLE leases (
        {_texts("bucket", "journal")}, {_numbers("granted", "spent")}, PRIMARY KEY (bucket, journal)
    )
    """,
    "CREATE INDEX leases_by_journal ON leases (journal)",
    # "" for calls that an older release has sent, when a database had one gateway
    f"ALTER TABLE open_calls ADD COLUMN journal {_TEXT} DEFAULT ''",
)

_CONFIGURATIONS: Final = (
    # the last versions of the configuration that gateways share (`configurations.py`)
    f"""
    CREATE TABLE configurations (
        n BIGINT PRIMARY KEY, at DOUBLE PRECISION NOT NULL, {_texts("who", "text")}
    )
    """,
)

_FIGURES: Final = ("calls", *_SUMS, "duration_ms", *_HISTOGRAMS)
_OF_AGENT: Final = ("provider", "model", "agent", "api", "status", "outcome")
_AGENTS: Final = (
    # daily sums by agent, over all callers
    f"CREATE TABLE agents_day ({_TIMES}, {_numbers(*_FIGURES)}, PRIMARY KEY (time, series))",
    f"""
    INSERT INTO series (identity, {", ".join(_OF_AGENT)}) SELECT DISTINCT '', {", ".join(_OF_AGENT)} FROM series
    ON CONFLICT DO NOTHING
    """,  # noqa: S608 (our own names)
    f"""
    INSERT INTO agents_day (time, series, {", ".join(_FIGURES)})
    SELECT f.time, a.n, {", ".join(f"GREATEST({-_LARGEST}, LEAST(sum(f.{name}), {_LARGEST}))" for name in _FIGURES)}
    FROM figures_day f JOIN series s ON s.n = f.series
    JOIN series a ON a.identity = '' AND {" AND ".join(f"a.{name} = s.{name}" for name in _OF_AGENT)}
    GROUP BY f.time, a.n
    """,  # noqa: S608 (our own names)
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST, _SECOND, _THIRD, _SHARED, _CONFIGURATIONS, _AGENTS)


def migrate(connection: Connection, name: str) -> None:
    """Bring a database to the newest version of the schema, within a transaction of the caller.

    The caller has a lock that keeps other gateways from migrating. Raises `StoreFailed` for a database that a later
    release wrote. `name` is the name of the database in messages.
    """
    version = schema_version(connection, name)
    if version == len(MIGRATIONS):
        return
    if version == 0:
        connection.execute("CREATE TABLE schema_version (version BIGINT NOT NULL)")
        connection.execute("INSERT INTO schema_version VALUES (0)")
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute("UPDATE schema_version SET version = ?", (len(MIGRATIONS),))


def is_outdated(connection: Connection, name: str) -> bool:
    """Return whether an older release made the tables of a database.

    Raises `StoreFailed` if a later release wrote the database.
    """
    return 0 < schema_version(connection, name) < len(MIGRATIONS)


def schema_version(connection: Connection, name: str) -> int:
    """Return the number of migrations that ran on a database, or 0 for an empty one.

    Raises `StoreFailed` if a later release wrote the database.
    """
    if connection.execute("SELECT to_regclass('schema_version') IS NULL").fetchone()[0]:
        return 0
    version = int(connection.execute("SELECT version FROM schema_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise StoreFailed(
            f"{name}: its schema is version {version} and this irisgate knows up to {len(MIGRATIONS)}; "
            "run the release that wrote it, or name another database"
        )
    return version
