"""The state of a call and the chain of middlewares around it.

- aiohttp's own middlewares see a response only after its last byte; what must see a stream is a middleware of this
  chain. A middleware awaits the next one and returns its response, with or without changes.
- `Middleware` is called once a call, `AttemptMiddleware` once for each attempt.
- A stage of a stream maps events and passes a fault on; only the server raises or renders it.

Nothing here does I/O, and nothing here knows a dialect.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, time
from typing import Any, Final, Protocol, TypeVar, overload

import msgspec

from gateway.access.identity.caller import Identity
from gateway.call.runtime import Runtime
from gateway.contract.errors import Problem, UpstreamFailed
from gateway.contract.flag import ClientRequest, Event, Facts, Head, Meter, Target, Translator
from gateway.contract.losses import Way
from gateway.contract.registry import Plugin
from gateway.money.quotas.book import CallReservation
from gateway.upstream.catalog import Offer
from gateway.upstream.fetch.fetches import Fetches

T = TypeVar("T")

MAX_DROPPED: Final = 100
"""Most dropped fields that an attempt names, because a body can have any number of them."""
MAX_POINTER: Final = 200
"""Most characters of a dropped field's name."""


class Batch(msgspec.Struct, frozen=True):
    """The events of one read of the upstream, which leave in one write.

    A struct, because one is made for every read, and a dataclass or a tuple takes three times as long to make.
    """

    events: Sequence[Event]
    fault: UpstreamFailed | None = None
    """The failure after these events; the batch with it is the last one."""


Batches = AsyncGenerator[Batch, None]


@dataclass(frozen=True, slots=True)
class Whole:
    """A response with a whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """A response with a stream of events."""

    status: int
    headers: Mapping[str, str]
    batches: Batches


Response = Whole | Stream


@dataclass(frozen=True, slots=True)
class Candidate:
    """An offer that can serve a call, and the conversion by which it does."""

    offer: Offer
    flag: Plugin
    target: Target
    way: Way
    translator: Translator | None = None
    """The translator of a translated way; None for every other way."""


@dataclass(slots=True)
class Stopwatch:
    """Measures the seconds spent waiting for the provider, until it is stopped."""

    waited: float = 0.0
    stopped: bool = False

    async def wait(self, reply: Awaitable[T]) -> T:
        """Await a reply of the provider and count the time as the provider's."""
        begun = monotonic()
        try:
            return await reply
        finally:
            self.waited += monotonic() - begun


@dataclass(slots=True)
class Attempt:
    """One try of a call at one candidate, which starts from the unchanged client's request."""

    candidate: Candidate
    request: ClientRequest
    """The request as changed so far; in the upstream's dialect after `translate`."""
    headers: Mapping[str, str] = field(repr=False)
    """The headers that the configuration adds, names in lower case: of grants, of the provider, and a credential."""
    dropped: dict[str, None] = field(default_factory=dict)
    """JSON pointers of the fields that are not carried, in the order in which they were met."""
    sent: int = 0
    """Requests that the provider may have received, and may be spending on."""
    head: Head | None = None
    meter: Meter | None = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    delivered: int | None = None
    """Bytes that the model wrote (of a whole reply: its body) and that have come so far; None before a reply."""

    def drop(self, path: str) -> None:
        """Add a field that is not carried, once (`flag.Drop`)."""
        if len(self.dropped) < MAX_DROPPED:
            # a header may hold bytes that are no text, which neither a response's header nor the store could hold
            self.dropped[path[:MAX_POINTER].encode("utf-8", "replace").decode()] = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """One HTTP request for a call, before its body is read."""

    id: str
    runtime: Runtime
    """The configuration that was current when the request came; a reload does not change it."""
    flag: Plugin
    operation: str
    agent: str
    identity: Identity | None
    """The caller; None where the listener's mode identified nobody."""
    at: float = field(default_factory=time)
    """Unix time in seconds at which the request came."""
    started: float = field(default_factory=monotonic)
    """The same moment by the monotonic clock."""


@dataclass(slots=True)
class Call:
    """One parsed request of a known caller, in the chain and until its record is written."""

    inbound: Inbound
    identity: Identity
    request: ClientRequest
    received: float = field(default_factory=monotonic)
    """The moment of the request's last byte, by the monotonic clock."""
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    """All that is opened for the call; an `aclosing` of a generator that never started would run no `finally`."""
    session_id: str = ""
    model: str = ""
    offers: Sequence[Offer] = ()
    candidates: Sequence[Candidate] = ()
    attempts: list[Attempt] = field(default_factory=list)
    reservation: CallReservation | None = None
    """The amounts reserved in quotas and rate limits; None where none applies."""
    problem: Problem | None = None
    fetches: Fetches | None = field(default=None, repr=False)
    """The files that the request names by URL; None while none was fetched."""
    first_event: float | None = None
    """The moment of a stream's first event, by the monotonic clock."""

    @property
    def id(self) -> str:
        return self.inbound.id

    @property
    def runtime(self) -> Runtime:
        return self.inbound.runtime

    @property
    def flag(self) -> Plugin:
        """The client's flag."""
        return self.inbound.flag

    @property
    def operation(self) -> str:
        return self.inbound.operation

    @property
    def at(self) -> float:
        return self.inbound.at

    @property
    def started(self) -> float:
        return self.inbound.started

    @property
    def attempt(self) -> Attempt | None:
        """The current attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def sent(self) -> int:
        """Requests that providers may have received."""
        return sum(attempt.sent for attempt in self.attempts)

    @property
    def is_native(self) -> bool:
        """Whether the provider's bytes are what the client expects."""
        return bool(self.attempts) and self.attempts[-1].candidate.way is Way.NATIVE

    @property
    def facts(self) -> Facts | None:
        """The facts of the reply so far."""
        attempt = self.attempt
        return attempt.meter.facts() if attempt and attempt.meter else None

    def start_stream(self) -> None:
        """Record the moment of a stream's first event, and stop measuring the waits for the provider."""
        self.first_event = monotonic()
        for attempt in self.attempts:
            attempt.stopwatch.stopped = True

    def overhead(self, now: float) -> float | None:
        """Return the seconds that the gateway added, or None if no provider was called.

        Counted from the request's last byte to a stream's first event (else to `now`), without the time spent waiting
        for the provider. The network, the opening of a connection and other calls on the event loop fall into waits.
        """
        if not self.sent:
            return None
        end = now if self.first_event is None else self.first_event
        return max(0.0, end - self.received - sum(attempt.stopwatch.waited for attempt in self.attempts))


Next = Callable[[Call], Awaitable[Response]]
AttemptNext = Callable[[Call, Attempt], Awaitable[Response]]


class Middleware(Protocol):
    """One step of the chain around a call."""

    async def __call__(self, call: Call, following: Next) -> Response: ...


class AttemptMiddleware(Protocol):
    """One step of the chain around an attempt."""

    async def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Response: ...


@overload
def chain(*middlewares: Middleware, last: Next) -> Next: ...
@overload
def chain(*middlewares: AttemptMiddleware, last: AttemptNext) -> AttemptNext: ...
def chain(*middlewares: Any, last: Any) -> Any:
    """Return the last step with the middlewares bound around it, outermost first."""
    following = last
    for middleware in reversed(middlewares):
        following = partial(middleware, following=following)
    return following
