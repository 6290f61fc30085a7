"""Writes a batch of entries to a store, within a transaction of the caller.

This module has statements that SQLite and PostgreSQL share. `writing.py` and `postgres/writing.py` begin the
transaction and insert the calls themselves. More SQL statements are in `rows.py` and `figures_writing.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import orjson

from gateway.contract.record import Record
from gateway.store import rows
from gateway.store.entries import Entry, SentCall, Version
from gateway.store.figures_writing import add_figures
from gateway.store.header_index import add_to_index, terms_with_rows
from gateway.store.header_sums import add_header_sums
from gateway.store.sql import Connection
from gateway.store.sums import Row, SessionShare, sum_calls

_LOOKUP_ROWS: Final = 500
"""Maximum number of rows that one statement looks up, because SQLite limits the number of values in a statement."""
_LARGEST: Final = 2**63 - 1
"""The largest integer that a column can have. Balances are limited to it. In nanodollars, it is about nine billion
dollars."""
_UPSERT_BALANCE: Final = """
INSERT INTO balances (bucket, amount, remainder, at, terms) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (bucket) DO UPDATE SET
    amount = excluded.amount, remainder = excluded.remainder, at = excluded.at, terms = excluded.terms
"""
_UPSERT_OPEN: Final = """
INSERT INTO open_calls (id, line) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET line = excluded.line
"""


def ended_calls(entries: Sequence[Entry]) -> list[Record]:
    """Return the records of the calls that have ended, from a batch of entries."""
    return [entry.call for entry in entries if entry.call is not None]


def add_entries(connection: Connection, entries: Sequence[Entry], new: Sequence[Row]) -> None:
    """Write the changes that follow from a batch of entries, within a transaction of the caller. The caller itself
    inserts the ended calls, and writes the balances.

    This function writes the sums over the ended calls, the index of their recorded headers, the open calls, and the
    changes of the configuration. `new` are the rows of the ended calls that were not in the store before the batch.
    Only these calls are summed and indexed.
    """
    sums = sum_calls(new)
    add_sessions(connection, sums.sessions)
    add_figures(connection, sums)
    if by_term := terms_with_rows(new):
        add_to_index(connection, by_term)
        add_header_sums(connection, by_term)
    _update_open(connection, [entry.sent for entry in entries if entry.sent is not None], ended_calls(entries))
    for version in [entry.version for entry in entries if entry.version is not None]:
        _insert_version(connection, version)


def _update_open(connection: Connection, sent: Sequence[SentCall], ended: Sequence[Record]) -> None:
    """Update the table of open calls: insert the calls that were sent, and delete the calls that have ended.

    If a call is sent again to another provider, its new row replaces the old one. A call that has ended within the
    batch is not inserted.
    """
    ends = {record.id for record in ended}
    opened = [(call.id, msgspec.json.encode(call)) for call in sent if call.id not in ends]
    connection.executemany(_UPSERT_OPEN, opened)
    connection.executemany("DELETE FROM open_calls WHERE id = ?", [(key,) for key in ends])


def add_sessions(connection: Connection, shares: Mapping[tuple[str, str], SessionShare]) -> None:
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


def _numbers(connection: Connection, keys: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
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


def write_balances(connection: Connection, entries: Sequence[Entry]) -> None:
    """Write the balances of quota buckets in a batch. If the batch has several balances of one bucket, the last one is
    written. Each balance is limited to the range of its column.
    """
    last = {balance.bucket: balance for entry in entries for balance in entry.balances}
    connection.executemany(
        _UPSERT_BALANCE,
        [(bucket, _clamp(left.amount), _clamp(left.remainder), left.at, left.terms) for bucket, left in last.items()],
    )


def _clamp(amount: int) -> int:
    return max(-_LARGEST, min(amount, _LARGEST))


def _insert_version(connection: Connection, version: Version) -> None:
    """Insert a change of the configuration, unless it is stored already. A journal may have the same line twice."""
    changed = orjson.dumps(version.changed).decode()
    row = (version.at, version.who, version.etag, changed)
    connection.execute(
        "INSERT INTO versions (at, who, etag, changed) SELECT ?, ?, ?, ? "
        "WHERE NOT EXISTS (SELECT 1 FROM versions WHERE at = ? AND etag = ?)",
        (*row, version.at, version.etag),
    )
