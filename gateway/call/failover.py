"""Failover: the failures of an attempt after which another candidate may serve the call, and the error if none does.

- Another candidate is tried only before the first event of the reply, so that the client sees one reply.
- A failure of the provider allows it: the provider cannot be reached, fails, throttles, is overloaded, is silent for
  too long, breaks off, or refuses the gateway's key or account.
- A candidate may also be unable to serve this call: its provider has as many calls in flight as it may have, or refuses
  requests of which fields would be dropped (`on_loss`).
- A mistake in the client's request does not allow it, because another provider would refuse the request too. Neither
  does another refusal by the gateway, a failure of a plugin, or a lack of the gateway's memory.

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
"""The lowest status with which a provider says that it failed, and not the client."""
_STATUSES: Final = frozenset({402, 408, 409, 424, 425, 429})
"""Statuses below `SERVER_ERRORS` that do not blame the request: an account without money (402), a time limit (408), a
conflict with another request (409), a model that failed (424, Amazon Bedrock), too early a request (425) and too many
requests (429)."""
_KEY_STATUSES: Final = frozenset({401, 403})
"""Statuses with which a provider refuses a key, or access to a model with this key."""
NO_MEMORY: Final = "buffer_bytes"
"""The reason of the failure of a reply for which the gateway has no memory left."""
_BROKEN: Final = frozenset({UPSTREAM, TIMEOUT})
"""Codes of failures without a status of the provider: a broken reply, a refused or missing key, and silence."""


class CandidateRefused(Refused):
    """A refusal that concerns one candidate only, so that another candidate may serve the call."""


class Health(Protocol):
    """Knows which models of providers fail at present."""

    def may_try(self, provider_id: str, model: str) -> bool:
        """Return whether a call may be sent to the model.

        It is asked immediately before an attempt, and only for a call that another candidate may serve. If no candidate
        may be tried, the first one is tried all the same.
        """

    def ended(self, provider_id: str, model: str, *, failed: bool, seconds: float | None) -> None:
        """Note how an attempt ended.

        This is called once for each attempt that was sent, or that could not be sent because the provider was not
        reached. It is not called for an attempt that ended by a cancellation, by a failure of the gateway, or by a
        throttling. `seconds` is the time until the first event of a stream, until the whole reply, or until the
        failure; None for a request that the provider refused because of the caller's mistake.
        """

    def throttled(self, provider_id: str, model: str, retry_after: float | None) -> None:
        """Note that the provider throttled an attempt. `retry_after` is its `Retry-After` in seconds, if it has one."""


def is_providers_failure(error: GatewayError, *, is_our_key: bool) -> bool:
    """Return whether an attempt failed because of its provider, so that another candidate may be tried.

    `is_our_key` tells whether the request had the gateway's key. The refusal of a client's own key is the client's
    mistake.
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
    """Return the error to tell the client after several attempts. `errors` are their errors, in order.

    - It is the last failure of a provider that is not a throttling. So it is a throttling only if all providers
      throttle, and then it has the shortest of their times to wait.
    - A refusal by the gateway is told only if no provider failed.
    - The provider's own bytes are passed on only for the last attempt, because another attempt may have been in another
      format.
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
