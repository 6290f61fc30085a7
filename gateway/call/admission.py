"""Admission of calls: limits on the calls in flight, and on the bytes that the process holds for them.

- A call is refused before its body is read, so a refusal is cheap in an overload.
- The bytes of all bodies share one budget. A body of known length is reserved as a whole. A body of unknown length, or
  one that grows when it is decompressed, is reserved piece by piece.
- A call holds the bytes of its body until it ends, because a second try needs the body again.
- What is buffered of a provider's reply counts too: a whole reply until the client has it, and the part of an event of
  a stream that is not complete yet.
- Health checks, metrics, pages and the API are no calls, so they are not counted.

Connections are limited in `web/connection_limits.py`, and the time for a body in `request_body.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.config.model import Limits, Provider
from gateway.contract.errors import RATE_LIMIT, UNAVAILABLE, Problem, Refused, UpstreamFailed
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.throttle import Throttle

RETRY_SECONDS: Final = 1
"""Seconds that a refused client is told to wait. A place is free as soon as any call ends."""
_LATER: Final[Mapping[str, Any]] = {"retry_after": RETRY_SECONDS, "retryable": True}


class Admission:
    """The calls in flight of one process, and the bytes of their bodies."""

    def __init__(self, limits: Callable[[], Limits], metrics: Metrics, log: Logger) -> None:
        self._limits = limits
        self._metrics = metrics
        self._log = log
        self._calls: Counter[str] = Counter()
        """The number of calls in flight, by the login of the caller."""
        self._held: Counter[str] = Counter()
        """The number of bytes that are reserved for bodies and replies, by the login of the caller."""
        self._all_calls = self._all_held = 0
        """The totals of these two numbers over all callers. They are stored, because every call needs them."""
        self._by_provider: Counter[str] = Counter()
        """The number of calls in flight, by the id of the provider."""
        self._refusals = Throttle()
        metrics.admission(lambda: self._all_calls, lambda: self._all_held, lambda: dict(self._by_provider))

    def enter(self, login: str, size: int) -> Admitted:
        """Admit a call whose body has `size` bytes (0 if unknown). Raises `Refused` if a limit is reached."""
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
        """Reserve bytes for a caller. Raises `Refused` if the budget, or half of it for one caller, is used up.

        The half is for the others: a caller may announce large bodies and send nothing.
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
        """Count a call that goes to a provider. Raises `Refused` if the provider's limit is reached."""
        limit, count = provider.calls_in_flight, self._by_provider[provider.id]
        if limit is not None and count >= limit:
            message = f'provider "{provider.id}" has {limit} calls in flight already, the limit; try again'
            raise self._refusal(f"providers.{provider.id}.calls_in_flight", Problem(UNAVAILABLE, message, **_LATER))
        self._by_provider[provider.id] = count + 1

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
    """The place of one call, with the bytes that the call holds."""

    def __init__(self, admission: Admission, login: str) -> None:
        self._admission = admission
        self._login = login
        self._size = 0
        """The number of bytes that are reserved for the body of the request."""
        self._reply = 0
        """The number of bytes that are reserved for what is buffered of the reply."""

    def hold(self, size: int) -> None:
        """Reserve `size` more bytes. Raises `Refused` if the budget is used up."""
        self._admission.hold(self._login, size)
        self._size += size

    def ensure(self, size: int) -> None:
        """Reserve more bytes, so that the call holds at least `size`. Raises `Refused` if the budget is used up."""
        if size > self._size:
            self.hold(size - self._size)

    def shrink(self, size: int) -> None:
        """Give bytes back, so that the call holds `size` for its body."""
        self._admission.give_back(self._login, self._size - size)
        self._size = size

    def hold_reply(self, size: int) -> None:
        """Reserve `size` bytes for what is buffered of the reply, in place of those reserved for it before.

        Raises `UpstreamFailed` if the budget is used up, because the provider has done its work by then.
        """
        more = size - self._reply
        if more <= 0:
            self._admission.give_back(self._login, -more)
        else:
            try:
                self._admission.hold(self._login, more)
            except Refused as error:
                raise UpstreamFailed(error.problem) from None
        self._reply = size

    def leave(self) -> None:
        """Give the place and the bytes back."""
        self._admission.leave(self._login, self._size + self._reply)
