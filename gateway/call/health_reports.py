"""Reports the results of attempts to `Health`, which knows the providers that fail (`failover.Health`).

If a provider has several keys, a throttled or refused key is not used for a time, and calls use another key. Calls
avoid the provider only if no key is left.
"""

from __future__ import annotations

from math import inf
from time import monotonic

from gateway.call.chain import Attempt
from gateway.call.failover import NO_MEMORY, Health, is_providers_failure
from gateway.contract.errors import RATE_LIMIT, GatewayError, Problem, UpstreamFailed
from gateway.upstream import key_pools
from gateway.upstream.credentials import keys
from gateway.upstream.key_pools import DENIED_SECONDS, THROTTLED_SECONDS, KeyState


def report(health: Health, attempt: Attempt, error: GatewayError | None) -> None:
    """Tell `health` how an attempt ended, unless this was reported before.

    `error` is None if the attempt succeeded: the whole reply, or the first event of a stream, has come.
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
    elif attempt.key is not None and is_of_key(attempt, error):
        _report_key(health, attempt, attempt.key, error.problem)
    elif error.problem.code == RATE_LIMIT:
        # a limit of a client's own key is no limit of other clients
        if has_our_key(attempt):
            health.throttled(provider, model, error.problem.retry_after)
    elif is_providers_failure(error, is_our_key=has_our_key(attempt)):
        health.ended(provider, model, failed=True, seconds=seconds)
    elif error.status:
        health.ended(provider, model, failed=False, seconds=None)


def is_of_key(attempt: Attempt, error: GatewayError) -> bool:
    """Return whether an attempt failed because of its key. Another key of the provider may then serve the call."""
    if attempt.key is None or not isinstance(error, UpstreamFailed):
        return False
    return key_pools.is_of_key(error.problem)


def _report_key(health: Health, attempt: Attempt, key: KeyState, problem: Problem) -> None:
    """Stop using the key of a failed attempt for a time, and report the failure to `health`. A key that the provider
    refused is out of use already (`Sender`).

    - If all keys of the provider are refused, the provider is reported as failing. The same holds if this key cannot
      pay (402) or may not use the model (403), and no other key is free.
    - If this key was throttled or refused, and another key will be free later, the provider is reported as throttling
      until then.
    - If this key was throttled and another key is free, the provider is reported as throttling, without a time.
    - In all other cases, another key is free, and nothing is reported.
    """
    provider, model = attempt.candidate.offer.provider_id, attempt.candidate.offer.model
    is_throttled, is_refused = problem.code == RATE_LIMIT, problem.key_refused
    if not is_refused:
        key.rest(model, problem.retry_after or (THROTTLED_SECONDS if is_throttled else DENIED_SECONDS))
    wait = key.pool.free_in(model)
    if wait == inf or (wait and not is_throttled and not is_refused):
        health.ended(provider, model, failed=True, seconds=monotonic() - attempt.began)
    elif wait or is_throttled:
        health.throttled(provider, model, wait or None)


def report_break(health: Health, attempt: Attempt, error: GatewayError) -> None:
    """Tell `health` that a stream failed after its first event, if the provider is to blame.

    `report` has reported the attempt as a success when its first event came.
    """
    if attempt.is_reported and is_providers_failure(error, is_our_key=has_our_key(attempt)):
        offer = attempt.candidate.offer
        health.ended(offer.provider_id, offer.model, failed=True, seconds=monotonic() - attempt.began)


def has_our_key(attempt: Attempt) -> bool:
    """Return whether the requests of an attempt have the gateway's key, and not the client's own."""
    return keys.is_gateways(attempt.candidate.offer.provider, attempt.request.headers)
