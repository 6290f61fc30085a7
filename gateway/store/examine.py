"""Examines the journal's files and a database for faults, for `irisgate doctor`. Nothing is changed.

`repair.py` repairs faults. `process/doctor/state.py` has the messages for users.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

import msgspec
import orjson

from gateway.contract.flag import USAGE_KINDS
from gateway.store.entries import decode, decode_sent_call
from gateway.store.file import BUSY_SECONDS
from gateway.store.header_index import missing_headers
from gateway.store.header_sums import terms_with_wrong_sums
from gateway.store.histogram import BOUNDS, SHIFT
from gateway.store.recount import missing_texts
from gateway.store.schema import MIGRATIONS
from gateway.store.sums import FIGURES, Series
from gateway.store.units import QUARTER

LineState = Literal["torn", "damaged", "unknown"]
"""Reason why a line of the journal cannot be read:

- `torn`: the line is the last one, and has no line feed;
- `damaged`: the line is not JSON;
- `unknown`: the line was written by another release."""


class BadLine(NamedTuple):
    """An unreadable line in a file of the journal."""

    start: int
    """Offset of the line in the file, in bytes."""
    end: int
    """Offset of the line's end in the file, in bytes."""
    state: LineState


class Segment(NamedTuple):
    """A file of the journal."""

    path: Path
    lines: int
    bad: tuple[BadLine, ...]


def examine_segment(path: Path) -> Segment:
    """Return the unreadable lines of a journal file. Raises `OSError` if the file cannot be read."""
    bad: list[BadLine] = []
    lines = start = 0
    with path.open("rb") as file:
        for line in file:
            end = start + len(line.rstrip(b"\n"))
            lines += 1
            if not line.endswith(b"\n"):
                bad.append(BadLine(start, end, "torn"))
            elif decode([line[:-1]])[1]:
                bad.append(BadLine(start, end, "unknown" if _is_json(line) else "damaged"))
            start += len(line)
    return Segment(path, lines, tuple(bad))


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


DatabaseState = Literal["missing", "good", "damaged", "newer", "foreign", "locked", "unreadable"]


class Database(msgspec.Struct, frozen=True):
    """The state of a database."""

    state: DatabaseState
    detail: str = ""
    """The fault of the database as text, or "" if there is none. If only the schema is old, the text says that the next
    start of the gateway migrates it."""
    calls: int = 0
    last_at: float = -math.inf
    """Unix time in seconds at which the last stored call began. It is minus infinity if there is no call."""
    wrong_sums: int = 0
    """Number of faults in the sums over calls and in the index of headers.

    The number counts four kinds of faults:
    - a sum by quarter hour that counts fewer calls than are stored
    - a daily sum by agent that counts fewer calls than the daily sums by caller and agent
    - a header of a stored call that is missing in the index
    - a header value whose sums count fewer calls than are stored
    """
    wrong_balances: tuple[str, ...] = ()
    """Names of quota buckets whose stored balance is not valid."""
    wrong_open_calls: int = 0
    """Number of stored open calls (sent and not ended) that cannot be read."""


def examine_database(path: Path) -> Database:
    """Return the state of a database, which a gateway may be using at the same time."""
    try:
        if path.stat().st_size == 0:
            return Database("good")
    except FileNotFoundError:
        return Database("missing")
    except OSError as error:
        return Database("unreadable", error.strerror or str(error))
    try:
        with opened(path) as connection:
            return _examined(connection)
    except UnicodeDecodeError:
        return Database("damaged", "its schema cannot be read")
    except sqlite3.Error as error:
        return Database(_STATES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "unreadable"), str(error))


_STATES: Final[dict[int, DatabaseState]] = {
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    # a statement that fails because a table or column is missing
    sqlite3.SQLITE_ERROR: "damaged",
}


UNREADABLE: Final = (sqlite3.Error, UnicodeDecodeError)
"""Exceptions that `sqlite3` raises for a database that cannot be read. `UnicodeDecodeError` is one of them: an error
message may quote a damaged schema, which is not valid UTF-8."""


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a read-only connection to a database. Raises `sqlite3.Error` if it cannot be opened.

    A database without a write-ahead log is not in use. It is opened as immutable, so that SQLite creates no log.
    """
    is_used = path.with_name(f"{path.name}-wal").exists()
    uri = f"file:{quote(str(path.absolute()))}?mode=ro{'' if is_used else '&immutable=1'}"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        # damaged text must not end the reading
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        yield connection


def _examined(connection: sqlite3.Connection) -> Database:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        return Database("newer", f"its schema is version {version}, and this irisgate knows up to {len(MIGRATIONS)}")
    if faults := [row[0] for row in connection.execute("PRAGMA integrity_check(3)") if row[0] != "ok"]:
        return Database("damaged", "; ".join(str(fault) for fault in faults).replace("\n", " "))
    objects = _objects(connection)
    if version == 0 and objects:
        return Database("foreign", "it is a database of another program")
    if version < len(MIGRATIONS):
        return Database("good", f"its schema is version {version}; the next start brings it to {len(MIGRATIONS)}")
    if lost := _expected() - objects:
        # a missing table is named without its columns
        names = [
            name for name in sorted(lost) if name.replace("column", "table").partition(".")[0] not in lost - {name}
        ]
        return Database("damaged", f"it lacks {', '.join(names)}")
    calls, last_at = connection.execute("SELECT count(*), max(at) FROM calls").fetchone()
    if isinstance(last_at, str | bytes):
        # SQLite can store text in a column of integers, and sorts text after all numbers
        return Database("damaged", "the time of a call is no number")
    open_calls = connection.execute("SELECT line FROM open_calls")
    return Database(
        "good",
        calls=calls,
        last_at=-math.inf if last_at is None else last_at / 1000,
        wrong_sums=_wrong_figures(connection)
        + missing_texts(connection)
        + missing_headers(connection)
        + len(terms_with_wrong_sums(connection)),
        wrong_balances=tuple(_wrong_balances(connection)),
        wrong_open_calls=sum(not decode_sent_call(line) for (line,) in open_calls),
    )


def _wrong_figures(connection: sqlite3.Connection) -> int:
    queries = (MISSING_SUMS, _MISSING_OF_AGENTS)
    return sum(connection.execute(f"SELECT count(*) FROM ({query})").fetchone()[0] for query in queries)  # noqa: S608


def _objects(connection: sqlite3.Connection) -> set[str]:
    """Return names such as `the table calls` for all tables, indexes and columns, except SQLite's own."""
    own = "FROM sqlite_schema s WHERE s.name NOT LIKE 'sqlite_%'"
    rows = connection.execute(
        f"SELECT s.type, s.name {own} "  # noqa: S608 (a constant)
        f"UNION ALL SELECT 'column', t.name || '.' || c.name FROM (SELECT s.name {own} AND s.type = 'table') t "
        "JOIN pragma_table_info(t.name) c"
    )
    return {f"the {kind} {name}" for kind, name in rows}


def _expected() -> set[str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statements in MIGRATIONS:
            for statement in statements:
                connection.execute(statement)
        return _objects(connection)


def _wrong_balances(connection: sqlite3.Connection) -> Iterator[str]:
    for bucket, amount, remainder, at in connection.execute("SELECT bucket, amount, remainder, at FROM balances"):
        is_number = isinstance(at, int | float) and math.isfinite(at)
        if not (is_number and isinstance(amount, int) and isinstance(remainder, int)):
            yield str(bucket)


def _buckets(column: str, condition: str) -> tuple[str, ...]:
    """Return SQL expressions that count the calls by buckets of a histogram of durations.

    Like a stored histogram, each expression has the counts of two buckets in one integer (`histogram.py`). `column` has
    the durations in milliseconds. Only calls that meet `condition` are counted.
    """
    ranges = list(zip(("-1e300", *BOUNDS), (*BOUNDS, "1e300"), strict=True))
    counts = [f"coalesce(sum({condition} AND {column} > {low} AND {column} <= {high}), 0)" for low, high in ranges]
    return tuple(f"{low} + ({high} << {SHIFT})" for low, high in zip(counts[::2], counts[1::2], strict=True))


SERIES_KEY: Final = ", ".join(Series._fields)
_EXPRESSIONS: Final = (
    "count(*)",
    *(f"sum({name})" for name in USAGE_KINDS),
    "coalesce(sum(cost), 0)",
    "sum(cost IS NULL)",
    "sum(estimated)",
    "coalesce(sum(cache_saved), 0)",
    "sum(max(0, CAST(round(duration_ms) AS INTEGER)))",
    *_buckets("duration_ms", "outcome = 'ok'"),
    *_buckets("first_event_ms", "first_event_ms IS NOT NULL"),
)
_COUNTED_FIGURES: Final = f"""
SELECT at - at % {QUARTER} AS time, identity, provider, iif(provider = '', '', model) AS model, agent, api, status,
    outcome, {", ".join(f"{sql} AS {name}" for sql, name in zip(_EXPRESSIONS, FIGURES, strict=True))}
FROM calls GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""  # noqa: S608 (our own names)
"""Query that computes the figures (sums over calls) of each quarter hour from the stored calls."""
SAME_SERIES: Final = " AND ".join(f"s.{name} = counted.{name}" for name in Series._fields)
MISSING_SUMS: Final = f"""
SELECT counted.* FROM ({_COUNTED_FIGURES}) counted LEFT JOIN series s ON {SAME_SERIES}
LEFT JOIN figures_quarter kept ON kept.time = counted.time AND kept.series = s.n
WHERE kept.calls IS NULL OR kept.calls < counted.calls
"""  # noqa: S608 (our own query)
"""SQL query for the quarter-hour sums that are missing or count too few calls. Its rows have the correct sums.

A stored sum may rightly count more calls than are stored, because calls are deleted earlier than their sums."""
_OF_AGENT: Final = [name for name in Series._fields if name != "identity"]
_MISSING_OF_AGENTS: Final = f"""
SELECT 1 FROM (
    SELECT f.time AS time, {", ".join(f"c.{name} AS {name}" for name in _OF_AGENT)}, sum(f.calls) AS calls
    FROM figures_day f JOIN series c ON c.n = f.series GROUP BY {", ".join(map(str, range(1, len(_OF_AGENT) + 2)))}
) counted LEFT JOIN series s ON s.identity = '' AND {" AND ".join(f"s.{name} = counted.{name}" for name in _OF_AGENT)}
LEFT JOIN agents_day kept ON kept.time = counted.time AND kept.series = s.n
WHERE kept.calls IS NULL OR kept.calls < counted.calls
"""  # noqa: S608 (our own names)
"""SQL query with a row for each daily sum by agent that is missing or too low. The correct value is the total of the
daily sums by caller and agent."""
