"""Reports the ends of attempts to `Health`, which knows which providers fail (`failover.Health`)."""

from __future__ import annotations

from time import monotonic

from gateway.call.chain import Attempt
from gateway.call.failover import NO_MEMORY, Health, is_providers_failure
from gateway.contract.errors import RATE_LIMIT, GatewayError, UpstreamFailed
from gateway.upstream.credentials import keys


def report(health: Health, attempt: Attempt, error: GatewayError | None) -> None:
    """Tell `health` how an attempt ended. Do nothing if this was reported before.

    `error` is None if the attempt succeeded: the whole reply has come, or the first event of a stream.
    """
    if attempt.is_reported:
        return
    attempt.is_reported = True
    provider, model = attempt.candidate.offer.provider_id, attempt.candidate.offer.model
    seconds = monotonic() - attempt.began
    if error is None:
        if attempt.sent:
            health.ended(provider, model, failed=False, seconds=seconds)
    elif not isinstance(error, UpstreamFailed) or error.problem.reason == NO_MEMORY:
        return
    elif error.problem.code == RATE_LIMIT:
        # a limit of a client's own key is no limit of other clients
        if has_our_key(attempt):
            health.throttled(provider, model, error.problem.retry_after)
    elif is_providers_failure(error, is_our_key=has_our_key(attempt)):
        health.ended(provider, model, failed=True, seconds=seconds)
    elif error.status:
        health.ended(provider, model, failed=False, seconds=None)


def report_break(health: Health, attempt: Attempt, error: GatewayError) -> None:
    """Tell `health` that a stream failed after its first event. Do nothing if the provider is not to blame.

    The attempt was reported as a success at the first event.
    """
    if attempt.is_reported and is_providers_failure(error, is_our_key=has_our_key(attempt)):
        offer = attempt.candidate.offer
        health.ended(offer.provider_id, offer.model, failed=True, seconds=monotonic() - attempt.began)


def has_our_key(attempt: Attempt) -> bool:
    """Return whether the requests of an attempt have the gateway's key, and not the client's own."""
    return keys.is_gateways(attempt.candidate.offer.provider, attempt.request.headers)
