"""The index of calls and sessions by recorded headers (`Record.headers`).

A term is what a filter names: a header, such as `x-team`, or a header and a value, such as `x-team:alpha`. The name of
a header contains no colon, so it ends at the first colon of the term. Each header of a call is indexed under two terms:
without and with its value.

- The table `header_terms` gives each term a number.
- The table `call_headers` has the calls of each term, in the order of time.
- The table `session_headers` has the sessions of each term.

When the last call with a term is deleted, the text of the term is deleted too, because a client has chosen it. If the
store has no sums for the term (`header_sums.py`), its row in `header_terms` is deleted. Otherwise the row stays,
without the text, until the sums are deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

import orjson

from gateway.store.calls import CALL_COLUMNS
from gateway.store.sql import Connection

Row = tuple[Any, ...]
"""The values of a call's row, in the order of `CALL_COLUMNS`."""

NO_HEADERS: Final = "{}"
"""The value of the column `headers` of a call without recorded headers."""
MAX_VALUES: Final = 1_000
"""Maximum number of values of one header for which the store keeps sums. The sums for one value may take as many rows
as the sums over all calls."""
RARE: Final = 10_000
"""Number of calls below which a header term (`x-team` or `x-team:alpha`) is rare.

A search for one caller's calls with a rare term reads all calls with the term. If the term is not rare, it is faster to
read the caller's calls, and to check each of them for the term."""
_LOOKUP_ROWS: Final = 512
"""Maximum number of rows that one statement looks up, because SQLite limits the number of values in a statement."""
_HEADERS: Final = itemgetter(CALL_COLUMNS.index("headers"))
_CALL: Final = itemgetter(CALL_COLUMNS.index("id"), CALL_COLUMNS.index("at"))
_SESSION: Final = itemgetter(CALL_COLUMNS.index("session_id"), CALL_COLUMNS.index("identity"))

NUMBER: Final = "(SELECT n FROM header_terms WHERE term = ?)"
"""SQL of the row number of a header term in `header_terms`. The placeholder is for the text of the term. The number is
null if no stored call has the term.
"""
OF_CALL: Final = f"EXISTS (SELECT 1 FROM call_headers h WHERE h.term = {NUMBER} AND h.time = {{at}} AND h.call = {{n}})"  # noqa: S608
"""SQL condition that is true if a call has a given header term (`x-team` or `x-team:alpha`). `{at}` and `{n}` must be
replaced by the names of the columns with the call's time and number."""
OF_SESSION: Final = f"n IN (SELECT session FROM session_headers WHERE term = {NUMBER})"  # noqa: S608 (our own names)
"""SQL condition that is true if at least one call of a session has a given header term (`x-team` or `x-team:alpha`).
The placeholder is for the term."""
_IS_RARE: Final = f"SELECT count(*) < {RARE} FROM (SELECT 1 FROM call_headers WHERE term = {NUMBER} LIMIT {RARE}) t"  # noqa: S608
_INSERT_CALL: Final = """
INSERT INTO call_headers (term, time, call) SELECT CAST(? AS BIGINT), at, n FROM calls WHERE id = ? AND at = ?
ON CONFLICT DO NOTHING
"""
_INSERT_SESSION: Final = """
INSERT INTO session_headers (term, session) SELECT CAST(? AS BIGINT), n FROM sessions WHERE id = ? AND identity = ?
ON CONFLICT DO NOTHING
"""
_DELETE_CALL: Final = "DELETE FROM call_headers WHERE term = ? AND time = ? AND call = ?"
_VALUES_WITH_SUMS: Final = "SELECT count(*) FROM header_terms WHERE has_sums = 1 AND term >= ? AND term < ?"
_IS_UNUSED: Final = "SELECT NOT EXISTS (SELECT 1 FROM call_headers WHERE term = ?)"
_ALL_UNUSED: Final = """
SELECT n FROM header_terms t WHERE term >= '!' AND NOT EXISTS (SELECT 1 FROM call_headers h WHERE h.term = t.n)
"""
FORGOTTEN: Final = "term < '!'"
"""SQL condition that is true for a header term whose text is deleted.

In place of a deleted text, the row has a space and a number. Only such a text sorts before "!", because header names
have no character below "!"."""
# a call is found by two terms for each of its headers, and by that with the value for certain
_MISSING: Final = """
FROM calls c, json_each(iif(json_valid(c.headers), c.headers, '{}')) j
WHERE c.headers <> '{}' AND NOT EXISTS (
    SELECT 1 FROM header_terms t CROSS JOIN call_headers h ON h.term = t.n AND h.time = c.at AND h.call = c.n
    WHERE t.term = j.key || ':' || j.value
)
"""


_INDEXED: Final = (("call_headers", "call", "calls"), ("session_headers", "session", "sessions"))
"""The tables of the index. An item has three names: a table of the index, its column with the row number of a call or
session, and the table in which this row is (`calls` or `sessions`)."""


@lru_cache(1024)
def terms_of(headers: str) -> tuple[str, ...]:
    """Return the header terms (`x-team` and `x-team:alpha`) of a call, from the value of its column `headers`."""
    return tuple(term for name, value in orjson.loads(headers).items() for term in (name, f"{name}:{value}"))


def terms_with_rows(calls: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the calls that have recorded headers, by header term (`x-team` or `x-team:alpha`)."""
    by_term: dict[str, list[Row]] = {}
    for row in calls:
        if _HEADERS(row) != NO_HEADERS:
            for term in terms_of(_HEADERS(row)):
                by_term.setdefault(term, []).append(row)
    return by_term


def add_to_index(connection: Connection, by_term: Mapping[str, Sequence[Row]]) -> None:
    """Add calls to the index of headers. `by_term` has the calls of each header term (`x-team` or `x-team:alpha`).

    The calls and their sessions must already be in the store.
    """
    numbers = term_numbers(connection, by_term)
    calls = [(numbers[term], *_CALL(row)) for term, rows in by_term.items() for row in rows]
    sessions = {(numbers[term], *_SESSION(row)) for term, rows in by_term.items() for row in rows if _SESSION(row)[0]}
    connection.executemany(_INSERT_CALL, calls)
    connection.executemany(_INSERT_SESSION, sorted(sessions))


def term_numbers(connection: Connection, wanted: Iterable[str]) -> dict[str, int]:
    """Return the row number of each header term (`x-team` or `x-team:alpha`) in the table `header_terms`. New terms are
    inserted.
    """
    terms = list(wanted)
    numbers = dict(_looked_up(connection, terms))
    if new := [term for term in terms if term not in numbers]:
        connection.executemany("INSERT INTO header_terms (term, has_sums) VALUES (?, ?)", _with_sums(connection, new))
        numbers |= _looked_up(connection, new)
    return numbers


def _with_sums(connection: Connection, new: Iterable[str]) -> Sequence[tuple[str, int]]:
    """Return pairs: each new term, and 1 if the store will keep sums for this term, else 0.

    Sums are kept for the name of a header, such as `x-team`, and for its first `MAX_VALUES` values, such as
    `x-team:alpha`.
    """
    counts: dict[str, int] = {}
    terms = []
    for term in new:
        name, colon, _ = term.partition(":")
        if colon and name not in counts:
            (counts[name],) = connection.execute(_VALUES_WITH_SUMS, values_of(name)).fetchone()
        terms.append((term, +(not colon or counts[name] < MAX_VALUES)))
        if colon:
            counts[name] += 1
    return terms


def values_of(name: str) -> tuple[str, str]:
    """Return two bounds in the sort order of the column `term`. Exactly the terms `name:value` of the header `name` are
    between them.

    The first bound is inclusive, and the second is exclusive.
    """
    # ";" is the character after ":"
    return f"{name}:", f"{name};"


def numbers_with_sums(connection: Connection, wanted: Iterable[str]) -> dict[str, int]:
    """Return the row number of each header term (`x-team` or `x-team:alpha`) in `wanted` for which the store keeps
    sums.
    """
    return dict(_looked_up(connection, list(wanted), "AND has_sums = 1"))


def _looked_up(connection: Connection, terms: Sequence[str], condition: str = "") -> Iterator[tuple[str, int]]:
    for start in range(0, len(terms), _LOOKUP_ROWS):
        some = terms[start : start + _LOOKUP_ROWS]
        marks = ", ".join("?" for _ in some)
        query = f"SELECT term, n FROM header_terms WHERE term IN ({marks}) {condition}"  # noqa: S608 (our own condition)
        yield from connection.execute(query, some)


def is_rare(connection: Connection, term: str) -> bool:
    """Return whether fewer than `RARE` stored calls have the header term (`x-team` or `x-team:alpha`)."""
    return bool(connection.execute(_IS_RARE, (term,)).fetchone()[0])


def expiring(connection: Connection, calls: str, values: Sequence[Any]) -> list[tuple[int, int, str]]:
    """Return the calls to remove from the index, for `remove_from_index`.

    `calls` is an SQL query that selects the expiring calls, with the columns `n`, `at` and `headers`. Calls without
    recorded headers are left out. An item of the result has a call's row number, its time in Unix milliseconds, and its
    headers as JSON.
    """
    query = f"SELECT n, at, headers FROM ({calls}) c WHERE headers <> '{NO_HEADERS}'"  # noqa: S608 (our own query)
    return connection.execute(query, values).fetchall()


def remove_from_index(connection: Connection, calls: Sequence[tuple[int, int, str]]) -> None:
    """Remove calls from the index of headers. Then delete the header terms (`x-team` or `x-team:alpha`) that no call in
    the index has any more.

    `calls` is a result of `expiring`. An item has a call's row number, its time and its headers.
    """
    numbers = term_numbers(connection, {term for _, _, headers in calls for term in terms_of(headers)})
    connection.executemany(
        _DELETE_CALL, [(numbers[term], at, call) for call, at, headers in calls for term in terms_of(headers)]
    )
    _forget(connection, [n for n in numbers.values() if connection.execute(_IS_UNUSED, (n,)).fetchone()[0]])


def _forget(connection: Connection, unused: Iterable[int]) -> None:
    """Delete header terms (`x-team` or `x-team:alpha`) that no stored call has. `unused` are their row numbers.

    If the store keeps sums for a term, only the text of the term is deleted, and its row stays (`FORGOTTEN`).
    """
    terms = [(number,) for number in unused]
    connection.executemany("DELETE FROM session_headers WHERE term = ?", terms)
    connection.executemany("DELETE FROM header_terms WHERE n = ? AND has_sums = 0", terms)
    connection.executemany("UPDATE header_terms SET term = ' ' || n WHERE n = ?", terms)


def forget_unused(connection: Connection) -> None:
    """Delete each header term (`x-team` or `x-team:alpha`) that no stored call has.

    If the store keeps sums for the term, only the text of the term is deleted, and its row stays (`FORGOTTEN`).
    """
    _forget(connection, [number for (number,) in connection.execute(_ALL_UNUSED).fetchall()])


def missing_headers(connection: Connection) -> int:
    """Return how many recorded headers of stored calls are missing in the index."""
    return int(connection.execute(f"SELECT count(*) {_MISSING}").fetchone()[0])


def complete_index(connection: Connection) -> None:
    """Add the stored calls that the index does not have. Remove the entries of calls and sessions that are not stored.

    The table `sessions` must already have the session of each stored call.
    """
    for table, column, of in _INDEXED:
        # two statements, because PostgreSQL looks for each row by itself if there is an OR
        for key, known in ((column, of), ("term", "header_terms")):
            connection.execute(
                f"DELETE FROM {table} WHERE NOT EXISTS (SELECT 1 FROM {known} k WHERE k.n = {table}.{key})"  # noqa: S608
            )
    columns = ", ".join(CALL_COLUMNS)
    lacking = connection.execute(f"SELECT {columns} FROM calls WHERE n IN (SELECT c.n {_MISSING})").fetchall()  # noqa: S608
    add_to_index(connection, terms_with_rows(lacking))
    forget_unused(connection)
