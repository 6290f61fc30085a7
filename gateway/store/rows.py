"""Records and sessions as rows of the SQLite store, there and back, and the statements that hold them.

Times are integer milliseconds, money integer nanodollars. Whatever a client or a provider made up is bounded here, so
that no value can be one that SQLite refuses: a row that cannot be written would hold up all that come after it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final

import orjson

from gateway.flag import USAGE_KINDS, Usage
from gateway.record import Record
from gateway.store.base import BadCursor, Session

MAX_TEXT: Final = 1024
"""Letters kept of one text; the longest honest ones are ARNs and error names."""
MAX_LIST: Final = 256
"""Entries kept of a call's tools, or of its dropped fields."""
MAX_INTEGER: Final = 2**53
"""Of a count or a price: what JSON's readers take exactly, and so small that sums of very many stay in 64 bits."""

_BEFORE_USAGE: Final = (
    "id", "session_id", "at", "identity", "provider", "model", "api", "upstream_api", "operation", "stream", "status",
    "outcome", "error", "error_native",
)  # fmt: skip
_AFTER_USAGE: Final = (
    "reported", "cost", "cost_basis", "estimated", "stop", "tools", "duration_ms", "first_event_ms", "attempts",
    "dropped", "agent",
)  # fmt: skip
CALL_COLUMNS: Final = (*_BEFORE_USAGE, *USAGE_KINDS, *_AFTER_USAGE)
SESSION_COLUMNS: Final = (
    "identity", "id", "agent", "provider", "calls", "failed", *USAGE_KINDS, "known_cost", "cost_unknown_calls",
    "estimated_calls", "started_at", "last_at",
)  # fmt: skip
_SUMS: Final = ("calls", "failed", *USAGE_KINDS, "known_cost", "cost_unknown_calls", "estimated_calls")

_BOOLS: Final = frozenset({"stream", "reported", "estimated"})
_LISTS: Final = frozenset({"tools", "dropped"})
assert {field.name for field in fields(Record)} - {"usage"} == {*_BEFORE_USAGE, *_AFTER_USAGE}


def _marks(columns: Iterable[str]) -> str:
    return ", ".join("?" for _ in columns)


INSERT_CALL: Final = " ".join([
    "INSERT INTO calls (", ", ".join(CALL_COLUMNS), ") VALUES (", _marks(CALL_COLUMNS), ") ON CONFLICT (id) DO NOTHING",
])  # fmt: skip
UPSERT_SESSION: Final = " ".join([
    "INSERT INTO sessions (", ", ".join(SESSION_COLUMNS), ") VALUES (", _marks(SESSION_COLUMNS), ")",
    "ON CONFLICT (id, identity) DO UPDATE SET",
    ", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS),
    ", agent = CASE WHEN excluded.last_at >= last_at THEN excluded.agent ELSE agent END",
    # a call that was refused says nothing of who serves the session
    ", provider = CASE WHEN excluded.provider <> '' AND (excluded.last_at >= last_at OR provider = '')",
    "THEN excluded.provider ELSE provider END",
    ", started_at = min(started_at, excluded.started_at), last_at = max(last_at, excluded.last_at)",
    "RETURNING n",
])  # fmt: skip
UPSERT_MODEL: Final = """
INSERT INTO session_models (session, provider, model, last_at) VALUES (?, ?, ?, ?)
ON CONFLICT (session, provider, model) DO UPDATE SET last_at = max(last_at, excluded.last_at)
"""


def select_calls(*conditions: str) -> str:
    """Calls that meet all the conditions (SQL of our own, with placeholders), newest first; a limit comes last."""
    return _select("SELECT at, n,", ", ".join(CALL_COLUMNS), "FROM calls", conditions, "at")


def select_sessions(*conditions: str) -> str:
    return _select("SELECT last_at, n,", ", ".join(SESSION_COLUMNS), _MODELS + "FROM sessions", conditions, "last_at")


_MODELS: Final = """, (
    SELECT json_group_array(json_array(m.last_at, m.provider, m.model)) FROM session_models m WHERE m.session = n
) """


def _select(what: str, columns: str, table: str, conditions: tuple[str, ...], time: str) -> str:
    where = "WHERE " + " AND ".join(conditions) if conditions else ""
    return " ".join([what, columns, table, where, f"ORDER BY {time} DESC, n DESC LIMIT ?"])


def write(connection: sqlite3.Connection, record: Record) -> None:
    """A call and its share in its session; nothing when the call is there already. Needs an open transaction."""
    row = call_row(record)
    if connection.execute(INSERT_CALL, row).rowcount != 1 or not record.session_id:
        return
    share = session_row(record)
    # all rows are fetched: SQLite may leave a RETURNING statement, and so the commit, half done otherwise
    ((number,),) = connection.execute(UPSERT_SESSION, share).fetchall()
    if record.provider:
        connection.execute(UPSERT_MODEL, (number, _text(record.provider), _text(record.model), share[-1]))


def call_row(record: Record) -> tuple[Any, ...]:
    """The values of `CALL_COLUMNS`."""
    return (
        *(_cell(name, getattr(record, name)) for name in _BEFORE_USAGE),
        *(_integer(getattr(record.usage, name)) for name in USAGE_KINDS),
        *(_cell(name, getattr(record, name)) for name in _AFTER_USAGE),
    )


def session_row(record: Record) -> tuple[Any, ...]:
    """The values of `SESSION_COLUMNS` that one call adds."""
    return (
        _text(record.identity),
        _text(record.session_id),
        _text(record.agent),
        _text(record.provider),
        1,
        int(record.outcome != "ok"),
        *(_integer(getattr(record.usage, name)) for name in USAGE_KINDS),
        _integer(record.cost or 0),
        int(record.cost is None),
        int(record.estimated),
        round(record.at * 1000),
        round(record.at * 1000 + record.duration_ms),
    )


def _cell(name: str, value: Any) -> Any:
    if name == "at":
        return round(value * 1000)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, tuple):
        return orjson.dumps([_text(entry) for entry in value[:MAX_LIST]]).decode()
    return _integer(value) if isinstance(value, int) else value


def _integer(value: int) -> int:
    return max(0, min(int(value), MAX_INTEGER))


def _text(value: str) -> str:
    """At most `MAX_TEXT` letters, none of them half a surrogate pair: aiohttp decodes headers so, SQLite refuses it."""
    text = value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def record_of(row: tuple[Any, ...]) -> Record:
    """A row of `select_calls` as the record that it came from."""
    cells = dict(zip(CALL_COLUMNS, row[2:], strict=True))
    usage = Usage(**{name: cells.pop(name) for name in USAGE_KINDS})
    cells["at"] /= 1000
    for name in _BOOLS:
        cells[name] = bool(cells[name])
    for name in _LISTS:
        cells[name] = tuple(orjson.loads(cells[name]))
    return Record(usage=usage, **cells)


def session_of(row: tuple[Any, ...]) -> Session:
    """A row of `select_sessions`."""
    *plain, models = row[2:]
    cells = dict(zip(SESSION_COLUMNS, plain, strict=True))
    usage = Usage(**{name: cells.pop(name) for name in USAGE_KINDS})
    cells["started_at"] /= 1000
    cells["last_at"] /= 1000
    used = sorted(orjson.loads(models), reverse=True)
    return Session(
        usage=usage,
        providers=tuple(dict.fromkeys(provider for _, provider, _ in used)),
        models=tuple(dict.fromkeys(model for _, _, model in used)),
        **cells,
    )


def cursor_of(row: tuple[Any, ...]) -> str:
    """Where the page after this row starts: its time and its number, which tells rows of one moment apart."""
    return f"{row[0]}.{row[1]}"


def parse_cursor(cursor: str) -> tuple[int, int]:
    time, dot, number = cursor.partition(".")
    digits = time + number
    if not (dot and time and number and digits.isascii() and digits.isdigit() and max(len(time), len(number)) < 19):
        raise BadCursor(f'"{cursor[:50]}" is not a cursor of this list')
    return int(time), int(number)
