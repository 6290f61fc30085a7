"""Failover: rules that decide after which failures another candidate (model of a provider) may serve a call.

Another candidate is tried only if the client has received no event yet. So a client never gets parts of two replies. It
is tried after these failures:

- The provider cannot be reached, fails, throttles, is overloaded, is silent for too long, or breaks off.
- The provider refuses the gateway's key or account.
- The provider has reached its limit of calls in flight.
- Fields of the request would be dropped, and the provider's `on_loss` forbids that.
- The gateway itself refuses the request for one candidate, for example because a conversion does not support a field,
  and a provider has already failed in this call.

It is not tried after a mistake in the client's request, which every provider would refuse, or after a failure of a
plugin, or if the gateway has no memory left.

If no candidate serves the call, `error_of_all` chooses the error for the client. `middleware/attempt.py` tries the
candidates. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from gateway.contract.errors import (
    RATE_LIMIT,
    TIMEOUT,
    UPSTREAM,
    GatewayError,
    NotReached,
    Problem,
    Refused,
    UpstreamFailed,
)

SERVER_ERRORS: Final = 500
"""The lowest status for failures of a provider. Most lower error statuses are for mistakes of the client."""
_STATUSES: Final = frozenset({402, 408, 409, 424, 425, 429})
"""Statuses below `SERVER_ERRORS` for failures that are not the client's fault.

- 402: the account has no money.
- 408: a time limit is exceeded.
- 409: the request conflicts with another request.
- 424: the model has failed (Amazon Bedrock).
- 425: the request came too early.
- 429: there are too many requests.
"""
_KEY_STATUSES: Final = frozenset({401, 403})
"""Statuses with which a provider refuses a key, or access to a model with this key."""
NO_MEMORY: Final = "buffer_bytes"
"""The reason (`Problem.reason`) of an error if the gateway has no memory left for a provider's reply."""
_BROKEN: Final = frozenset({UPSTREAM, TIMEOUT})
"""Codes (`Problem.code`) of failures without an error status of the provider. For example, the reply broke off, or the
provider was silent for too long.
"""


class CandidateRefused(Refused):
    """A refusal for one candidate (model of a provider) only. Another candidate may still serve the call."""


class Health(Protocol):
    """Knows which models of providers fail at present."""

    def may_try(self, provider_id: str, model: str) -> bool:
        """Return whether a call may be sent to the model.

        The gateway calls this just before an attempt, if the call has other candidates (models of providers) or keys.
        If the result is False for all candidates, the first candidate is tried nevertheless.
        """

    def ended(self, provider_id: str, model: str, *, failed: bool, seconds: float | None) -> None:
        """Record how an attempt ended. `failed` is true if its provider failed, and false if the attempt succeeded.

        This is called for each attempt that was sent, or whose provider could not be reached. It is not called if the
        attempt was cancelled or throttled, or if the gateway itself failed. If a stream fails after its first event, it
        is called again, with `failed` true.

        `seconds` is the duration until the first event of a stream, the end of another reply, or the failure. It is
        None if the provider refused the request because of the caller's mistake.
        """

    def throttled(self, provider_id: str, model: str, retry_after: float | None) -> None:
        """Record that the provider throttled an attempt.

        `retry_after` is the `Retry-After` of the reply in seconds. It is None if the reply has no such header.
        """


def is_providers_failure(error: GatewayError, *, is_our_key: bool) -> bool:
    """Return whether an attempt failed because of its provider, so that another candidate (model of a provider) may be
    tried.

    `is_our_key` is true if the request had the gateway's key. If a provider refuses a client's own key, this is no
    failure of the provider.
    """
    if not isinstance(error, UpstreamFailed):
        return False
    if isinstance(error, NotReached):
        return True
    return _blames_provider(error.problem, is_our_key=is_our_key)


def _blames_provider(problem: Problem, *, is_our_key: bool) -> bool:
    if problem.status in _KEY_STATUSES or problem.key_refused:
        return is_our_key
    if problem.status:
        return problem.status >= SERVER_ERRORS or problem.status in _STATUSES
    if problem.reason == NO_MEMORY:
        return False
    return problem.retryable or problem.code in _BROKEN


def error_of_all(errors: Sequence[GatewayError]) -> GatewayError:
    """Return the error for the client after all attempts have failed. `errors` has one error per attempt, in order.

    - If a provider failed for another reason than throttling, the result is the last such error.
    - If all failures are throttling, the result is the last of them, with the shortest `Retry-After` of all attempts.
    - If no provider failed, the result is the last refusal by the gateway.
    - Only the unchanged error of the last attempt keeps the body of the provider's reply. An earlier provider may have
      another format than the last one.
    """
    last = errors[-1]
    failures = [error for error in errors if isinstance(error, UpstreamFailed)]
    if not failures:
        return last
    others = [error for error in failures if error.problem.code != RATE_LIMIT]
    chosen = others[-1] if others else failures[-1]
    waits = [error.problem.retry_after for error in failures if error.problem.retry_after is not None]
    problem = chosen.problem
    if not others and waits:
        problem = replace(problem, retry_after=min(waits))
    return chosen if chosen is last and problem == chosen.problem else UpstreamFailed(problem)
