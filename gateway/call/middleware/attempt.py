"""The step that starts an attempt at the first candidate, with the client's unchanged request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.call.admission import Admission
from gateway.call.chain import Attempt, AttemptNext, Call
from gateway.call.responses import Response
from gateway.contract.losses import Way
from gateway.upstream.catalog import Offer
from gateway.upstream.credentials import keys


@dataclass(frozen=True, slots=True)
class Attempts:
    """Makes an attempt and runs the chain of attempts (`steps`) for it. This is the last step of a call's chain."""

    steps: AttemptNext
    admission: Admission

    async def __call__(self, call: Call) -> Response:
        candidate = call.candidates[0]
        if candidate.way is not Way.ESTIMATE:
            provider = candidate.offer.provider
            self.admission.enter_provider(provider)
            call.stack.callback(self.admission.leave_provider, provider)
        attempt = Attempt(candidate, call.request, _added_headers(call, candidate.offer))
        attempt.request = keys.without_own(attempt.request, attempt.drop)
        call.attempts.append(attempt)
        return await self.steps(call, attempt)


def _added_headers(call: Call, offer: Offer) -> dict[str, str]:
    """Return the headers that are sent in addition to those that the provider's plugin builds.

    If a header has several values, the credential is used first, then the provider's configuration, then a grant, then
    a filter.
    """
    granted = call.runtime.grants.access(call.identity).headers(offer.provider_id, offer.model)
    return {
        **call.filter_headers,
        **_lower(granted),
        **_lower(offer.provider.add_headers),
        **keys.headers(offer.provider, call.request.headers),
    }


def _lower(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}
