"""Adds advice to a provider's refusal: where the caller can use the model, or what is missing at the provider.

- The hook `advice` of the provider's API format writes the advice, because it knows the provider's messages.
- The provider's own message stays at the beginning, because some clients search it for keywords.
- The client gets the changed message as an error in its own API format. The bytes of the provider's reply, which lack
  the advice, are not passed on.
- The advice names only models that the caller may use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gateway.call.chain import Attempt, Call
from gateway.contract.errors import UpstreamFailed
from gateway.contract.flag import OfferedModel


def with_advice(call: Call, attempt: Attempt, error: UpstreamFailed) -> UpstreamFailed:
    """Return the error with advice in its message, or the error itself if there is no advice."""
    candidate, problem = attempt.candidate, error.problem
    if type(error) is not UpstreamFailed or not 400 <= problem.status < 500:
        return error
    advice = candidate.flag.advice(problem, candidate.target, _offered(call))
    if not advice:
        return error
    message = f"{problem.message} (gateway: {advice})"
    return UpstreamFailed(replace(problem, message=message), status=error.status)


def _offered(call: Call) -> Iterator[OfferedModel]:
    """Yield the models that the caller may use, except those that this call has already tried.

    The models are looked up only when the plugin iterates over them.
    """
    tried = {attempt.candidate.offer.name for attempt in call.attempts}
    for offer in call.runtime.catalog.visible(call.access):
        if offer.name not in tried:
            yield OfferedModel(offer.provider_id, offer.model, offer.base, offer.provider.host)
