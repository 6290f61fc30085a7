"""The protocol of a store of calls and sessions, and the types of its arguments and results.

This module does no I/O and does not know how rows are stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from gateway.contract.record import Record
from gateway.store.entries import Balance, Entry, SentCall
from gateway.store.exports import ExportStore
from gateway.store.reports.base import ReportStore
from gateway.store.reports.values import Span
from gateway.store.totals import Totals

T = TypeVar("T")


class StoreFailed(Exception):
    """The error for a store or journal that cannot be opened, read or written. The message names the file and cause."""


class TooManyCalls(ValueError):
    """The error for a report that would have to read too many calls."""


class BadCursor(ValueError):
    """The error for a malformed cursor."""


class Ambiguous(LookupError):
    """The error for a session id that several callers (`identities`) have used. The request must name one of these
    callers.
    """

    def __init__(self, session_id: str, identities: tuple[str, ...]) -> None:
        super().__init__(f'"{session_id}" is a session of several callers')
        self.session_id = session_id
        self.identities = identities


class Session(Totals, frozen=True, kw_only=True):
    """A group of calls with one session id. Its key is (identity, id), because two clients may choose the same id."""

    id: str
    identity: str
    agent: str
    """Agent (client program) of the last call."""
    provider: str
    """Provider of the session's last call for which a provider was chosen. It is "" if there is no such call."""
    providers: tuple[str, ...]
    """Providers that were used in the session, the most recently used first."""
    models: tuple[str, ...]
    """Models that were used in the session, the most recently used first."""
    started_at: float
    """Unix time in seconds at which the session's first request arrived."""
    last_at: float
    """Unix time in seconds at which the session's last reply ended."""
    tools: Mapping[str, int]
    """Number of times that models called each tool, by the tool's name."""

    def as_dict(self) -> dict[str, Any]:
        """Return the session as an object for the API."""
        return {
            "id": self.id,
            "identity": self.identity,
            "agent": self.agent,
            "provider": self.provider,
            "providers": list(self.providers),
            "models": list(self.models),
            **self.totals(),
            "started_at": rfc3339(self.started_at),
            "last_at": rfc3339(self.last_at),
            "duration_ms": round((self.last_at - self.started_at) * 1000),
            "tools": dict(self.tools),
        }

    def brief(self) -> BriefSession:
        usage = self.usage
        return BriefSession(
            self.id, self.identity, self.agent, self.providers, self.models, self.calls, self.failed, usage.input,
            usage.output, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, self.known_cost,
            self.cost_unknown_calls, self.cache_saved, self.started_at, self.last_at,
        )  # fmt: skip


class BriefSession(NamedTuple):
    """The values of a session that are in the CSV file of sessions. Each field has the same meaning as in `Session`.

    This class is a tuple, which is made in half the time that a `Session` takes. The file may have ten thousand
    sessions.
    """

    id: str
    identity: str
    agent: str
    providers: tuple[str, ...]
    models: tuple[str, ...]
    calls: int
    failed: int
    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    known_cost: int
    cost_unknown_calls: int
    cache_saved: int
    started_at: float
    last_at: float


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list, newest row first, and the cursor of the next page."""

    rows: tuple[T, ...]
    next: str | None
    """The opaque cursor of the next page. It is None if this is the last page."""


class JournalOffset(NamedTuple):
    """A position in the journal, at the start of a line."""

    segment: int = 0
    """The number in the name of one of the journal's files."""
    byte: int = 0
    """Number of bytes before the position, in the file `segment`."""


GROUPS: Final = ("user", "provider", "model", "agent", "day", "hour")
"""Names that the API accepts for grouping usage."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """A query of usage: the calls to count, and how to group them.

    A field that is None does not restrict the calls.
    """

    by: tuple[str, ...] = ()
    """Names from `GROUPS`. If the tuple is empty, the result is one row for all calls."""
    since: float | None = None
    """Earliest Unix time in seconds: the beginning of a day, or of an hour if `by` contains "hour"."""
    until: float | None = None
    """Exclusive end of the time range, as Unix time in seconds. Like `since`, it is the beginning of a day or of an
    hour."""
    identity: str | None = None
    provider: str | None = None
    model: str | None = None
    agent: str | None = None
    header: str | None = None
    """Recorded header that the calls must have, such as `x-team`, or header and value, such as `x-team:alpha`."""


class UsageRow(Totals, frozen=True, kw_only=True):
    """The sums over the calls of one group."""

    group: Mapping[str, str]
    """The values that the group's calls have in common, by the names in `UsageQuery.by`. A day is written as
    2026-11-23, an hour as 2026-11-23T12:00Z."""
    duration_ms: int

    def as_dict(self) -> dict[str, Any]:
        """Return the row as an object for the API."""
        return {**self.group, **self.totals(), "duration_ms": self.duration_ms}


Filters = Mapping[str, str | int]
"""The values that the fields of a row must have. A key is the name of a field of `Record` or `Session`, or `HEADER`.

The value of `HEADER` is a recorded header (`x-team`), or a header and a value (`x-team:alpha`)."""
HEADER: Final = "header"
ALL_ROWS: Final[Filters] = MappingProxyType({})


class SessionQuery(NamedTuple):
    """A query of a page of sessions."""

    identity: str | None
    """The caller of the sessions, or None for the sessions of all callers."""
    limit: int
    """Maximum number of sessions on the page."""
    cursor: str | None = None
    """The cursor of the page (`Page.next` of the page before), or None for the first page."""
    where: Filters = ALL_ROWS
    """The values that one call of a session must have in its fields, such as `agent` or `model`.

    If there is a key `HEADER`, the same call must also have this header (`x-team`), or the header with this value
    (`x-team:alpha`)."""
    span: Span | None = None
    """The range of time that the sessions must overlap, or None for any time."""


class Store(Protocol):
    """A store of calls and sessions. It is filled from the journal.

    - Every method is called on the event loop and never blocks it.
    - Every method raises `StoreFailed` if the store cannot be reached.
    - The rows of calls and the journal's offset change in one transaction.

    The protocol assumes no threads, so a store may be in another process or on another machine.
    """

    @property
    def start_offset(self) -> JournalOffset:
        """The journal offset in the store when this process opened the store. All lines before it had been applied."""

    @property
    def reports(self) -> ReportStore:
        """The queries for the reports on the pages."""

    @property
    def exports(self) -> ExportStore:
        """Access to the positions of exports, and to the calls in the order of their insertion."""

    async def offset(self) -> JournalOffset:
        """Return the present journal offset. All lines before it are applied."""

    async def write(self, entries: Sequence[Entry], offset: JournalOffset) -> None:
        """Write entries, and the journal offset after them, in one transaction.

        A call that is written several times is counted once. `entries.decode` has already limited the length of texts
        and lists.
        """

    async def sessions(self, query: SessionQuery) -> Page[Session]:
        """Return a page of sessions. Raises `BadCursor` if the query's cursor is malformed."""

    async def brief_sessions(self, query: SessionQuery) -> Page[BriefSession]:
        """Return a page of sessions, with fewer values of each session than `sessions` returns. This takes less than
        half the time.

        Raises `BadCursor` if the query's cursor is malformed.
        """

    async def session(self, identity: str | None, session_id: str) -> Session | None:
        """Return one session, or None if there is none.

        Raises `Ambiguous` if `identity` is None and several callers have a session of this id.
        """

    async def calls(
        self,
        identity: str | None,
        session_id: str | None,
        limit: int,
        cursor: str | None = None,
        where: Filters = ALL_ROWS,
    ) -> Page[Record]:
        """Return a page of the calls of one caller in one session.

        An `identity` of None selects all callers, and a `session_id` of None all sessions. `where` has values that the
        fields of a call must have. Raises `BadCursor` if `cursor` is malformed.
        """

    async def call(self, identity: str | None, call_id: str) -> Record | None:
        """Return a call, or None if there is no call of this id, or if it is not a call of `identity`.

        If `identity` is None, the call may be of any caller.
        """

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        """Return at most `MAX_ROWS` rows of the hourly or daily totals, sorted by the columns in `query.by`.

        The store does not keep sums for every value of a header. If the query selects a value without sums, the calls
        with this value are read. Raises `TooManyCalls` if there are too many of them.
        """

    async def open_calls(self) -> Sequence[SentCall]:
        """Return the calls that were sent and have not ended, oldest first."""

    async def balances(self) -> Sequence[Balance]:
        """Return the last stored balance of each quota bucket."""

    async def expire(self, before: float, limit: int) -> int:
        """Delete calls that began before the Unix time `before`, and sessions that ended before this time.

        At most `limit` calls and `limit` sessions are deleted, oldest first. Return the number of deleted calls. The
        hourly and daily totals are never deleted.
        """

    async def close(self) -> None:
        """Close the store."""


MAX_ROWS: Final = 5_000
"""Maximum number of rows in the result of one query of usage."""


_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 (writing a time without a zone is faster)


def rfc3339(at: float) -> str:
    """Return a Unix time as text in the format of RFC 3339, in UTC with milliseconds."""
    return f"{(_EPOCH + timedelta(0, at)).isoformat('T', 'milliseconds')}Z"
