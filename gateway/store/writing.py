"""Transactions of the SQLite store: writing a batch of entries, and deleting expired calls and sessions.

- A batch and its offset in the journal are written in one transaction, so each entry is applied exactly once.
- A call that is in the store already is ignored, and changes no sums. This happens, for example, after a file was
  restored from a backup.

The sums and everything else that a batch changes are written by `adding.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from gateway.contract.record import Record
from gateway.store.adding import add_entries, ended_calls, write_balances
from gateway.store.base import JournalOffset
from gateway.store.calls import INSERT_CALL, call_row
from gateway.store.entries import Entry
from gateway.store.exports import forget_numbers
from gateway.store.figures_writing import expire_texts
from gateway.store.header_index import expiring, remove_from_index
from gateway.store.header_sums import purge_forgotten

_EXPIRED: Final = "SELECT {} FROM calls INDEXED BY calls_by_time WHERE at < ? ORDER BY at, n LIMIT ?"
_OF_SESSIONS: Final = (
    ("session_models", "session"),
    ("session_tools", "session"),
    ("session_headers", "session"),
    ("sessions", "n"),
)
"""The tables with rows of a session, each with the column that has the session's row number. An expired session is
deleted from them."""
_ENDED: Final = "SELECT n FROM sessions INDEXED BY sessions_by_time WHERE last_at < ? ORDER BY last_at, n LIMIT ?"


def write(connection: sqlite3.Connection, entries: Sequence[Entry], offset: JournalOffset) -> None:
    """Write a batch of entries, and the journal's offset after them.

    Raises `sqlite3.Error`, and writes nothing, if a statement fails.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        add_entries(connection, entries, _insert(connection, ended_calls(entries)))
        write_balances(connection, entries)
        connection.execute("UPDATE place SET segment = ?, offset = ?", offset)
        connection.execute("COMMIT")
    except BaseException:
        # SQLite may have rolled the transaction back already, as after a disk error
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _insert(connection: sqlite3.Connection, records: Iterable[Record]) -> Sequence[tuple[Any, ...]]:
    """Insert calls, and return the rows of those that were not in the store yet.

    If several calls have the same id, only the first is inserted.
    """
    inserted = [call_row(record) for record in records]
    top = connection.execute("SELECT coalesce(max(n), 0) FROM calls").fetchone()
    forget_numbers(connection, *top)
    if connection.executemany(INSERT_CALL, inserted).rowcount == len(inserted):
        return inserted
    # rarely, some calls are in the table already; the new calls are those with higher numbers than all former rows
    new = {key for (key,) in connection.execute("SELECT id FROM calls WHERE n > ?", top)}
    first: dict[str, tuple[Any, ...]] = {}
    for row in inserted:
        first.setdefault(row[0], row)
    return [row for key, row in first.items() if key in new]


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
        purge_forgotten(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if 0 < deleted < limit:
        # the write-ahead log still contains the deleted rows, so it is emptied; a reader may delay this until later
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted
