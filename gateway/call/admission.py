"""Admission of calls: limits on the number of calls in flight, and on the memory that their bodies take.

- A call that exceeds a limit is refused as early as possible, in most cases before its body is read. So a refusal takes
  little work in an overload.
- The bytes of all bodies share one budget. For a body of known length, all bytes are reserved at once. For a body of
  unknown length, bytes are reserved piece by piece. Bytes that decompression adds are also reserved piece by piece.
- The bytes of a request's body stay reserved until the call ends, because a second attempt needs the body again.
- Buffered bytes of a provider's reply count too. A reply that is not streamed counts until the client has received it.
  In a streamed reply, only the bytes of an incomplete event count.
- Requests for health checks, metrics, pages and the gateway's own API are not calls. They are not counted.

`web/connection_limits.py` limits connections. `request_body.py` limits the time in which a body must arrive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.call.failover import NO_MEMORY, CandidateRefused
from gateway.config.model import Provider
from gateway.config.server import Limits
from gateway.contract.errors import RATE_LIMIT, UNAVAILABLE, Problem, Refused, UpstreamFailed
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.throttle import Throttle

RETRY_SECONDS: Final = 1
"""Seconds after which a refused client may try again (`Retry-After`). The wait is short, because every call that ends
makes room for a new one."""
_LATER: Final[Mapping[str, Any]] = {"retry_after": RETRY_SECONDS, "retryable": True}


class Admission:
    """Counts the calls in flight of one process, and reserves memory for their bodies. Refuses calls that exceed a
    limit.
    """

    def __init__(self, limits: Callable[[], Limits], metrics: Metrics, log: Logger) -> None:
        self._limits = limits
        self._metrics = metrics
        self._log = log
        self._calls: Counter[str] = Counter()
        """The number of calls in flight, by the login of the caller."""
        self._held: Counter[str] = Counter()
        """The number of bytes that are reserved for bodies and replies, by the login of the caller."""
        self._all_calls = self._all_held = 0
        """The totals of `_calls` and `_held` over all callers. They are stored, because every call needs them."""
        self._by_provider: Counter[str] = Counter()
        """The number of calls in flight, by the id of the provider."""
        self._refusals = Throttle()
        metrics.admission(lambda: self._all_calls, lambda: self._all_held, lambda: dict(self._by_provider))

    def enter(self, login: str, size: int) -> Admitted:
        """Admit a call whose body has `size` bytes (0 if unknown).

        Raises `Refused` if a limit is reached.
        """
        limits = self._limits()
        if self._calls[login] >= limits.calls_per_identity:
            message = f"{login} has {limits.calls_per_identity} calls in flight already, the limit; try again"
            raise self._refusal("calls_per_identity", Problem(RATE_LIMIT, message, **_LATER))
        if self._all_calls >= limits.calls:
            message = f"the gateway has {limits.calls} calls in flight already, the limit; try again"
            raise self._refusal("calls", Problem(UNAVAILABLE, message, **_LATER))
        admitted = Admitted(self, login)
        admitted.hold(size)
        self._calls[login] += 1
        self._all_calls += 1
        return admitted

    def hold(self, login: str, size: int) -> None:
        """Reserve bytes for a caller. Raises `Refused` if too few bytes of the budget are left.

        All reservations of one caller may add up to at most half of the budget. A single reservation may be larger, if
        the caller has no other reservation. Without this limit, a caller could announce large bodies, send nothing, and
        block all other callers.
        """
        most = self._limits().buffer_bytes
        if self._all_held + size > most or (self._held[login] and self._held[login] + size > most // 2):
            message = f"calls in flight take up the {most} bytes that the gateway has for bodies and replies; try again"
            raise self._refusal("buffer_bytes", Problem(UNAVAILABLE, message, **_LATER))
        self._held[login] += size
        self._all_held += size

    def give_back(self, login: str, size: int) -> None:
        self._held[login] -= size
        self._all_held -= size

    def enter_provider(self, provider: Provider) -> None:
        """Count a call to a provider as in flight. Raises `CandidateRefused` if the provider's limit is reached."""
        limit, count = provider.calls_in_flight, self._by_provider[provider.id]
        if limit is not None and count >= limit:
            message = f'provider "{provider.id}" has {limit} calls in flight already, the limit; try again'
            problem = Problem(UNAVAILABLE, message, **_LATER)
            raise CandidateRefused(self._refusal(f"providers.{provider.id}.calls_in_flight", problem).problem)
        self._by_provider[provider.id] = count + 1

    def in_flight(self, provider_id: str) -> int:
        """Return the number of calls in flight at a provider."""
        return self._by_provider[provider_id]

    def leave_provider(self, provider: Provider) -> None:
        self._by_provider[provider.id] -= 1

    def leave(self, login: str, size: int) -> None:
        self.give_back(login, size)
        self._calls[login] -= 1
        self._all_calls -= 1
        if not self._calls[login]:
            del self._calls[login], self._held[login]

    def _refusal(self, limit: str, problem: Problem) -> Refused:
        self._metrics.call_refused(limit)
        if count := self._refusals.due(limit):
            self._log.warning("calls.refused", limit=limit, count=count)
        return Refused(problem)


class Admitted:
    """One admitted call, with the bytes that are reserved for it."""

    def __init__(self, admission: Admission, login: str) -> None:
        self._admission = admission
        self._login = login
        self._size = 0
        """The number of bytes that are reserved for the body of the request."""
        self._reply = 0
        """The number of bytes that are reserved for the buffered part of the reply."""

    def hold(self, size: int) -> None:
        """Reserve `size` more bytes. Raises `Refused` if the budget is used up."""
        self._admission.hold(self._login, size)
        self._size += size

    def ensure(self, size: int) -> None:
        """Reserve more bytes for the request if fewer than `size` are reserved.

        Raises `Refused` if the budget is used up.
        """
        if size > self._size:
            self.hold(size - self._size)

    def shrink(self, size: int) -> None:
        """Release the bytes beyond `size` that are reserved for the request."""
        self._admission.give_back(self._login, self._size - size)
        self._size = size

    def hold_reply(self, size: int) -> None:
        """Set the bytes that are reserved for the buffered part of the reply to `size`.

        Raises `UpstreamFailed` if the budget is used up. The exception is not `Refused`, because the provider has
        already processed the request.
        """
        more = size - self._reply
        if more <= 0:
            self._admission.give_back(self._login, -more)
        else:
            try:
                self._admission.hold(self._login, more)
            except Refused as error:
                raise UpstreamFailed(replace(error.problem, reason=NO_MEMORY)) from None
        self._reply = size

    def leave(self) -> None:
        """End the call's admission, and release all its reserved bytes."""
        self._admission.leave(self._login, self._size + self._reply)
