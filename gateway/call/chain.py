"""The state of a call and the chain of middlewares around it.

- aiohttp's own middlewares get a response only after its last byte was sent. So a step that must see the events of a
  stream is a middleware of this chain. Each middleware awaits the next step, and returns the response of that step with
  or without changes.
- A `Middleware` runs once per call. An `AttemptMiddleware` runs once per attempt to serve the call.
- A middleware that wraps a stream may change the events, and passes an error (`Batch.fault`) on. Only `server.py` turns
  the error into a reply.

Nothing here does I/O, and nothing here knows a dialect.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, time
from typing import Any, Protocol, TypeVar, overload

import msgspec

from gateway.access.identity.caller import Identity
from gateway.call.admission import Admitted
from gateway.call.key_redaction import Redaction, redaction
from gateway.call.runtime import Runtime
from gateway.contract.dropped_fields import add_dropped
from gateway.contract.errors import GatewayError, Problem
from gateway.contract.flag import ClientRequest, Event, Facts, Head, Meter, Target
from gateway.contract.hooks import Hook
from gateway.contract.losses import Way
from gateway.contract.registry import LoadedTranslator, Plugin
from gateway.money.quotas.book import CallReservation
from gateway.upstream.catalog import Offer
from gateway.upstream.fetch.fetches import Fetches

T = TypeVar("T")


class Batch(msgspec.Struct, frozen=True):
    """All or some of the events from one read of the provider's reply. They are sent to the client in one write.

    This is a msgspec struct because an instance is created for every read. Creating a dataclass or a named tuple would
    take three times as long.
    """

    events: Sequence[Event]
    fault: GatewayError | None = None
    """The failure of the provider or of a plugin that followed these events; None if there was none.

    A batch with a failure is the last batch."""
    costly: bool = False
    """Whether an event takes too long to read on the event loop (`upstream/process_pool.py`)."""


Batches = AsyncGenerator[Batch, None]


@dataclass(frozen=True, slots=True)
class Whole:
    """A response whose body is complete."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """A response whose body is a stream of events."""

    status: int
    headers: Mapping[str, str]
    batches: Batches


Response = Whole | Stream


@dataclass(frozen=True, slots=True)
class Candidate:
    """An offer that can serve a call, with the conversion between the client's and the provider's format."""

    offer: Offer
    flag: Plugin
    target: Target
    way: Way
    translator: LoadedTranslator | None = None
    """The translator, if `way` is `Way.TRANSLATED`; None otherwise."""


@dataclass(slots=True)
class Stopwatch:
    """Measures the seconds that a call waits for the provider, and for files that plugins fetch."""

    waited: float = 0.0
    stopped: bool = False
    """Whether the first event of a stream has come. After the first event, waiting is not measured."""

    async def wait(self, reply: Awaitable[T]) -> T:
        """Await `reply` and add the time that this takes to `waited`."""
        begun = monotonic()
        try:
            return await reply
        finally:
            self.waited += monotonic() - begun


@dataclass(slots=True)
class Metering:
    """The plugin object that reads the usage in one reply (the meter), with the facts that it returned last."""

    meter: Meter
    hook: Hook
    """The hook `meter.facts` of the meter's plugin."""
    facts: Facts = field(default_factory=Facts)
    stale: bool = True
    """Whether the meter has been given more of the reply since `facts` was set."""
    failed: bool = False
    """Whether the meter has failed to return facts. Then it is not asked again."""

    def read(self) -> Facts:
        """Return the facts so far. Raises `PluginFailed` if the meter fails, but only for its first failure."""
        if self.stale and not self.failed:
            self.failed = True
            self.facts = self.hook.run(self.meter.facts)
            self.failed = self.stale = False
        return self.facts


@dataclass(slots=True)
class Attempt:
    """One attempt to serve a call by one candidate. Every attempt starts from the client's unchanged request."""

    candidate: Candidate
    request: ClientRequest
    """The request with the changes of all steps so far; after the step `translate`, in the provider's dialect."""
    headers: Mapping[str, str] = field(repr=False)
    """Headers that the gateway adds, with names in lower case. They come from the grants and from the provider's
    configuration, and include the credential."""
    dropped: dict[str, None] = field(default_factory=dict)
    """JSON pointers of the fields that are not sent on, in the order in which they were found. The values are unused:
    the dict serves as an ordered set."""
    sent: int = 0
    """The number of requests that the provider may have received and may charge for, except those in `stepped`."""
    stepped: int = 0
    """The number of requests that `steps` of plugins have sent to the provider, such as for a count of tokens."""
    head: Head | None = None
    metering: Metering | None = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    delivered: int | None = None
    """The number of bytes that have been received so far: of the model's output in a stream, or of the whole body of
    another reply. None before a reply."""
    whole: bool = False
    """Whether a reply that is not a stream has been read to its end, so that its report of usage is final."""
    redaction: Redaction = field(init=False, repr=False)
    """The object that removes the gateway's keys from everything that the provider sends back."""

    def __post_init__(self) -> None:
        provider = self.candidate.offer.provider
        self.redaction = redaction(provider.apikey.value, provider.baseurl, tuple(self.headers.items()))

    def drop(self, path: str) -> None:
        """Record a field that is not sent on (`flag.Drop`). Duplicates, and fields beyond the maximum, are ignored."""
        add_dropped(self.dropped, path)


@dataclass(frozen=True, slots=True)
class Inbound:
    """One HTTP request for a call, before its body is read."""

    id: str
    runtime: Runtime
    """The configuration at the time of the request. A reload does not affect calls that have begun."""
    flag: Plugin
    operation: str
    agent: str
    identity: Identity | None
    """The caller; None if the guard refused the request before or during identification."""
    at: float = field(default_factory=time)
    """Unix time in seconds at which the request came."""
    started: float = field(default_factory=monotonic)
    """The time at which the request came, by the monotonic clock, in seconds."""


@dataclass(slots=True)
class Call:
    """One parsed request of an identified caller, from its entry into the chain until its record is written."""

    inbound: Inbound
    identity: Identity
    request: ClientRequest
    received: float = field(default_factory=monotonic)
    """The time at which the last byte of the request was read, by the monotonic clock, in seconds."""
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    """The clean-up of everything that is opened for the call. The `finally` blocks of the stream's generators
    are not enough: if a generator is closed before it has started, none of its `finally` blocks runs."""
    admitted: Admitted | None = field(default=None, repr=False)
    """The call's place among the calls in flight, with the bytes reserved for it. None for a call that is not sent."""
    session_id: str = ""
    model: str = ""
    offers: Sequence[Offer] = ()
    candidates: Sequence[Candidate] = ()
    attempts: list[Attempt] = field(default_factory=list)
    output_limit: int | None = None
    """The maximum number of output tokens that the client allows (`Flag.limit`); None if there is no limit."""
    reservation: CallReservation | None = None
    """The amounts reserved in quotas and rate limits; None if no quota or rate limit applies to the caller."""
    problem: Problem | None = None
    announced: bool = False
    """Whether the journal has a line that the call is about to be sent (`write_ahead.py`)."""
    left: bool = False
    """Whether the client has disconnected. The provider's reply is then read only to learn what the call costs."""
    goes_on: Callable[[], bool] | None = field(default=None, repr=False)
    """The function that is called when the client leaves, and returns whether the call goes on without the client.

    None if such a call is cancelled."""
    fetches: Fetches | None = field(default=None, repr=False)
    """The fetches of files that the request names by URL; None until a plugin asks for the first file."""
    first_event: float | None = None
    """The time of a stream's first event, by the monotonic clock, in seconds; None if no event has come."""

    def hold_reply(self, size: int) -> None:
        """Reserve `size` bytes for the buffered part of the reply. Raises `UpstreamFailed` if the budget is used up."""
        if self.admitted is not None:
            self.admitted.hold_reply(size)

    @property
    def id(self) -> str:
        return self.inbound.id

    @property
    def runtime(self) -> Runtime:
        return self.inbound.runtime

    @property
    def flag(self) -> Plugin:
        """The flag (API format) that the client speaks."""
        return self.inbound.flag

    @property
    def operation(self) -> str:
        return self.inbound.operation

    @property
    def at(self) -> float:
        return self.inbound.at

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt; None before the first one."""
        return self.attempts[-1] if self.attempts else None

    @property
    def requests(self) -> int:
        """The number of requests that providers may have received, also from `steps` of plugins, in all attempts."""
        return sum([attempt.sent + attempt.stepped for attempt in self.attempts])

    @property
    def is_native(self) -> bool:
        """Whether the provider's reply is passed to the client unchanged, because both speak the same format."""
        return bool(self.attempts) and self.attempts[-1].candidate.way is Way.NATIVE

    @property
    def facts(self) -> Facts | None:
        """The facts (usage, stop reason, ...) that were read last; None before a reply."""
        attempt = self.attempt
        return attempt.metering.facts if attempt and attempt.metering else None

    def read_facts(self) -> Facts | None:
        """Return the facts in the reply so far; None before a reply. Raises `PluginFailed` if the meter fails."""
        attempt = self.attempt
        return attempt.metering.read() if attempt and attempt.metering else None

    def start_stream(self) -> None:
        """Record the time of a stream's first event, and stop measuring how long the call waits for the provider."""
        self.first_event = monotonic()
        for attempt in self.attempts:
            attempt.stopwatch.stopped = True

    def overhead(self, now: float) -> float | None:
        """Return the seconds that the gateway added to the call; None if no provider was called.

        This is the time from the request's last byte to the first event of a stream, or to `now` if there is no stream.
        The time spent waiting for the provider is subtracted. The latency of the network, the opening of a connection,
        and the work of other calls on the event loop during a wait count as waiting.
        """
        if not self.requests:
            return None
        end = now if self.first_event is None else self.first_event
        return max(0.0, end - self.received - sum([attempt.stopwatch.waited for attempt in self.attempts]))


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
    """Return a function that runs the middlewares around the step `last`. The first middleware is the outermost."""
    following = last
    for middleware in reversed(middlewares):
        following = partial(middleware, following=following)
    return following
