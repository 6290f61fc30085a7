"""SQL statements that write and read rows of a store, and conversion between sessions and rows.

Times are integer milliseconds, and money is integer nanodollars. Texts were already cut to a maximum length in
`entries.py`. Rows of calls are in `calls.py`, transactions in `writing.py`, queries of usage in `usage.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

import orjson

from gateway.contract.flag import USAGE_KINDS, Usage
from gateway.store.base import BadCursor, BriefSession, Session
from gateway.store.calls import CALL_COLUMNS
from gateway.store.header_index import NUMBER, OF_CALL
from gateway.store.sql import larger, smaller
from gateway.store.sums import SUMS, SessionShare

SESSION_COLUMNS: Final = ("identity", "id", "agent", "provider", *SUMS, "started_at", "last_at")


UPSERT_SESSION: Final = " ".join([
    "INSERT INTO sessions (", ", ".join(SESSION_COLUMNS), ") VALUES (", ", ".join("?" for _ in SESSION_COLUMNS), ")",
    "ON CONFLICT (id, identity) DO UPDATE SET",
    ", ".join(f"{name} = sessions.{name} + excluded.{name}" for name in SUMS),
    ", agent = CASE WHEN excluded.last_at >= sessions.last_at THEN excluded.agent ELSE sessions.agent END",
    # a call that was refused before a provider was chosen has the provider '', which must not replace the former one
    ", provider = CASE WHEN excluded.provider <> ''",
    "AND (excluded.last_at >= sessions.last_at OR sessions.provider = '')",
    "THEN excluded.provider ELSE sessions.provider END",
    ", started_at =", smaller("sessions.started_at", "excluded.started_at"),
    ", last_at =", larger("sessions.last_at", "excluded.last_at"),
])  # fmt: skip
UPSERT_MODEL: Final = f"""
INSERT INTO session_models (session, provider, model, last_at) VALUES (?, ?, ?, ?)
ON CONFLICT (session, provider, model) DO UPDATE SET last_at = {larger("session_models.last_at", "excluded.last_at")}
"""  # noqa: S608 (our own names)
UPSERT_TOOL: Final = """
INSERT INTO session_tools (session, tool, calls) VALUES (?, ?, ?)
ON CONFLICT (session, tool) DO UPDATE SET calls = session_tools.calls + excluded.calls
"""


def select_calls(*conditions: str) -> str:
    """Return the SQL query for the calls that meet all conditions, newest first.

    The query's last placeholder is for the maximum number of rows.
    """
    return _select("SELECT at, n,", ", ".join(CALL_COLUMNS), "FROM calls", conditions, "at")


def select_calls_of_term(*conditions: str) -> str:
    """Return the SQL query for the calls that have a header term (`x-team` or `x-team:alpha`) and meet all conditions,
    newest first.

    The query's first placeholder is for the term, and its last for the maximum number of rows.
    """
    table = f"FROM call_headers CROSS JOIN calls ON n = call AND at = time WHERE term = {NUMBER}"
    further = "".join(f" AND {condition}" for condition in conditions)
    return f"SELECT time, call, {', '.join(CALL_COLUMNS)} {table}{further} ORDER BY time DESC, call DESC LIMIT ?"


def select_sessions(*conditions: str, tools: bool = True) -> str:
    """Return the SQL query for the sessions that meet all conditions, newest first.

    The query's last placeholder is for the maximum number of rows. If `tools` is false, the sessions have no tools.
    """
    table = f", ({_MODELS}), {f'({_TOOLS})' if tools else 'NULL'} FROM sessions"
    return _select("SELECT last_at, n,", ", ".join(SESSION_COLUMNS), table, conditions, "last_at")


_MODELS: Final = (
    "SELECT json_group_array(json_array(m.last_at, m.provider, m.model)) FROM session_models m WHERE m.session = n"
)
_TOOLS: Final = "SELECT json_group_object(t.tool, t.calls) FROM session_tools t WHERE t.session = n"


CALL_FILTERS: Final = ("provider", "model", "agent", "api", "outcome", "status", "status_class")
"""The fields of calls by which sessions can be filtered. `status_class` is the first digit of the HTTP status."""
_MODEL_COLUMNS: Final = frozenset({"provider", "model"})
"""The columns of `session_models` that are also call filters. This table has far fewer rows than `calls`, so it is
searched instead if possible."""


def has_call(columns: Sequence[str], *, of_term: bool = False) -> str:
    """Return the SQL condition that at least one call of a session has given values in `columns`, which are some of
    `CALL_FILTERS`.

    The condition has a placeholder for each of these values. With `of_term`, the call must also have a header term
    (`x-team` or `x-team:alpha`), for which the condition has a last placeholder.
    """
    sql = {column: "f.status / 100" if column == "status_class" else f"f.{column}" for column in columns}
    equal = " AND ".join(f"{sql[column]} = ?" for column in columns)
    if of_term:
        equal = f"{equal} AND {OF_CALL.format(at='f.at', n='f.n')}"
    elif _MODEL_COLUMNS.issuperset(columns):
        return f"EXISTS (SELECT 1 FROM session_models f WHERE f.session = n AND {equal})"  # noqa: S608 (our own names)
    calls = "calls f WHERE f.session_id = sessions.id AND f.identity = sessions.identity"
    return f"EXISTS (SELECT 1 FROM {calls} AND {equal})"  # noqa: S608 (our own names)


def _select(what: str, columns: str, table: str, conditions: tuple[str, ...], time: str) -> str:
    where = "WHERE " + " AND ".join(conditions) if conditions else ""
    return " ".join([what, columns, table, where, f"ORDER BY {time} DESC, n DESC LIMIT ?"])


def session_row(identity: str, session_id: str, share: SessionShare) -> tuple[Any, ...]:
    """Return the values for the statement `UPSERT_SESSION`, which adds the amounts of a batch to a session.

    The values are in the order of `SESSION_COLUMNS`. Positions are faster than names here.
    """
    return (identity, session_id, share.agent, share.provider, *share.sums, share.started_at, share.last_at)


_COLUMNS_OF_ROW: Final = ("sorted_by", "n", *SESSION_COLUMNS, "models", "tools")
"""Names of the columns in the result of the query `select_sessions`."""


def _values(*names: str) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return a function that picks the values of the columns `names` from a row of the query `select_sessions`."""
    return itemgetter(*map(_COLUMNS_OF_ROW.index, names))


_FIELDS: Final = BriefSession._fields
"""Names of the fields of a `BriefSession`. They are also names of columns, except `providers` and `models`."""
_TEXTS: Final = _values(*_FIELDS[: _FIELDS.index("providers")])
_AMOUNTS: Final = _values(*_FIELDS[_FIELDS.index("models") + 1 : _FIELDS.index("started_at")])
_USAGE: Final = _values(*USAGE_KINDS)
_REST: Final = _values("started_at", "last_at", "models")


def session_of(row: tuple[Any, ...]) -> Session:
    """Return the session from a row of the query `select_sessions`."""
    value = dict(zip(_COLUMNS_OF_ROW, row, strict=True))
    used = _last_first(value["models"])
    tools = value["tools"]
    return Session(
        id=value["id"],
        identity=value["identity"],
        agent=value["agent"],
        provider=value["provider"],
        calls=value["calls"],
        failed=value["failed"],
        usage=Usage(*_USAGE(row)),
        known_cost=value["known_cost"],
        cost_unknown_calls=value["cost_unknown_calls"],
        estimated_calls=value["estimated_calls"],
        cache_saved=value["cache_saved"],
        started_at=value["started_at"] / 1000,
        last_at=value["last_at"] / 1000,
        providers=tuple(dict.fromkeys([provider for _, provider, _ in used])),
        models=tuple(dict.fromkeys([model for _, _, model in used])),
        tools=dict(sorted(orjson.loads(tools).items())) if tools else {},
    )


def brief_session_of(row: tuple[Any, ...]) -> BriefSession:
    """Return a `BriefSession` from a row of the query `select_sessions`.

    A CSV file may have ten thousand sessions. So the values are picked by `itemgetter`, which is faster than picking
    them by name.
    """
    started_at, last_at, models = _REST(row)
    used = _last_first(models)
    return BriefSession._make((
        *_TEXTS(row), (*{provider: None for _, provider, _ in used},), (*{model: None for _, _, model in used},),
        *_AMOUNTS(row), started_at / 1000, last_at / 1000,
    ))  # fmt: skip


def _last_first(models: str | None) -> list[tuple[int, str, str]]:
    """Return the models of a session, the most recently used first. An item is a triple: the time of the last use in
    Unix milliseconds, the provider, and the model.

    `models` is the JSON result of the query `_MODELS`.
    """
    # PostgreSQL returns null for a list without items
    used: list[tuple[int, str, str]] = orjson.loads(models or "[]")
    used.sort(reverse=True)
    return used


def cursor_of(row: tuple[Any, ...]) -> str:
    """Return the cursor of the page after a row. The cursor has the row's time and number, because several rows may
    have the same time.
    """
    return f"{row[0]}.{row[1]}"


def parse_cursor(cursor: str) -> tuple[int, int]:
    time, dot, number = cursor.partition(".")
    digits = time + number
    if not (dot and time and number and digits.isascii() and digits.isdigit() and max(len(time), len(number)) < 19):
        raise BadCursor(f'"{cursor[:50]}" is not a cursor of this list')
    return int(time), int(number)
