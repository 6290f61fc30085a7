"""The part of a store that is the same in SQLite and in PostgreSQL: reading sessions, calls, usage and balances.

One thread writes, another reads, and a third computes the reports, each with its own connection. SQL is in `rows.py`
and `usage.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from gateway.contract.record import Record
from gateway.store import rows, usage
from gateway.store.base import (
    ALL_ROWS,
    HEADER,
    Ambiguous,
    BriefSession,
    Filters,
    Page,
    Session,
    SessionQuery,
    UsageQuery,
    UsageRow,
)
from gateway.store.calls import CALL_COLUMNS, record_of
from gateway.store.entries import Balance, SentCall, decode_sent_call
from gateway.store.header_index import OF_CALL, OF_SESSION, is_rare
from gateway.store.reports.base import ReportStore
from gateway.store.sql import Connection, Thread
from gateway.store.sql_reports import SqlReports

T = TypeVar("T")

_OPEN_CALLS: Final = "SELECT line FROM open_calls o WHERE NOT EXISTS (SELECT 1 FROM calls c WHERE c.id = o.id)"
LIMIT_PREFIX: Final = "\x01"
"""First character of the name under which a shared rate limit is stored. The name of a quota never begins with it."""
_BALANCES: Final = "SELECT bucket, amount, remainder, at, terms FROM balances WHERE substr(bucket, 1, 1) <> ?"
_MAX_NAMED: Final = 10
"""Maximum number of callers in the field `identities` of the error `Ambiguous`."""


class SqlReader:
    """The methods of a `Store` that read the database.

    There are three threads. `reading` reads calls and sessions, and `reporting` computes reports. Both may read a
    replica of the database, which is a few seconds old. `current` always reads the database itself. `close` closes all
    three threads.
    """

    def __init__(self, reading: Thread, reporting: Thread, current: Thread) -> None:
        self._reading = reading
        self._reporting = reporting
        self._current = current
        self._reports = SqlReports(reporting)

    @property
    def reports(self) -> ReportStore:
        return self._reports

    async def sessions(self, query: SessionQuery) -> Page[Session]:
        conditions, values = _of_sessions(query)
        return await self._page(rows.session_of, rows.select_sessions(*conditions), values, query.limit)

    async def brief_sessions(self, query: SessionQuery) -> Page[BriefSession]:
        conditions, values = _of_sessions(query)
        selection = rows.select_sessions(*conditions, tools=False)
        return await self._page(rows.brief_session_of, selection, values, query.limit)

    async def session(self, identity: str | None, session_id: str) -> Session | None:
        conditions, values = _conditions({"id": session_id, "identity": identity})
        selected = await self._read(rows.select_sessions(*conditions), [*values, _MAX_NAMED])
        if len(selected) > 1:
            raise Ambiguous(session_id, tuple(rows.session_of(row).identity for row in selected))
        return rows.session_of(selected[0]) if selected else None

    async def calls(
        self,
        identity: str | None,
        session_id: str | None,
        limit: int,
        cursor: str | None = None,
        where: Filters = ALL_ROWS,
    ) -> Page[Record]:
        known = {name: where[name] for name in CALL_COLUMNS if name in where}
        equal = {"session_id": session_id, "identity": identity, **known}
        term = str(where[HEADER]) if HEADER in where else None
        of_all = identity is None and session_id is None
        if term is not None and (of_all or await self._reading.run(partial(is_rare, term=term))):
            conditions, values = _conditions(equal, cursor, "(time, call) < (?, ?)")
            return await self._page(record_of, rows.select_calls_of_term(*conditions), [term, *values], limit)
        conditions, values = _conditions(equal, cursor, "(at, n) < (?, ?)")
        if term is not None:
            conditions.append(OF_CALL.format(at="at", n="n"))
            values.append(term)
        return await self._page(record_of, rows.select_calls(*conditions), values, limit)

    async def call(self, identity: str | None, call_id: str) -> Record | None:
        conditions, values = _conditions({"id": call_id, "identity": identity})
        selected = await self._read(rows.select_calls(*conditions), [*values, 1])
        return record_of(selected[0]) if selected else None

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        return await self._reading.run(partial(usage.read, query=query))

    async def open_calls(self) -> Sequence[SentCall]:
        lines = await self._current.run(lambda connection: connection.execute(_OPEN_CALLS).fetchall())
        return sent_calls(line for (line,) in lines)

    async def balances(self) -> Sequence[Balance]:
        balances = await self._current.run(lambda connection: connection.execute(_BALANCES, (LIMIT_PREFIX,)).fetchall())
        return [Balance(*row) for row in balances]

    async def close(self) -> None:
        for thread in {self._reading, self._reporting, self._current}:
            await thread.close()

    async def _page(self, of: Callable[[tuple[Any, ...]], T], query: str, values: list[Any], limit: int) -> Page[T]:
        """Return a page of at most `limit` rows, each converted by `of`. One more row is read to find out if there is a
        next page.

        The thread that reads also converts the rows, because a page may have ten thousand.
        """

        def read(connection: Connection) -> Page[T]:
            selected = connection.execute(query, [*values, limit + 1]).fetchall()
            page = selected[:limit]
            return Page(tuple(of(row) for row in page), rows.cursor_of(page[-1]) if len(selected) > limit else None)

        return await self._reading.run(read)

    async def _read(self, query: str, values: list[Any]) -> list[tuple[Any, ...]]:
        return await self._reading.run(lambda connection: connection.execute(query, values).fetchall())


def _of_sessions(query: SessionQuery) -> tuple[list[str], list[Any]]:
    """Return the SQL conditions for the sessions of a query, and the values for their placeholders."""
    conditions, values = _conditions({"identity": query.identity}, query.cursor, "(last_at, n) < (?, ?)")
    if (span := query.span) is not None:
        conditions += ["last_at >= ?", "started_at < ?"]
        values += [round(span.since * 1000), round(span.until * 1000)]
    where = query.where
    term = [where[HEADER]] if HEADER in where else []
    if term:
        conditions.append(OF_SESSION)
        values += term
    if asked := {name: where[name] for name in rows.CALL_FILTERS if name in where}:
        conditions.append(rows.has_call(tuple(asked), of_term=bool(term)))
        values += [*asked.values(), *term]
    return conditions, values


def sent_calls(lines: Iterable[bytes]) -> Sequence[SentCall]:
    """Decode calls that were sent and have not ended, from their lines in the store. Return them sorted by time, oldest
    first.

    Damaged lines are left out. `irisgate doctor` reports them.
    """
    return sorted(filter(None, map(decode_sent_call, lines)), key=lambda call: call.at)


def _conditions(
    equal: Mapping[str, str | int | None], cursor: str | None = None, behind: str = ""
) -> tuple[list[str], list[Any]]:
    """Return the SQL conditions of a query, and the values for their placeholders.

    `equal` maps columns to the values that they must have. A column with the value None is ignored. If `cursor` is not
    None, the SQL condition `behind` is added, which selects the rows after the cursor.
    """
    wanted = {column: value for column, value in equal.items() if value is not None}
    conditions = [f"{column} = ?" for column in wanted]
    values: list[Any] = list(wanted.values())
    if cursor is not None:
        conditions.append(behind)
        values.extend(rows.parse_cursor(cursor))
    return conditions, values
