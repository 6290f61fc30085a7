"""The health of each model at each provider, for the API, the command `irisgate providers` and the page of providers.

There are two sources. This process knows every attempt since its start. The store knows the last success and the last
error, even from before this start. If the sources differ, the later success and the later error are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from gateway.store.base import rfc3339
from gateway.store.reports.values import ModelHealth
from gateway.upstream.discovered_models import DiscoveredModels
from gateway.upstream.health.circuit import Cause
from gateway.upstream.health.standings import Standing

_CAUSES: Final[Mapping[Cause, str]] = {
    "failures": "its attempts failed",
    "outlier": "what can serve its calls in its place fails less",
    "key_refused": "the provider refuses the key",
    "throttled": "the provider asked to wait",
}
_STATES: Final[Mapping[str, str]] = {
    "closed": "healthy",
    "half_open": "probed by calls",
    "slow_start": "recovering",
}


class KnownHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The health of one model at one provider, with its last success and its last error."""

    standing: Standing
    last_success_at: float | None
    last_error_at: float | None
    last_error: str
    """Code of the last error. It is "" if there was none."""
    last_error_message: str
    last_error_call: str
    """Id of the call with the last error. It is "" if the id is unknown, which is so if the call then succeeded at
    another provider.
    """

    @property
    def is_used(self) -> bool:
        """Whether the model was ever called."""
        return self.last_success_at is not None or self.last_error_at is not None or self.standing.calls > 0

    @property
    def summary(self) -> str:
        """The state of the model's circuit breaker in words. It is "not called yet" if the circuit is closed and the
        model was never called.
        """
        return state_words(self.standing) if self.is_used or self.standing.state != "closed" else "not called yet"

    def as_dict(self) -> dict[str, Any]:
        """Return the health as the API shows it."""
        standing = self.standing
        error = {"at": _time(self.last_error_at), "code": self.last_error, "message": self.last_error_message}
        return {
            "provider": standing.provider,
            "model": standing.model,
            "state": standing.state,
            "cause": standing.cause,
            "summary": self.summary,
            "since": _time(standing.since),
            "retry_in_seconds": standing.retry_in,
            "calls": standing.calls,
            "failures": standing.failures,
            "throttles": standing.throttles,
            "mean_seconds": standing.mean_seconds,
            "has_other": standing.has_other,
            "last_success_at": _time(self.last_success_at),
            "last_error": None if self.last_error_at is None else error,
        }


def known_health(standings: Iterable[Standing], stored: Iterable[ModelHealth], *, messages: bool) -> list[KnownHealth]:
    """Return the health of each model at each provider, in the order of `standings`.

    `standings` have what this process knows, and `stored` has what the store knows. `messages` adds the messages and
    call ids of errors. Only admins may see these, because a call may belong to another caller.
    """
    records = {(each.provider, each.model): each for each in stored}
    known = [_known(standing, records.get((standing.provider, standing.model))) for standing in standings]
    return known if messages else [replace(each, last_error_message="", last_error_call="") for each in known]


def list_states(models: DiscoveredModels, *, reasons: bool) -> dict[str, dict[str, Any]]:
    """Return the state of each provider's list of models, as the API shows it. Only providers from which the gateway
    requests a list are included. The keys are the ids of the providers.

    `reasons` adds the reason why a list could not be obtained. Only admins may see the reason, because it may have a
    provider's message.
    """
    states: dict[str, dict[str, Any]] = {}
    for provider in models.written.providers.values():
        if provider.discovers and not provider.disabled:
            known, failure = models.list_of(provider), models.failures.get(provider.id)
            states[provider.id] = {
                "provider": provider.id,
                "listed_at": None if known is None else rfc3339(known.at),
                "models": 0 if known is None else len(known.models),
                "is_current": failure is None and known is not None,
                "failure": failure if reasons else None,
            }
    return states


def state_words(standing: Standing) -> str:
    """Return the state of a circuit breaker in words. An example for an open circuit is "rests for 12 s: its attempts
    failed".
    """
    if standing.state != "open":
        return _STATES[standing.state]
    wait = f"rests for {standing.retry_in:.0f} s" if standing.retry_in and standing.retry_in >= 1 else "rests"
    words = f"{wait}: {_CAUSES.get(standing.cause, standing.cause)}"
    return words if standing.has_other else f"{words}; called all the same, since nothing else can serve its calls"


def _known(standing: Standing, stored: ModelHealth | None) -> KnownHealth:
    failure = standing.last_failure
    success_at = standing.last_success_at
    at, code, message, call = None, "", "", ""
    if stored is not None:
        success_at = max(filter(None, (success_at, stored.last_success_at)), default=None)
        at, code = stored.last_error_at, stored.last_error
        message, call = stored.last_error_message, stored.last_error_call
    # the error of a call that failed is in both, and only the store knows the call
    is_other = failure is not None and (failure.code, failure.message) != (code, message[: len(failure.message)])
    if failure is not None and is_other and failure.at > (at or 0.0):
        at, code, message, call = failure.at, failure.code, failure.message, ""
    return KnownHealth(
        standing=standing,
        last_success_at=success_at,
        last_error_at=at,
        last_error=code,
        last_error_message=message,
        last_error_call=call,
    )


def _time(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)
