"""What is kept of calls and sessions, and what every store must do for it.

The protocol and its values; how rows lie on a disk is a store's own affair. Nothing here does I/O.
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
    """A cursor that no page ever gave out."""


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
        """Nanodollars; None when nothing is known of what was spent, so that unknown never looks like free."""
        return None if self.cost_unknown_calls and not self.known_cost else self.known_cost

    def totals(self) -> dict[str, Any]:
        """The sums as the API shows them."""
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
    """The calls that belong together. The key is (identity, id): an id alone comes from the client."""

    id: str
    identity: str
    agent: str
    """Of the last call, like `provider`."""
    provider: str
    """"" when every call was refused."""
    providers: tuple[str, ...]
    """All that served it, the last used first, like `models`."""
    models: tuple[str, ...]
    started_at: float
    """Unix time at which the first request came."""
    last_at: float
    """Unix time at which the last reply ended."""
    tools: Mapping[str, int]
    """How often the models called each tool."""

    def as_dict(self) -> dict[str, Any]:
        """The session as the API shows it."""
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
    """Some rows of a list, newest first, and where the next ones start."""

    rows: tuple[T, ...]
    next: str | None
    """Opaque; None at the end of the list."""


class JournalOffset(NamedTuple):
    """Where a line of the journal begins: the number of its file, and the bytes before it."""

    segment: int = 0
    offset: int = 0


GROUPS: Final = ("user", "provider", "model", "agent", "day", "hour")
"""What usage can be grouped by."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which calls are summed, and into which rows."""

    by: tuple[str, ...] = ()
    """Some of `GROUPS`; one row for everything without any."""
    since: float | None = None
    """Unix time in seconds, the beginning of a day, or of an hour where hours are asked for; None: no bound."""
    until: float | None = None
    """As `since`, and not included."""
    identity: str | None = None
    provider: str | None = None
    model: str | None = None
    agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow(Totals):
    """Sums of the calls of one group."""

    group: Mapping[str, str]
    """The query's `by` to this row's values; days as 2026-11-23, hours as 2026-11-23T12:00Z."""
    duration_ms: int

    def as_dict(self) -> dict[str, Any]:
        """The row as the API shows it."""
        return {**self.group, **self.totals(), "duration_ms": self.duration_ms}


Filters = Mapping[str, str | int]
"""Values that rows must have, by the name of the record's or session's field."""
ALL_ROWS: Final[Filters] = MappingProxyType({})


class Store(Protocol):
    """Keeps what the journal says. Every method is called on the event loop and blocks it never.

    Written so that a store outside of the process, which several gateways share, can stand in its place: all waiting
    is awaited, rows and the place that they were read at change together, and nothing is promised about threads.
    Everything raises `StoreFailed` where the store cannot be reached.
    """

    @property
    def begun(self) -> JournalOffset:
        """Up to where the journal had been taken over when the store was opened."""

    async def write(self, entries: Sequence[Entry], place: JournalOffset) -> None:
        """Take entries over, and that the journal was read up to `place`: all of it or nothing. A call counts once.

        Texts and lists are bounded, as `entries.decode` gives them.
        """

    async def sessions(
        self, identity: str | None, limit: int, cursor: str | None = None, where: Filters = ALL_ROWS
    ) -> Page[Session]:
        """Return sessions of one caller, or of all (None), with a call `where` agent, provider and model are these.

        Raises `BadCursor`.
        """

    async def session(self, identity: str | None, session_id: str) -> Session | None:
        """One session. Raises `Ambiguous` where the identity is None and several callers have one of this id."""

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
        """One call, of one caller or of any."""

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        """Sums from the roll-ups, in the order of their groups; at most `MAX_ROWS`."""

    async def balances(self) -> Sequence[Balance]:
        """What the last change left in each quota bucket."""

    async def expire(self, before: float, limit: int) -> int:
        """Delete at most `limit` of the calls that began before `before` (Unix time), and sessions that end there.

        Gives the number of calls. Roll-ups stay.
        """

    async def close(self) -> None:
        """Let go of the store."""


MAX_ROWS: Final = 5_000
"""Of one answer about usage."""


def rfc3339(at: float) -> str:
    """Unix time as UTC text with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
