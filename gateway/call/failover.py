"""Failover: rules that decide after which failures another candidate (model of a provider) may serve a call.

- Another candidate is tried only before the first event of the reply, so that the client gets only one reply.
- Another candidate is tried if the provider cannot be reached, fails, throttles, is overloaded, is silent for too long,
  breaks off, or refuses the gateway's key or account.
- Another candidate is tried if the provider's limit of calls in flight is reached, or if fields of the request would be
  dropped and the provider's `on_loss` forbids that.
- No other candidate is tried after a mistake in the client's request, because another provider would refuse the request
  too. None is tried after a failure of a plugin, or if the gateway has no memory left.
- If the gateway refuses the request for another reason, such as a field that a conversion does not support, another
  candidate is tried only if a provider has failed before.
- If no candidate serves the call, `error_of_all` chooses the error for the client.

`middleware/attempt.py` tries the candidates. Nothing here does I/O.
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
"""The lowest status with which a provider reports a failure of its own. Most lower statuses blame the client."""
_STATUSES: Final = frozenset({402, 408, 409, 424, 425, 429})
"""Statuses below `SERVER_ERRORS` that do not blame the client: an account without money (402), a time limit (408), a
conflict with another request (409), a model that failed (424, Amazon Bedrock), a request that came too early (425) and
too many requests (429)."""
_KEY_STATUSES: Final = frozenset({401, 403})
"""Statuses with which a provider refuses a key, or access to a model with this key."""
NO_MEMORY: Final = "buffer_bytes"
"""The reason in an error (`Problem.reason`) if the gateway has no memory left for a provider's reply."""
_BROKEN: Final = frozenset({UPSTREAM, TIMEOUT})
"""Error codes (`Problem.code`) of failures without an error status from the provider: the reply broke off, the gateway
has no valid key, or the provider was silent for too long."""


class CandidateRefused(Refused):
    """A refusal that concerns one candidate only, so that another candidate may serve the call."""


class Health(Protocol):
    """Knows which models of providers fail at present."""

    def may_try(self, provider_id: str, model: str) -> bool:
        """Return whether a call may be sent to the model.

        This is called just before an attempt, and only if the call has other candidates or keys. If no candidate may be
        tried, the first candidate is tried nevertheless.
        """

    def ended(self, provider_id: str, model: str, *, failed: bool, seconds: float | None) -> None:
        """Note how an attempt ended.

        This is called once for each attempt that was sent, or whose provider could not be reached. It is not called if
        the attempt was cancelled or throttled, or if the gateway failed. `seconds` is the duration of the attempt until
        the first event of a stream, the whole reply, or the failure. It is None if the provider refused the request
        because of the caller's mistake.
        """

    def throttled(self, provider_id: str, model: str, retry_after: float | None) -> None:
        """Note that the provider throttled an attempt.

        `retry_after` is the `Retry-After` of the reply in seconds; None if there is none.
        """


def is_providers_failure(error: GatewayError, *, is_our_key: bool) -> bool:
    """Return whether an attempt failed because of its provider, so that another candidate may be tried.

    `is_our_key` is true if the request had the gateway's key. The refusal of a client's own key is no failure of the
    provider.
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
    """Return the error for the client if all attempts have failed. `errors` are the errors of the attempts, in order.

    - The result is the last failure of a provider, other than throttling.
    - If all failed providers throttled, the result is a throttling, with the shortest `Retry-After` of all.
    - If no provider failed, the result is the last refusal by the gateway.
    - The result has the provider's own error body only if it is the error of the last attempt. An earlier attempt may
      have had another format.
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
