"""Failover: the failures of an attempt after which another candidate may serve the call.

- Another candidate is tried only before the first event of the reply, so that the client sees one reply.
- A failure of the provider allows it: the provider cannot be reached, fails, throttles, is overloaded, is silent for
  too long, breaks off, or refuses the gateway's key or account.
- A mistake in the client's request does not allow it, because another provider would refuse the request too. Neither
  does a refusal by the gateway, a failure of a plugin, or a lack of the gateway's memory.

`middleware/attempt.py` tries the candidates. Nothing here does I/O.
"""

from __future__ import annotations

from typing import Final, Protocol

from gateway.call.admission import NO_MEMORY
from gateway.contract.errors import TIMEOUT, UPSTREAM, GatewayError, NotReached, Problem, UpstreamFailed

SERVER_ERRORS: Final = 500
"""The lowest status with which a provider says that it failed, and not the client."""
_STATUSES: Final = frozenset({402, 408, 409, 424, 425, 429})
"""Statuses below `SERVER_ERRORS` that do not blame the request: an account without money (402), a time limit (408), a
conflict with another request (409), a model that failed (424, Amazon Bedrock), too early a request (425) and too many
requests (429)."""
_KEY_STATUSES: Final = frozenset({401, 403})
"""Statuses with which a provider refuses a key, or access to a model with this key."""

_BROKEN: Final = frozenset({UPSTREAM, TIMEOUT})
"""Codes of failures without a status of the provider: a broken reply, a refused or missing key, and silence."""


class Health(Protocol):
    """Knows which models of providers fail at present."""

    def may_try(self, provider_id: str, model: str) -> bool:
        """Return whether a call may be sent to the model.

        It is asked immediately before an attempt, and only if the call has several candidates. If no candidate may be
        tried, the first one is tried all the same.
        """

    def ended(self, provider_id: str, model: str, *, failed: bool, seconds: float | None) -> None:
        """Note how an attempt ended.

        This is called once for each attempt that was sent, or that could not be sent because the provider was not
        reached. It is not called for an attempt that ended by the caller's mistake, by a cancellation, or by a failure
        of the gateway. `seconds` is the time until the first event of a stream or until the whole reply; None for an
        attempt that failed.
        """


class UnknownHealth:
    """The health of providers of which nothing is known. Every candidate may be tried."""

    def may_try(self, _provider_id: str, _model: str) -> bool:
        return True

    def ended(self, provider_id: str, model: str, *, failed: bool, seconds: float | None) -> None:
        """Do nothing."""


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
