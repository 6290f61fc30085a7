"""Repair of the journal's files and of a database, for `irisgate doctor --repair`.

- Nothing is deleted. The damaged files are kept in a separate folder.
- No gateway may run on the files meanwhile (`journal.locked`).
- A repaired file replaces the damaged one in one step, so a killed repair can be run again.
- A repaired database may lack rows. At the next start, the gateway writes the rows that are still in the journal. The
  store ignores journal entries that it already has.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.store import header_sums
from gateway.store.adding import add_sessions
from gateway.store.calls import CALL_COLUMNS, record_of
from gateway.store.entries import decode
from gateway.store.examine import MISSING_SUMS, SAME_SERIES, SERIES_KEY, UNREADABLE, BadLine, Segment, opened
from gateway.store.figures_writing import AGENT_TABLES, EVERYBODY_TABLES, FIGURE_TABLES
from gateway.store.file import connect, prepare
from gateway.store.header_index import complete_index
from gateway.store.recount import recount_texts
from gateway.store.sql import bounded_sum
from gateway.store.state_files import keep, parts, sync, write_private
from gateway.store.sums import FIGURES, Series, sum_calls
from gateway.store.units import Unit

_BLANK: Final = b" "
_REPAIRED: Final = ".repaired"
"""Suffix of the name of a new file, until the file replaces the damaged one."""
_MOST_ROWS_OF_PAGE: Final = 1024
"""An upper bound for the number of rows in a page of a table. A page has 4,096 bytes."""
_BEYOND: Final = 2**53
"""A number that is greater than the keys of all rows. The search for readable rows ends there."""


class Table(NamedTuple):
    """A table of the database, and the column by which its rows are sorted when they are read."""

    name: str
    key: str
    is_numbered: bool = True
    """True if the values of the column `key` are numbers. Then reading can continue at a higher number after damaged
    rows."""


_OF_SERIES: Final = (*FIGURE_TABLES, *AGENT_TABLES, *EVERYBODY_TABLES, "tools_quarter", "tools_day", "errors_quarter")
"""Tables of sums by series. The column `series` of these tables has a row number in the table `series`."""
TABLES: Final = (
    Table("calls", "n"),
    Table("sessions", "n"),
    Table("session_models", "session"),
    Table("session_tools", "session"),
    Table("header_terms", "n"),
    Table("call_headers", "term"),
    Table("session_headers", "term"),
    Table("series", "n"),
    *(Table(name, "time") for name in _OF_SERIES),
    *(Table(name, "term") for name in header_sums.TABLES),
    Table("error_kinds", "n"),
    Table("health", "provider", is_numbered=False),
    Table("balances", "bucket", is_numbered=False),
    Table("versions", "n"),
    Table("open_calls", "id", is_numbered=False),
    Table("place", "one"),
    Table("exports", "name", is_numbered=False),
)


def repair_segment(segment: Segment, aside: Path) -> None:
    """Replace the damaged lines of a journal file by blanks, and cut off an incomplete last line.

    The file is copied to the folder `aside` first. Other lines keep their offsets, so that the offset in the store
    stays right. Lines of another release are kept. Raises `OSError` if a file cannot be read or written.
    """
    data = bytearray(segment.path.read_bytes())
    for line in segment.bad:
        match line:
            case BadLine(start, end, "damaged"):
                data[start:end] = _BLANK * (end - start)
            case BadLine(start, _, "torn"):
                del data[start:]
    keep(segment.path, aside)
    repaired = segment.path.with_name(segment.path.name + _REPAIRED)
    write_private(repaired, bytes(data))
    repaired.replace(segment.path)
    sync(segment.path.parent)


def retry_unreadable(unreadable: Path, following: Path, aside: Path) -> int:
    """Move those lines from the file `unreadable` that this release can read to the new journal file `following`.
    Return their number.

    `unreadable` is first copied to the folder `aside`. Raises `OSError` if a file cannot be read or written.
    """
    lines = unreadable.read_bytes().split(b"\n")
    still = decode(lines)[1]
    bad = frozenset(still)
    again = [line for line in lines if line.strip() and line not in bad]
    if not again:
        return 0
    keep(unreadable, aside)
    write_private(following, b"".join(line + b"\n" for line in again))
    rest = unreadable.with_name(unreadable.name + _REPAIRED)
    write_private(rest, b"".join(line + b"\n" for line in still))
    rest.replace(unreadable)
    sync(unreadable.parent)
    return len(again)


def move_aside(path: Path, aside: Path) -> None:
    """Move a database with its write-ahead log to `aside`. The gateway creates a new database when it starts.

    Raises `OSError` if a file cannot be moved.
    """
    for part in parts(path):
        keep(part, aside)
    for part in reversed(parts(path)):
        part.unlink()


def rebuild_database(path: Path, aside: Path) -> dict[str, int]:
    """Replace a database by a new one with all rows that can be read. Return the number of rows by table.

    The damaged files are kept in the folder `aside`. Raises `OSError` or `StoreFailed` if this fails.
    """
    new = path.with_name(path.name + _REPAIRED)
    for leftover in parts(new):
        leftover.unlink()
    prepare(new)
    with closing(connect(new)) as target:
        target.execute("BEGIN")
        try:
            with opened(path) as source:
                # tables before a damaged page of the schema can then be read
                source.execute("PRAGMA writable_schema = ON")
                rows = {table.name: _copy(source, target, table) for table in TABLES}
        except UNREADABLE:
            # not even the first page can be read
            rows = {table.name: 0 for table in TABLES}
        _complete(target)
        target.execute("COMMIT")
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sync(new)
    for part in parts(path):
        keep(part, aside)
    # a write-ahead log beside the database of another file would damage it (sqlite.org/howtocorrupt.html, 1.4)
    for part in parts(path)[1:]:
        part.unlink()
    new.replace(path)
    sync(path.parent)
    return rows


def rebuild_sums(path: Path) -> None:
    """Correct the sums that count fewer calls than are stored. Raises `sqlite3.Error` or `StoreFailed` on failure."""
    with closing(connect(path)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.execute("BEGIN IMMEDIATE")
        _complete_sums(connection)
        connection.execute("COMMIT")


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, table: Table) -> int:
    """Copy each row that can be read and has values of the right types. Return the number of copied rows."""
    types = {name: kind for _, name, kind, *_ in target.execute(f"PRAGMA table_info({table.name})")}
    try:
        pages = source.execute("PRAGMA page_count").fetchone()[0]
        present = {name for _, name, *_ in source.execute(f"PRAGMA table_info({table.name})")}
    except UNREADABLE:
        return 0
    columns = [table.key, *(name for name in types if name in present and name != table.key)]
    if table.key not in present:
        return 0
    names = ", ".join(columns)
    marks = ", ".join("?" for _ in columns)
    # the table `place` of a new database already has a row
    insert = f"INSERT OR REPLACE INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608 (our own names)
    kinds = [types[name] for name in columns]
    copied = 0
    most = pages * _MOST_ROWS_OF_PAGE  # damaged pages that point to each other would yield rows endlessly
    select = f"SELECT {names} FROM {table.name}"  # noqa: S608 (our own names)
    for row in islice(_rows(source, select, table), most):
        if _is_sound(table, columns, row, kinds):
            with suppress(sqlite3.IntegrityError):
                target.execute(insert, row)
                copied += 1
    return copied


def _is_sound(table: Table, columns: list[str], row: tuple[Any, ...], kinds: list[str]) -> bool:
    """Return whether the values of a row have the types of their columns. A row of `calls` must also be readable as a
    call.
    """
    if not all(value is None or isinstance(value, _TYPES[kind]) for value, kind in zip(row, kinds, strict=True)):
        return False
    values = dict(zip(columns, row, strict=True))
    if table.name != "calls" or not values.keys() >= set(CALL_COLUMNS):
        return True
    try:
        record_of((values["at"], values["n"], *(values[name] for name in CALL_COLUMNS)))
    except (ValueError, TypeError):
        return False
    return True


_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "INTEGER": int, "REAL": (float, int), "TEXT": str, "BLOB": bytes,
}  # fmt: skip


def _rows(source: sqlite3.Connection, select: str, table: Table) -> Iterator[tuple[Any, ...]]:
    """Yield the readable rows of a table. The same row may be yielded twice."""
    if not table.is_numbered:
        for direction in ("ASC", "DESC"):
            with suppress(*UNREADABLE):
                yield from source.execute(f"{select} ORDER BY {table.key} {direction}")
                return  # the other direction only finds what lies behind a damaged page
        return
    query = f"{select} WHERE {table.key} >= ? ORDER BY {table.key}"
    start, step = 0, 1
    while start <= _BEYOND:
        try:
            for row in source.execute(query, (start,)):
                if not isinstance(row[0], int):
                    continue
                if row[0] > start:
                    # the keys of damaged pages are in no order, and must not lead back
                    start, step = row[0], 1
                yield row
        except UNREADABLE:
            start = _after_damage(source, f"{query} LIMIT 1", start, step)
            step *= 2
        else:
            return


def _after_damage(source: sqlite3.Connection, query: str, start: int, step: int) -> int:
    """Return a key after the damaged rows of a table. From this key on, `query` can read the table again. The query
    reads one row, whose key is at least the value of its placeholder.

    The search begins at the key `start` + `step`. If all further rows are damaged, the result is greater than
    `_BEYOND`.
    """
    bad = start + step - 1
    good = start + step
    while not _is_readable(source, query, good):
        bad, step = good, step * 2
        good = start + step
        if bad > _BEYOND:
            return bad
    while good - bad > 1:
        middle = (good + bad) // 2
        if _is_readable(source, query, middle):
            good = middle
        else:
            bad = middle
    return good


def _is_readable(source: sqlite3.Connection, query: str, key: int) -> bool:
    try:
        source.execute(query, (key,)).fetchone()
    except UNREADABLE:
        return False
    return True


def _complete(connection: sqlite3.Connection) -> None:
    """Delete the rows of `session_models` and `session_tools` whose sessions are missing. Add sessions for stored calls
    without a session. Then complete the sums.
    """
    for table in ("session_models", "session_tools"):
        connection.execute(f"DELETE FROM {table} WHERE session NOT IN (SELECT n FROM sessions)")  # noqa: S608 (our own)
    columns = ", ".join(f"c.{name}" for name in CALL_COLUMNS)
    lost = connection.execute(
        f"SELECT {columns} FROM calls c WHERE session_id <> '' AND NOT EXISTS "  # noqa: S608 (our own names)
        "(SELECT 1 FROM sessions s WHERE s.id = c.session_id AND s.identity = c.identity)"
    ).fetchall()
    add_sessions(connection, sum_calls(lost).sessions)
    _complete_sums(connection)


def _complete_sums(connection: sqlite3.Connection) -> None:
    """Correct the sums that count fewer calls than are stored.

    First, the sums by quarter hour are corrected from the calls. Then the sums over longer units of time, and over all
    callers, are corrected from finer sums. At the end, the uses of tools and the errors are counted anew, and the index
    of headers is completed.
    """
    header_sums.delete_orphans(connection)
    for table in _OF_SERIES:
        connection.execute(f"DELETE FROM {table} WHERE series NOT IN (SELECT n FROM series)")  # noqa: S608 (our own)
    connection.execute(
        f"INSERT OR IGNORE INTO series ({SERIES_KEY}) SELECT DISTINCT {SERIES_KEY} FROM ({MISSING_SUMS})"  # noqa: S608
    )
    names = ", ".join(FIGURES)
    connection.execute(
        f"INSERT OR REPLACE INTO figures_quarter (time, series, {names}) SELECT time, s.n, {names} "  # noqa: S608
        f"FROM ({MISSING_SUMS}) counted JOIN series s ON {SAME_SERIES}"
    )
    for agent in ("agent", "''"):
        connection.execute(
            f"INSERT OR IGNORE INTO series ({SERIES_KEY}) "  # noqa: S608 (our own names)
            f"SELECT DISTINCT '', provider, model, {agent}, api, status, outcome FROM series"
        )
    for table, unit in FIGURE_TABLES.items():
        if table != "figures_quarter":
            _complete_table(connection, table, unit, "series")
    key = ("provider", "model", "api", "status", "outcome")
    for table, unit in AGENT_TABLES.items():
        source = table.replace("agents", "figures")
        _complete_table(connection, table, unit, _wider_series(*key, "agent"), source)
    for table, unit in EVERYBODY_TABLES.items():
        _complete_table(connection, table, unit, _wider_series(*key))
    recount_texts(connection)
    complete_index(connection)
    header_sums.recount_header_sums(connection)


def _wider_series(*kept: str) -> str:
    """Return an SQL expression that maps the number of a series to the number of a wider series, such as the same
    series for all callers.

    The wider series has the same values in the columns `kept`, and "" in its other columns. The expression reads the
    number from the column `series`.
    """
    columns = ", ".join(kept)
    empty = " AND ".join(f"e.{name} = ''" for name in Series._fields if name not in kept)
    same = f"({columns}) = (SELECT {columns} FROM series s WHERE s.n = series)"  # noqa: S608 (our own names)
    return f"(SELECT e.n FROM series e WHERE {empty} AND {same})"  # noqa: S608 (our own names)


def _complete_table(
    connection: sqlite3.Connection, table: str, unit: Unit, series: str, source: str = "figures_quarter"
) -> None:
    """Correct a table of sums: add missing rows, and replace rows that count too few calls.

    The correct sums are computed from the table `source`, whose sums are finer. `unit` is the unit of time of `table`.
    `series` is an SQL expression that gives the series in `table` for a row of `source`.
    """
    added = ", ".join(f"{bounded_sum(name)} AS {name}" for name in FIGURES)
    start = unit.start_in_sql("time")
    right = f"SELECT {start} AS time, {series} AS series, {added} FROM {source} GROUP BY 1, 2"  # noqa: S608
    connection.execute(
        f"INSERT OR REPLACE INTO {table} SELECT counted.* FROM ({right}) counted "  # noqa: S608 (our own names)
        f"LEFT JOIN {table} kept USING (time, series) WHERE kept.calls IS NULL OR kept.calls < counted.calls"
    )
