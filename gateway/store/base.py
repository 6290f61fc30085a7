"""What is kept of calls and sessions, and the promise that every store gives: `put` never waits and never raises.

The protocol and its values; how rows lie on a disk is a store's own affair. Nothing here does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

from gateway.flag import Usage
from gateway.record import Record, dollars

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


@dataclass(frozen=True, slots=True)
class Session:
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
    calls: int
    failed: int
    """Calls whose outcome was not `ok`."""
    usage: Usage
    known_cost: int
    """Nanodollars of the calls whose cost is known."""
    cost_unknown_calls: int
    estimated_calls: int
    started_at: float
    """Unix time at which the first request came."""
    last_at: float
    """Unix time at which the last reply ended."""

    @property
    def cost(self) -> int | None:
        """Nanodollars; None when nothing is known of what was spent, so that unknown never looks like free."""
        return None if self.cost_unknown_calls and not self.known_cost else self.known_cost

    def as_dict(self) -> dict[str, Any]:
        """The session as the API shows it."""
        return {
            "id": self.id,
            "identity": self.identity,
            "agent": self.agent,
            "provider": self.provider,
            "providers": list(self.providers),
            "models": list(self.models),
            "calls": self.calls,
            "failed": self.failed,
            "tokens": self.usage.as_dict(),
            "cost_usd": dollars(self.cost),
            "cost_unknown_calls": self.cost_unknown_calls,
            "estimated_calls": self.estimated_calls,
            "started_at": rfc3339(self.started_at),
            "last_at": rfc3339(self.last_at),
        }


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows of a list, newest first, and where the next ones start."""

    rows: tuple[T, ...]
    next: str | None
    """Opaque; None at the end of the list."""


class Store(Protocol):
    """Keeps records. Every method is called on the event loop and blocks it never."""

    def put(self, record: Record) -> None:
        """Take a record; it can be read soon after. Never raises, never waits. The same call's id counts once."""

    async def sessions(self, identity: str | None, limit: int, cursor: str | None = None) -> Page[Session]:
        """Sessions of one caller, or of all (None). Raises `BadCursor`."""

    async def session(self, identity: str | None, session_id: str) -> Session | None:
        """One session. Raises `Ambiguous` where the identity is None and several callers have one of this id."""

    async def calls(
        self, identity: str | None, session_id: str | None, limit: int, cursor: str | None = None
    ) -> Page[Record]:
        """Calls of one session or of all, of one caller or of all. Raises `BadCursor`."""

    async def flush(self) -> None:
        """Return when all that was put before can be read. Raises `StoreFailed` when that takes too long."""

    async def close(self) -> None:
        """Write all that was put, then let go of the files. What cannot be written is counted in the log."""


def rfc3339(at: float) -> str:
    """Unix time as UTC text with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
