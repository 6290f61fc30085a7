"""Makes reports about the calls with one value of a recorded header, if the store keeps no sums for this value.

The store keeps sums only for the first values of each header that it sees. So it has no sums for most values of a
header with many values, such as a request id. Each of these values has few calls. For a report about one value, its
calls are copied into a database in memory, and the report is made from that database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from typing import Final

import msgspec

from gateway.store.base import JournalOffset, TooManyCalls
from gateway.store.calls import CALL_COLUMNS, record_of
from gateway.store.entries import Entry
from gateway.store.header_index import MAX_VALUES, NUMBER
from gateway.store.reports.values import Selection
from gateway.store.schema import migrate
from gateway.store.sql import Connection
from gateway.store.writing import write

MAX_CALLS: Final = 200
"""Maximum number of calls that are read for a report. Reading them takes about 15 ms, and a page has several reports.
"""
_HAS_SUMS: Final = "SELECT has_sums FROM header_terms WHERE term = ?"
_CALLS: Final = f"""
SELECT c.at, c.n, {", ".join(f"c.{name}" for name in CALL_COLUMNS)}
FROM call_headers h CROSS JOIN calls c ON c.n = h.call
WHERE h.term = {NUMBER} AND h.time >= ? AND h.time < ? LIMIT {MAX_CALLS + 1}
"""  # noqa: S608 (our own names)
_HEALTH: Final = "provider, model, success_at, error_at, error, message, call"


@contextmanager
def with_sums(connection: Connection, selection: Selection) -> Iterator[tuple[Connection, Selection]]:
    """Yield a connection to a database with sums over the selected calls, and the selection to use with it.

    Usually these are the arguments, unchanged. If the store keeps no sums for the selected value of a header, the
    connection is to a database in memory. This database has only the calls with this value, so the yielded selection
    does not name the header. Raises `TooManyCalls` if more than `MAX_CALLS` calls in the range of time have the value.
    """
    term = selection.header
    stored = None if term is None else connection.execute(_HAS_SUMS, (term,)).fetchone()
    if term is None or stored is None or stored[0]:
        yield connection, selection
        return
    span = selection.span
    rows = connection.execute(_CALLS, (term, round(span.since * 1000), round(span.until * 1000))).fetchall()
    if len(rows) > MAX_CALLS:
        name = term.partition(":")[0]
        raise TooManyCalls(
            f'"{term}" has more than {MAX_CALLS} calls in this range, and no sums, which only the first {MAX_VALUES} '
            f"values of {name} have; choose a shorter range, or read its calls"
        )
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as few:
        few.deserialize(_empty())
        # without headers, which need sums of their own
        calls = [msgspec.structs.replace(record_of(row), headers={}) for row in rows]
        write(few, [Entry(call=call) for call in calls], JournalOffset())
        # the health of a model is that of all its calls
        few.execute("DELETE FROM health")
        health = connection.execute(f"SELECT {_HEALTH} FROM health")  # noqa: S608 (our own names)
        few.executemany(f"INSERT INTO health ({_HEALTH}) VALUES (?, ?, ?, ?, ?, ?, ?)", health)  # noqa: S608
        yield few, msgspec.structs.replace(selection, header=None)


@cache
def _empty() -> bytes:
    """Return the content of an SQLite file with empty tables. The content is cached, because creating the tables takes
    7 ms.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, "memory")
        return connection.serialize()
