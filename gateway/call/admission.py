"""Admission of calls: limits on the calls in flight, and on the bytes of bodies that the process holds for them.

- A call is refused before its body is read, so a refusal is cheap in an overload.
- The bytes of all bodies share one budget. A body of known length is reserved as a whole. A body of unknown length, or
  one that grows when it is decompressed, is reserved piece by piece.
- A call holds its bytes until it ends, because a second try needs the body again.
- Health checks, metrics, pages and the API are no calls, so they are not counted.

Connections are limited in `web/connections.py`, and the time for a body in `request_body.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.config.model import Limits
from gateway.contract.errors import RATE_LIMIT, UNAVAILABLE, Problem, Refused
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
        """The number of bytes that are reserved for bodies, by the login of the caller."""
        self._all_calls = self._all_held = 0
        """The sums over all callers, which every call needs."""
        self._refusals = Throttle()
        metrics.admission(lambda: self._all_calls, lambda: self._all_held)

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
            message = f"the bodies of calls in flight take up the {most} bytes that the gateway has for them; try again"
            raise self._refusal("buffer_bytes", Problem(UNAVAILABLE, message, **_LATER))
        self._held[login] += size
        self._all_held += size

    def leave(self, login: str, size: int) -> None:
        self._held[login] -= size
        self._all_held -= size
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

    def hold(self, size: int) -> None:
        """Reserve `size` more bytes. Raises `Refused` if the budget is used up."""
        self._admission.hold(self._login, size)
        self._size += size

    def ensure(self, size: int) -> None:
        """Reserve more bytes, so that the call holds at least `size`. Raises `Refused` if the budget is used up."""
        if size > self._size:
            self.hold(size - self._size)

    def leave(self) -> None:
        """Give the place and the bytes back."""
        self._admission.leave(self._login, self._size)
