"""Transactions of the PostgreSQL store: writing a batch of entries, and deleting expired calls and sessions.

- A batch and its offset in the journal are written in one transaction, so each entry is applied exactly once.
- A call that is in the store already is ignored, and changes no sums.
- Transactions that write wait for one another (advisory lock `WRITING`). Without this lock, two transactions could
  update the same sums in different orders, and PostgreSQL would end the deadlock by rolling one of them back.

The sums and everything else that a batch changes are written by `store/adding.py`, as in SQLite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.contract.record import Record
from gateway.store.adding import add_entries, ended_calls, write_balances
from gateway.store.base import JournalOffset
from gateway.store.calls import CALL_COLUMNS, call_row
from gateway.store.entries import Entry
from gateway.store.figures_writing import expire_texts
from gateway.store.header_index import expiring, remove_from_index
from gateway.store.header_sums import purge_forgotten
from gateway.store.postgres.connection import TOO_LARGE, PostgresConnection
from gateway.store.postgres.dialect import storable
from gateway.store.postgres.months import drop_months, make_months
from gateway.store.postgres.shared_balances import charge

LOCKS: Final = 0x49524953
"""First of the two numbers of an advisory lock that concerns all gateways of a database: "IRIS" in ASCII. The second
number is `STARTING`, `WRITING` or `HOUSEKEEPING`."""
STARTING: Final = 1
"""Second number of the advisory lock that a gateway holds at its start, while it migrates the schema."""
WRITING: Final = 2
"""Second number of the advisory lock that a transaction holds while it writes."""

HOUSEKEEPING: Final = 3
"""Second number of an advisory lock. The gateway that holds this lock deletes the expired calls of all gateways."""

_COLUMNS: Final = ", ".join(CALL_COLUMNS)
CREATE_BATCH: Final = f"""
CREATE TEMPORARY TABLE batch ON COMMIT DELETE ROWS AS SELECT {_COLUMNS}, n AS position FROM calls WITH NO DATA
"""  # noqa: S608 (our own names)
"""Statement that creates a temporary table. A batch of calls is copied to this table first, and then inserted from
there. Each connection that writes has its own table."""
_INSERT: Final = f"""
INSERT INTO calls ({_COLUMNS}) SELECT {_COLUMNS} FROM batch ORDER BY position ON CONFLICT (id, at) DO NOTHING
RETURNING id, at
"""  # noqa: S608 (our own names)
_AT: Final = CALL_COLUMNS.index("at")
_PLACE: Final = """
INSERT INTO place (journal, segment, byte) VALUES (?, ?, ?)
ON CONFLICT (journal) DO UPDATE SET segment = excluded.segment, byte = excluded.byte
"""
_EXPIRED: Final = "SELECT {} FROM calls WHERE at < ? ORDER BY at, n LIMIT ?"
_EXPIRE_CALLS: Final = f"""
WITH expired AS ({_EXPIRED.format("id, at")}),
    deleted AS (DELETE FROM calls c USING expired e WHERE c.id = e.id AND c.at = e.at RETURNING 1)
SELECT count(*) FROM deleted
"""  # noqa: S608 (our own names)
_EXPIRE_SESSIONS: Final = """
DELETE FROM sessions WHERE n IN (SELECT n FROM sessions WHERE last_at < ? ORDER BY last_at, n LIMIT ?)
"""


def lock(connection: PostgresConnection, number: int) -> None:
    """Wait for an advisory lock of the database. It is released at the end of the transaction."""
    connection.execute("SELECT pg_advisory_xact_lock(CAST(? AS INTEGER), CAST(? AS INTEGER))", (LOCKS, number))


def write(
    connection: PostgresConnection, journal: str, entries: Sequence[Entry], offset: JournalOffset, *, is_shared: bool
) -> None:
    """Write a batch of entries, and the journal's offset after them. Nothing is written if a statement fails.

    If several gateways share the quota balances (`is_shared`), this function also charges the calls to the balances. A
    gateway with its own balances has already charged the calls, and the batch has the new balances.

    If a sum becomes too large for its column, the batch is written again, with sums that stop at the largest integer
    (`dialect.bounded`). Without this, one batch would block all later batches.
    """
    try:
        _write(connection, journal, entries, offset, is_shared=is_shared)
    except TOO_LARGE:
        connection.is_bounded = True
        try:
            _write(connection, journal, entries, offset, is_shared=is_shared)
        finally:
            connection.is_bounded = False


def _write(
    connection: PostgresConnection, journal: str, entries: Sequence[Entry], offset: JournalOffset, *, is_shared: bool
) -> None:
    with connection.transaction():
        lock(connection, WRITING)
        new = _insert(connection, ended_calls(entries))
        add_entries(connection, entries, new)
        connection.execute("UPDATE open_calls SET journal = ? WHERE journal = ''", (journal,))
        connection.execute(_PLACE, (journal, *offset))
        # at the end, because calls of all gateways wait for these rows
        if is_shared:
            charge(connection, journal, entries, new)
        else:
            write_balances(connection, entries)


def _insert(connection: PostgresConnection, records: Sequence[Record]) -> Sequence[tuple[Any, ...]]:
    """Insert calls, and return the rows of the calls that were not in the store yet.

    A call is not inserted if the store has a call with the same id and time.
    """
    if not records:
        return []
    given = [storable(call_row(record)) for record in records]
    make_months(connection, (row[_AT] for row in given))
    rows = [(*row, position) for position, row in enumerate(given)]
    connection.copy("batch", (*CALL_COLUMNS, "position"), rows)
    new = set(connection.execute(_INSERT))
    if len(new) == len(given):
        return given
    first: dict[tuple[str, int], tuple[Any, ...]] = {}
    for row in given:
        first.setdefault((row[0], row[_AT]), row)
    return [row for key, row in first.items() if key in new]


def expire(connection: PostgresConnection, before: float, limit: int) -> int:
    """Delete calls that began before the Unix time `before`, and sessions that ended before it, the oldest first.
    Return the number of deleted calls.

    A month that ended before this time is dropped as a whole partition. From other months, at most `limit` calls are
    deleted. At most `limit` sessions are deleted. Counts of errors and of tool uses before this time are deleted too.

    If several gateways share the database, only the gateway with the lock `HOUSEKEEPING` does this. In the others, this
    function does nothing.
    """
    if not _keeps_house(connection):
        return 0
    time = round(before * 1000)
    with connection.transaction():
        lock(connection, WRITING)
        dropped = drop_months(connection, time)
        with_headers = expiring(connection, _EXPIRED.format("n, at, headers"), (time, limit))
        deleted = connection.execute(_EXPIRE_CALLS, (time, limit)).fetchone()[0]
        remove_from_index(connection, with_headers)
        connection.execute(_EXPIRE_SESSIONS, (time, limit))
        expire_texts(connection, time)
        purge_forgotten(connection)
    return int(dropped + deleted)


def _keeps_house(connection: PostgresConnection) -> bool:
    """Return whether this gateway must delete the expired calls of all gateways: its connection holds the advisory lock
    `HOUSEKEEPING`.

    If no connection holds the lock, this connection takes it here.
    """
    if not connection.keeps_house:
        statement = "SELECT pg_try_advisory_lock(CAST(? AS INTEGER), CAST(? AS INTEGER))"
        connection.keeps_house = connection.execute(statement, (LOCKS, HOUSEKEEPING)).fetchone()[0]
    return connection.keeps_house
