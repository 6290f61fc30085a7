"""The protocol of a store of calls and sessions, and its values.

Nothing here does I/O, and nothing here knows how rows are stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from gateway.contract.flag import Usage
from gateway.contract.record import Record, dollars
from gateway.store.entries import Balance, Entry

T = TypeVar("T")


class StoreFailed(Exception):
    """The store cannot be opened, read or written; the message says which file and why."""


class BadCursor(ValueError):
    """A cursor that no page returned."""


class Ambiguous(LookupError):
    """Several callers have a session of this id; the caller's name must be given too."""

    def __init__(self, session_id: str, identities: tuple[str, ...]) -> None:
        super().__init__(f'"{session_id}" is a session of several callers')
        self.session_id = session_id
        self.identities = identities


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums of some calls."""

    calls: int
    failed: int
    """Calls whose outcome was not `ok`."""
    usage: Usage
    known_cost: int
    """Nanodollars of the calls whose cost is known."""
    cost_unknown_calls: int
    estimated_calls: int

    @property
    def cost(self) -> int | None:
        """Nanodollars; None where no cost is known, because an unknown cost must not look like 0."""
        return None if self.cost_unknown_calls and not self.known_cost else self.known_cost

    def totals(self) -> dict[str, Any]:
        """Return the sums as the API shows them."""
        return {
            "calls": self.calls,
            "failed": self.failed,
            "tokens": self.usage.as_dict(),
            "cost_usd": dollars(self.cost),
            "cost_unknown_calls": self.cost_unknown_calls,
            "estimated_calls": self.estimated_calls,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Totals):
    """Calls that belong together. The key is (identity, id), because clients choose ids."""

    id: str
    identity: str
    agent: str
    """Agent of the last call."""
    provider: str
    """Provider of the last call that reached one; "" when every call was refused."""
    providers: tuple[str, ...]
    """Providers that served the session, the last used first."""
    models: tuple[str, ...]
    """Models that served the session, the last used first."""
    started_at: float
    """Unix time at which the first request came."""
    last_at: float
    """Unix time at which the last reply ended."""
    tools: Mapping[str, int]
    """Number of calls of each tool by the models."""

    def as_dict(self) -> dict[str, Any]:
        """Return the session as the API shows it."""
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


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows of a list, newest first, and the cursor of the next page."""

    rows: tuple[T, ...]
    next: str | None
    """An opaque cursor; None at the end of the list."""


class JournalOffset(NamedTuple):
    """The position of a line in the journal."""

    segment: int = 0
    """Number of the file."""
    byte: int = 0
    """Bytes of the file before the line."""


GROUPS: Final = ("user", "provider", "model", "agent", "day", "hour")
"""Names of the columns by which usage can be grouped."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """A selection of calls, and the columns by which their sums are grouped."""

    by: tuple[str, ...] = ()
    """Some of `GROUPS`; without any, all calls are one row."""
    since: float | None = None
    """Unix time in seconds, the beginning of a day, or of an hour where hours are asked for; None: no bound."""
    until: float | None = None
    """Exclusive end, in the same form as `since`."""
    identity: str | None = None
    provider: str | None = None
    model: str | None = None
    agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow(Totals):
    """Sums of the calls of one group."""

    group: Mapping[str, str]
    """Values of the row by the query's columns; days as 2026-11-23, hours as 2026-11-23T12:00Z."""
    duration_ms: int

    def as_dict(self) -> dict[str, Any]:
        """Return the row as the API shows it."""
        return {**self.group, **self.totals(), "duration_ms": self.duration_ms}


Filters = Mapping[str, str | int]
"""Values that rows must have, by the name of the record's or session's field."""
ALL_ROWS: Final[Filters] = MappingProxyType({})


class Store(Protocol):
    """A store of the journal's entries.

    - Every method is called on the event loop and never blocks it.
    - Every method raises `StoreFailed` where the store cannot be reached.
    - Rows and the journal's offset change in one transaction.

    Nothing is promised about threads, so that a store outside of the process, shared by several gateways, fits too.
    """

    @property
    def start_offset(self) -> JournalOffset:
        """Offset up to which the journal was applied when the store was opened."""

    async def write(self, entries: Sequence[Entry], offset: JournalOffset) -> None:
        """Write entries, and the offset up to which the journal is applied: all of it or nothing.

        A call counts once, however often it is written. Texts and lists are bounded by `entries.decode`.
        """

    async def sessions(
        self, identity: str | None, limit: int, cursor: str | None = None, where: Filters = ALL_ROWS
    ) -> Page[Session]:
        """Return sessions of one caller, or of all (None), with a call `where` agent, provider and model are these.

        Raises `BadCursor`.
        """

    async def session(self, identity: str | None, session_id: str) -> Session | None:
        """Return one session. Raises `Ambiguous` if the identity is None and several callers have this id."""

    async def calls(
        self,
        identity: str | None,
        session_id: str | None,
        limit: int,
        cursor: str | None = None,
        where: Filters = ALL_ROWS,
    ) -> Page[Record]:
        """Return calls of one session or of all, of one caller or of all, `where` fields of the record are these.

        Raises `BadCursor`.
        """

    async def call(self, identity: str | None, call_id: str) -> Record | None:
        """Return one call, of one caller or of any."""

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        """Return sums from the roll-ups, in the order of their groups; at most `MAX_ROWS`."""

    async def balances(self) -> Sequence[Balance]:
        """Return the balance of each quota bucket after its last change."""

    async def expire(self, before: float, limit: int) -> int:
        """Delete at most `limit` calls that began before `before` (Unix time), and sessions that ended before it.

        Return the number of deleted calls. Roll-ups stay.
        """

    async def close(self) -> None:
        """Close the store."""


MAX_ROWS: Final = 5_000
"""Most rows of one answer about usage."""


def rfc3339(at: float) -> str:
    """Return Unix time as UTC text with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
