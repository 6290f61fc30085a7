"""The state of a call, and the chain of middlewares around it.

- aiohttp's own middlewares get a response only after its last byte was sent. A middleware of this chain gets the
  response before its first byte is sent. So it can change the events of a stream.
- A `Middleware` runs once per call. An `AttemptMiddleware` runs once per attempt to serve the call.
- A middleware that has nothing to await returns `following(call)` without `await`, which saves a coroutine.
- A middleware that changes the events of a stream adds a stage to the stream (`responses.py`). A stage must pass on an
  error (`Batch.fault`). Only `server.py` turns the error into a reply.

Objects that are made for each call are msgspec structs. Making a dataclass of many fields takes several times as long,
and a frozen one ten times as long. Nothing here does I/O or depends on an API format.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic, time
from types import FunctionType
from typing import Any, Protocol, TypeVar, cast

import msgspec

from gateway.access.grants import Access
from gateway.access.identity.caller import Identity
from gateway.call.admission import Admitted
from gateway.call.candidate import Candidate
from gateway.call.clean_up import CleanUp
from gateway.call.cost import Cost
from gateway.call.filters import CallFilters
from gateway.call.key_redaction import Redaction, redaction
from gateway.call.plan import Plan
from gateway.call.responses import Response
from gateway.call.runtime import Runtime
from gateway.contract.dropped_fields import add_dropped
from gateway.contract.errors import Problem
from gateway.contract.flag import ClientRequest, Facts, Head, Meter
from gateway.contract.hooks import Hook
from gateway.contract.losses import Way
from gateway.contract.record import Direct
from gateway.contract.registry import Plugin
from gateway.money.quotas.book import CallReservation
from gateway.upstream.catalog import Offer
from gateway.upstream.credentials.live import Used
from gateway.upstream.fetch.fetches import Fetches
from gateway.upstream.key_pools import KeyState

T = TypeVar("T")


class Stopwatch(msgspec.Struct):
    """Measures the time that a call waits for the provider, or for files that plugins fetch."""

    waited: float = 0.0
    stopped: bool = False
    """Whether the first event of a stream has come. Waits after the first event are not measured."""

    async def wait(self, reply: Awaitable[T]) -> T:
        """Await `reply`, and add the duration to `waited`."""
        begun = monotonic()
        try:
            return await reply
        finally:
            self.waited += monotonic() - begun


class Metering(msgspec.Struct):
    """The meter of one reply (the plugin's object that reads usage), and the facts that the meter returned last."""

    meter: Meter
    hook: Hook
    """The hook `meter.facts` of the plugin that made the meter (usage reader)."""
    facts: Facts = msgspec.field(default_factory=Facts)
    stale: bool = True
    """Whether the meter (usage reader) has received more of the reply since it last returned facts."""
    failed: bool = False
    """Whether the meter (usage reader) has failed to return facts. After a failure, the meter is not called again."""

    def read(self) -> Facts:
        """Return the facts (usage, ...) that the meter has read from the reply so far.

        Raises `PluginFailed` if the meter fails. Later calls of this method then return the facts before the failure.
        """
        if self.stale and not self.failed:
            self.failed = True
            self.facts = self.hook.run(self.meter.facts)
            self.failed = self.stale = False
        return self.facts


class Attempt(msgspec.Struct, eq=False):
    """One attempt to serve a call by one candidate (model of a provider). Every attempt starts from the client's
    unchanged request.
    """

    candidate: Candidate
    request: ClientRequest
    """The request with the changes of all steps so far. After the step `translate`, it is in the provider's dialect
    (API format).
    """
    headers: Mapping[str, str]
    """Headers that the gateway adds to the request, with names in lower case.

    They come from filters, grants and the provider's configuration. An API key in the configuration is among them. A
    credential that changes at run time is not: `Sender` adds it later.
    """
    dropped: dict[str, None] = {}
    """JSON pointers of the fields that are left out of the request or reply, in the order of their discovery.

    The dict serves as an ordered set. Its values are unused."""
    sent: int = 0
    """The number of requests that the provider may have received and may charge for. Requests for the hook `steps` are
    not included (see `stepped`).
    """
    stepped: int = 0
    """The number of requests that were sent to the provider for the hook `steps` of plugins, such as a request to count
    tokens.
    """
    head: Head | None = None
    metering: Metering | None = None
    stopwatch: Stopwatch = msgspec.field(default_factory=Stopwatch)
    delivered: int | None = None
    """The number of bytes that the provider has sent as its reply. None before a reply, and for an error reply.

    In a stream, only the bytes of the model's output count. In any other reply, the whole body counts.
    """
    whole: bool = False
    """True if the reply is not a stream and was received completely. Then the reported usage is final."""
    used: Used | None = None
    """The credential of the last request, if it is of a kind that changes at run time. Otherwise, and before the first
    request, None.
    """
    key: KeyState | None = None
    """The key that was chosen for the attempt. It is None if the provider has only one key or none."""
    renewed: bool = False
    """Whether the credential was replaced after a refusal. It is replaced once at most."""
    began: float = msgspec.field(default_factory=monotonic)
    """The time at which the attempt began, by the monotonic clock, in seconds."""
    stack: CleanUp | None = None
    """The clean-up of the attempt. None if the call has only one candidate (model of a provider). Then the clean-up
    functions are in `Call.stack`.
    """
    deadline: float | None = None
    """The latest time for the first event, by the monotonic clock, in seconds. It is None if there is no limit."""
    problem: Problem | None = None
    """The failure of an attempt that failed before its first event. None otherwise.

    This field, `seconds` and `cost` are set only if the call can have several attempts (failover).
    """
    seconds: float | None = None
    """The duration of a failed attempt, in seconds."""
    cost: Cost | None = None
    """The cost of a failed attempt. None if the attempt has not failed, or if the call can have only one attempt."""
    is_reported: bool = False
    """Whether the result of the attempt was reported to `Health` (`call/failover.py`)."""
    redaction: Redaction = cast("Redaction", None)
    """The object that removes the gateway's credentials from everything that the provider sends back.

    `__post_init__` sets this field."""

    def __repr__(self) -> str:
        """Return a text without the headers, because headers contain API keys."""
        return f"Attempt({self.candidate.offer.name!r})"

    def __post_init__(self) -> None:
        provider = self.candidate.offer.provider
        others = tuple(key.secret.value for key in provider.apikeys) if provider.apikeys else ()
        self.redaction = redaction(provider.apikey.value, provider.baseurl, tuple(self.headers.items()), others)

    def drop(self, path: str) -> None:
        """Record the JSON pointer of a request field that is not sent to the provider. Plugins call this as their
        `Drop` callback.

        Duplicates, and pointers beyond a maximum number, are ignored.
        """
        add_dropped(self.dropped, path)


class Inbound(msgspec.Struct, frozen=True):
    """One HTTP request for a call, before its body is read."""

    id: str
    runtime: Runtime
    """The configuration at the time of the request. A reload of the configuration does not affect calls that have
    begun."""
    flag: Plugin
    operation: str
    agent: str
    identity: Identity | None
    """The caller. It is None if the guard refused the request before or during identification."""
    headers: Mapping[str, str] = {}
    """The headers of the request that are recorded with the call (`recorded_headers.py`), and no others."""
    at: float = msgspec.field(default_factory=time)
    """Unix time in seconds at which the request came."""
    started: float = msgspec.field(default_factory=monotonic)
    """The time at which the request came, by the monotonic clock, in seconds."""


class Call(msgspec.Struct, eq=False):
    """One parsed request of an identified caller, from its entry into the chain until its record is written."""

    inbound: Inbound
    identity: Identity
    request: ClientRequest
    received: float = msgspec.field(default_factory=monotonic)
    """The time at which the last byte of the request was read, by the monotonic clock, in seconds."""
    stack: CleanUp = msgspec.field(default_factory=CleanUp)
    """Functions that close, at the end of the call, everything that was opened for it.

    A `finally` in the stream's generators would not be enough: it does not run if the generator is closed before it has
    started.
    """
    admitted: Admitted | None = None
    """The admission of the call, with the bytes reserved for it. None for a call that is not sent to a provider."""
    session_id: str = ""
    plan: Plan | None = None
    """The decisions that hold for every call of this caller with this model name. The value is None until the plan is
    looked up.
    """
    model: str = ""
    offers: Sequence[Offer] = ()
    candidates: Sequence[Candidate] = ()
    attempts: list[Attempt] = []
    output_limit: int | None = None
    """The client's limit of output tokens, read from the request (`Flag.limit`). None if the client sets no limit."""
    reservation: CallReservation | None = None
    """The amounts reserved in quotas and rate limits. It is None if no quota or rate limit applies to the caller."""
    problem: Problem | None = None
    announced: Attempt | None = None
    """The attempt whose journal line was written last (`write_ahead.py`). It is None if no line has been written."""
    left: bool = False
    """Whether the client has disconnected. If so, the gateway reads the rest of the reply only to learn its cost."""
    goes_on: Callable[[], bool] | None = None
    """A function that is called when the client disconnects. It returns whether the call continues without the client.

    None if the call is cancelled when the client disconnects."""
    filters: CallFilters | None = None
    """The filters that are open for the call. The value is None if no filter is switched on in the configuration."""
    filter_headers: dict[str, str] = {}
    """Headers that filters add to the provider's request, with names in lower case."""
    direct: Direct | None = None
    """The request line and the sizes of a direct call, for its record. The value is None for any other call."""
    fetches: Fetches | None = None
    """Fetches the files that the request names by URL. The value is None until a plugin needs the first file."""
    first_event: float | None = None
    """The time of a stream's first event, by the monotonic clock, in seconds. It is None before the event."""
    access: Access = cast("Access", None)
    """The rights of the caller. `__post_init__` sets this field."""

    def __repr__(self) -> str:
        return f"Call({self.id!r})"

    def __post_init__(self) -> None:
        self.access = self.runtime.grants.access(self.identity)

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
        """The compatibility flag (plugin of an API format) that the client uses."""
        return self.inbound.flag

    @property
    def operation(self) -> str:
        return self.inbound.operation

    @property
    def at(self) -> float:
        return self.inbound.at

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt. It is None before the first one."""
        return self.attempts[-1] if self.attempts else None

    @property
    def requests(self) -> int:
        """The number of requests that providers may have received in all attempts, including plugins' `steps`."""
        return sum([attempt.sent + attempt.stepped for attempt in self.attempts])

    @property
    def is_native(self) -> bool:
        """Whether the provider's reply is passed to the client unchanged, because both use the same format."""
        return bool(self.attempts) and self.attempts[-1].candidate.way is Way.NATIVE

    @property
    def facts(self) -> Facts | None:
        """The facts (usage, stop reason, ...) that were last read from the reply. It is None before a reply."""
        attempt = self.attempt
        return attempt.metering.facts if attempt and attempt.metering else None

    def read_facts(self) -> Facts | None:
        """Return the facts (usage, stop reason, ...) of the reply so far, or None before a reply.

        Raises `PluginFailed` if the meter fails.
        """
        attempt = self.attempt
        return attempt.metering.read() if attempt and attempt.metering else None

    def forget_facts(self) -> None:
        """Discard the facts (usage, ...) that were read from the reply, so that the call's record does not contain
        them.
        """
        if (attempt := self.attempt) is not None:
            attempt.metering = None

    def start_stream(self) -> None:
        """Record the time of a stream's first event, and stop measuring how long the call waits for the provider."""
        self.first_event = monotonic()
        for attempt in self.attempts:
            attempt.stopwatch.stopped = True

    def overhead(self, now: float) -> float | None:
        """Return the seconds that the gateway added to the call, or None if no provider was called.

        This is the time from the last byte of the request to the first event of a stream, without the time spent
        waiting for the provider. If there is no stream, it ends at `now`. Opening a connection counts as waiting.
        """
        if not self.requests:
            return None
        end = now if self.first_event is None else self.first_event
        return max(0.0, end - self.received - sum([attempt.stopwatch.waited for attempt in self.attempts]))


Next = Callable[[Call], Awaitable[Response]]
AttemptNext = Callable[[Call, Attempt], Awaitable[Response]]


class Middleware(Protocol):
    """One step of the chain of a call. It runs once for each call."""

    def __call__(self, call: Call, following: Next) -> Awaitable[Response]: ...


class AttemptMiddleware(Protocol):
    """One step of the chain of an attempt. It runs once for each attempt to serve a call."""

    def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Awaitable[Response]: ...


def chain(*middlewares: Middleware, last: Next) -> Next:
    """Return a function that runs the middlewares of a call in this order, and then the step `last`."""
    following = last
    for middleware in reversed(middlewares):
        following = _before(_function(middleware), following)
    return following


def attempt_chain(*middlewares: AttemptMiddleware, last: AttemptNext) -> AttemptNext:
    """Return a function that runs the middlewares of an attempt in this order, and then the step `last`."""
    following = last
    for middleware in reversed(middlewares):
        following = _before_attempt(_function(middleware), following)
    return following


def _before(step: Middleware, following: Next) -> Next:
    # calling a function with positional arguments takes half the time of calling a `partial` with a keyword argument
    return lambda call: step(call, following)


def _before_attempt(step: AttemptMiddleware, following: AttemptNext) -> AttemptNext:
    return lambda call, attempt: step(call, attempt, following)


def _function(middleware: Any) -> Any:
    """Return `middleware` if it is a function. For an object, return its bound method `__call__`, because calling this
    method is faster than calling the object.
    """
    return middleware if isinstance(middleware, FunctionType) else middleware.__call__
