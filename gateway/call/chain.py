"""The chain around a call, and what travels along it.

aiohttp's own middlewares get a reply back only after its last byte went out; what must see a stream is a middleware of
this chain. A middleware is called once a call (or once an attempt), awaits the next one, and returns its answer,
wrapped or not. Nothing here does I/O, and nothing here knows a dialect.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING, Protocol, TypeVar

from gateway.access.identity.caller import Identity
from gateway.contract.errors import Problem
from gateway.contract.flag import ClientRequest, Event, Facts, Head, Meter, Target, Translator
from gateway.contract.registry import Plugin

if TYPE_CHECKING:
    from gateway.call.capture import Capture
    from gateway.call.runtime import Runtime
    from gateway.money.quotas.book import CallReservation
    from gateway.money.quotas.ledger import Charge
    from gateway.upstream.catalog import Offer
    from gateway.upstream.fetch.fetches import Fetches

T = TypeVar("T")

Items = AsyncGenerator[Sequence[Event], None]
"""A streamed reply: the events of one read of the upstream at a time, so that they leave in one write."""


MAX_DROPPED = 100
"""Fields that are named when they are not carried; a body can have any number of them."""
MAX_POINTER = 200
"""Characters of such a name."""


@dataclass(slots=True)
class Answer:
    """What every middleware returns: a whole body, or items."""

    status: int
    headers: dict[str, str]
    body: bytes | None = None
    items: Items | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve a call: an offer, by one of its flags, translated or not."""

    offer: Offer
    flag: Plugin
    target: Target
    translator: Translator | None
    native: bool
    """Same envelope: the provider's bytes are what the client expects."""
    estimated: bool = False
    """Nobody is asked: what the client wants to know is estimated here (`call/middleware/count.py`)."""


@dataclass(slots=True)
class Attempt:
    """One try of a call at one candidate, opened fresh from the unchanged ask."""

    candidate: Candidate
    request: ClientRequest
    """In the upstream's dialect, once `translate` has been there."""
    headers: Mapping[str, str] = field(repr=False)
    """What the configuration adds to the request, names in lower case: grants' and provider's headers, a credential."""
    dropped: dict[str, None] = field(default_factory=dict)
    """JSON pointers in the order in which they were met."""
    sent: bool = False
    """The provider may have the request, and may be spending on it."""
    head: Head | None = None
    meter: Meter | None = None
    waited: float = 0.0
    """Seconds for which the provider was waited for, until a whole reply or a stream's first event."""
    delivered: int | None = None
    """Bytes of what the model wrote (of a whole reply: of its body) that came so far; None: no reply."""

    async def wait(self, reply: Awaitable[T]) -> T:
        """Await something of the provider's; the time counts as its own, not the gateway's."""
        begun = monotonic()
        try:
            return await reply
        finally:
            self.waited += monotonic() - begun

    def drop(self, path: str) -> None:
        """Note a field that is not carried, once (`flag.Drop`)."""
        if len(self.dropped) < MAX_DROPPED:
            # a header may hold bytes that are no text, which neither a reply's header nor the store could hold
            self.dropped[path[:MAX_POINTER].encode("utf-8", "replace").decode()] = None


@dataclass(slots=True)
class Call:
    """One client request on its way. Made by the server, filled in along the chain, closed by the server."""

    id: str
    runtime: Runtime
    """The configuration that was current when the call began; a reload does not touch it."""
    flag: Plugin
    operation: str
    agent: str
    identity: Identity | None = None
    request: ClientRequest | None = None
    session_id: str = ""
    model: str = ""
    offers: Sequence[Offer] = ()
    candidates: Sequence[Candidate] = ()
    attempts: list[Attempt] = field(default_factory=list)
    reservation: CallReservation | None = None
    """What it holds of quotas and rate limits; None where none applies."""
    charges: tuple[Charge, ...] = ()
    """What it took from quota buckets, once it is settled."""
    problem: Problem | None = None
    capture: Capture | None = field(default=None, repr=False)
    """Its bodies, where they are kept."""
    fetches: Fetches | None = field(default=None, repr=False)
    """The files that it named by URL; None while there are none."""
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    """Everything opened for the call; an `aclosing` of a generator that never started would run no `finally`."""
    at: float = field(default_factory=time)
    started: float = field(default_factory=monotonic)
    received: float | None = None
    """When the request's last byte had come, by the same clock as `started`."""
    first_event: float | None = None
    finished: bool = False
    """Its record has been written."""

    @property
    def attempt(self) -> Attempt | None:
        """The current try."""
        return self.attempts[-1] if self.attempts else None

    @property
    def facts(self) -> Facts | None:
        """What is known of the reply so far."""
        attempt = self.attempt
        return attempt.meter.facts() if attempt and attempt.meter else None

    def overhead(self, now: float) -> float | None:
        """Seconds that the gateway itself took, up to a stream's first event, or to `now` for what is no stream.

        From the request's last byte on, without the waits for the provider; what is in them is the network's time, the
        opening of a connection, and that of other calls on the event loop. None where no provider was asked.
        """
        if self.received is None or not any(attempt.sent for attempt in self.attempts):
            return None
        end = now if self.first_event is None else self.first_event
        return max(0.0, end - self.received - sum(attempt.waited for attempt in self.attempts))

    def require_request(self) -> ClientRequest:
        """The ask of a call inside the chain, where there always is one."""
        assert self.request is not None
        return self.request

    def require_identity(self) -> Identity:
        assert self.identity is not None
        return self.identity

    def require_attempt(self) -> Attempt:
        assert self.attempts
        return self.attempts[-1]


Next = Callable[[Call], Awaitable[Answer]]


class Middleware(Protocol):
    """One step of the chain."""

    async def __call__(self, call: Call, following: Next) -> Answer: ...


def chain(*middlewares: Middleware, last: Next) -> Next:
    """Middlewares prebound around the last step, outermost first."""
    following = last
    for middleware in reversed(middlewares):
        following = partial(middleware, following=following)
    return following
