"""Transactions of the SQLite store: writing a batch of entries, and deleting expired calls and sessions.

- A batch and its offset in the journal are written in one transaction, so each entry is applied exactly once.
- A call that is in the store already is ignored, and changes no sums. This happens, for example, after a file was
  restored from a backup.

Most SQL statements are in `rows.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson

from gateway.contract.record import Record
from gateway.store import rows
from gateway.store.base import JournalOffset
from gateway.store.calls import INSERT_CALL, call_row
from gateway.store.entries import Balance, Entry, SentCall, Version
from gateway.store.figures_writing import add_figures, expire_texts
from gateway.store.header_index import add_to_index, expiring, remove_from_index, terms_with_rows
from gateway.store.sums import SessionShare, sum_calls

_LOOKUP_ROWS: Final = 500
"""Maximum number of rows that one statement looks up, because SQLite limits the number of values in a statement."""
_LARGEST: Final = 2**63 - 1
"""Maximum integer in an SQLite column. In nanodollars, it is about nine billion dollars."""
_UPSERT_BALANCE: Final = """
INSERT INTO balances (bucket, amount, remainder, at, terms) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (bucket) DO UPDATE SET
    amount = excluded.amount, remainder = excluded.remainder, at = excluded.at, terms = excluded.terms
"""
_UPSERT_OPEN: Final = """
INSERT INTO open_calls (id, line) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET line = excluded.line
"""
_EXPIRED: Final = "SELECT {} FROM calls INDEXED BY calls_by_time WHERE at < ? ORDER BY at, n LIMIT ?"
_OF_SESSIONS: Final = (
    ("session_models", "session"),
    ("session_tools", "session"),
    ("session_headers", "session"),
    ("sessions", "n"),
)
"""Tables with rows of sessions, and the columns with the session's number."""
_ENDED: Final = "SELECT n FROM sessions INDEXED BY sessions_by_time WHERE last_at < ? ORDER BY last_at, n LIMIT ?"


def write(connection: sqlite3.Connection, entries: Sequence[Entry], offset: JournalOffset) -> None:
    """Write a batch of entries, and the journal's offset after them.

    Raises `sqlite3.Error`, and writes nothing, if a statement fails.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        ended = [entry.call for entry in entries if entry.call is not None]
        inserted = _insert(connection, ended)
        sums = sum_calls(inserted)
        add_sessions(connection, sums.sessions)
        add_figures(connection, sums)
        add_to_index(connection, terms_with_rows(inserted))
        _update_open(connection, [entry.sent for entry in entries if entry.sent is not None], ended)
        _upsert_balances(connection, [balance for entry in entries for balance in entry.balances])
        for version in [entry.version for entry in entries if entry.version is not None]:
            _insert_version(connection, version)
        connection.execute("UPDATE place SET segment = ?, offset = ?", offset)
        connection.execute("COMMIT")
    except BaseException:
        # SQLite may have rolled the transaction back already, as after a disk error
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _insert(connection: sqlite3.Connection, records: Iterable[Record]) -> Sequence[tuple[Any, ...]]:
    """Insert calls, and return the rows of the calls that were not in the store yet.

    Of several calls with the same id, only the first is inserted.
    """
    inserted = [call_row(record) for record in records]
    top = connection.execute("SELECT coalesce(max(n), 0) FROM calls").fetchone()
    if connection.executemany(INSERT_CALL, inserted).rowcount == len(inserted):
        return inserted
    # rarely, some calls are in the table already; the new calls are those with higher numbers than all former rows
    new = {key for (key,) in connection.execute("SELECT id FROM calls WHERE n > ?", top)}
    first: dict[str, tuple[Any, ...]] = {}
    for row in inserted:
        first.setdefault(row[0], row)
    return [row for key, row in first.items() if key in new]


def _update_open(connection: sqlite3.Connection, sent: Sequence[SentCall], ended: Sequence[Record]) -> None:
    """Update the table of open calls: insert the calls that were sent, and delete the calls that have ended.

    If a call is sent again to another provider, its new row replaces the old one. A call that has ended within the
    batch is not inserted.
    """
    ends = {record.id for record in ended}
    opened = [(call.id, msgspec.json.encode(call)) for call in sent if call.id not in ends]
    connection.executemany(_UPSERT_OPEN, opened)
    connection.executemany("DELETE FROM open_calls WHERE id = ?", [(key,) for key in ends])


def add_sessions(connection: sqlite3.Connection, shares: Mapping[tuple[str, str], SessionShare]) -> None:
    """Add the sums over a batch of calls to the stored sessions. The keys of `shares` are (identity, session id)."""
    connection.executemany(rows.UPSERT_SESSION, [rows.session_row(*key, share) for key, share in shares.items()])
    numbers = _numbers(connection, list(shares))
    models = [
        (numbers[key], provider, model, at)
        for key, share in shares.items()
        for (provider, model), at in share.models.items()
    ]
    tools = [(numbers[key], tool, calls) for key, share in shares.items() for tool, calls in share.tools.items()]
    connection.executemany(rows.UPSERT_MODEL, models)
    connection.executemany(rows.UPSERT_TOOL, tools)


def _numbers(connection: sqlite3.Connection, keys: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return the row numbers of sessions, by (identity, session id)."""
    numbers: dict[tuple[str, str], int] = {}
    for start in range(0, len(keys), _LOOKUP_ROWS):
        some = keys[start : start + _LOOKUP_ROWS]
        marks = ", ".join("(?, ?)" for _ in some)
        # a join in a fixed order uses the index; with `(identity, id) IN (...)`, SQLite reads the whole table
        statement = (
            f"WITH wanted (identity, id) AS (VALUES {marks}) SELECT s.identity, s.id, s.n FROM wanted w "  # noqa: S608
            "CROSS JOIN sessions s ON s.id = w.id AND s.identity = w.identity"
        )
        values = [text for key in some for text in key]
        numbers |= {(identity, key): number for identity, key, number in connection.execute(statement, values)}
    return numbers


def _upsert_balances(connection: sqlite3.Connection, balances: Sequence[Balance]) -> None:
    """Write the last balance of each bucket, limited to the range of integers in SQLite."""
    last = {balance.bucket: balance for balance in balances}
    connection.executemany(
        _UPSERT_BALANCE,
        [(bucket, _clamp(left.amount), _clamp(left.remainder), left.at, left.terms) for bucket, left in last.items()],
    )


def _clamp(amount: int) -> int:
    return max(-_LARGEST, min(amount, _LARGEST))


def _insert_version(connection: sqlite3.Connection, version: Version) -> None:
    """Insert a change of the configuration, unless it is stored already. A journal may have the same line twice."""
    changed = orjson.dumps(version.changed).decode()
    row = (version.at, version.who, version.etag, changed)
    connection.execute(
        "INSERT INTO versions (at, who, etag, changed) SELECT ?, ?, ?, ? "
        "WHERE NOT EXISTS (SELECT 1 FROM versions WHERE at = ? AND etag = ?)",
        (*row, version.at, version.etag),
    )


def expire(connection: sqlite3.Connection, before: float, limit: int) -> int:
    """Delete calls that began before the Unix time `before`, and sessions that ended before this time, oldest first.

    At most `limit` calls and `limit` sessions are deleted. Errors and uses of tools before this time are deleted too,
    because they contain texts chosen by clients and providers. Return the number of deleted calls.
    """
    time = round(before * 1000)
    connection.execute("BEGIN IMMEDIATE")
    try:
        with_headers = expiring(connection, _EXPIRED.format("n, at, headers"), (time, limit))
        deleted = connection.execute(f"DELETE FROM calls WHERE n IN ({_EXPIRED.format('n')})", (time, limit)).rowcount  # noqa: S608
        remove_from_index(connection, with_headers)
        ended = [number for (number,) in connection.execute(_ENDED, (time, limit))]
        for table, column in _OF_SESSIONS:
            statement = f"DELETE FROM {table} WHERE {column} = ?"  # noqa: S608 (our own names)
            connection.executemany(statement, [(number,) for number in ended])
        expire_texts(connection, time)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if 0 < deleted < limit:
        # the write-ahead log still contains the deleted rows, so it is emptied; a reader may delay this until later
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted
