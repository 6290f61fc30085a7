"""The step that tries the candidates of a call in their order, until one of them serves it.

- Every attempt starts with the client's unchanged request.
- Another candidate is tried if a provider cannot be reached, or if the provider's own limit of calls in flight is
  reached.
- A candidate whose provider is known to fail is left out, unless all candidates are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.call.admission import Admission
from gateway.call.chain import Attempt, AttemptNext, Call, Candidate
from gateway.call.failover import Health, UnknownHealth
from gateway.call.responses import Response
from gateway.contract.errors import GatewayError, NotReached, Refused
from gateway.contract.losses import Way
from gateway.upstream.catalog import Offer
from gateway.upstream.credentials import keys


@dataclass(frozen=True, slots=True)
class Attempts:
    """Makes attempts and runs the chain of attempts (`steps`) for each. This is the last step of a call's chain."""

    steps: AttemptNext
    admission: Admission
    health: Health = field(default_factory=UnknownHealth)

    async def __call__(self, call: Call) -> Response:
        candidates = call.candidates
        if len(candidates) == 1:
            self._enter(call, candidates[0])
            return await self._attempt(call, candidates[0])
        return await self._first_that_serves(call)

    async def _first_that_serves(self, call: Call) -> Response:
        """Return the response of the first candidate that serves the call.

        If none does, raises the error of the last attempt.
        """
        failure: GatewayError | None = None
        for candidate in call.candidates:
            offer = candidate.offer
            if not self.health.may_try(offer.provider_id, offer.model):
                continue
            try:
                self._enter(call, candidate)
            except Refused as refused:
                failure = failure or refused
                continue
            try:
                return await self._attempt(call, candidate)
            except NotReached as error:
                self.health.ended(offer.provider_id, offer.model, failed=True, seconds=None)
                failure = error
                if call.requests:
                    raise
        if failure is not None:
            raise failure
        self._enter(call, call.candidates[0])
        return await self._attempt(call, call.candidates[0])

    def _enter(self, call: Call, candidate: Candidate) -> None:
        """Count the call at the candidate's provider. Raises `Refused` if the provider's limit is reached."""
        if candidate.way is not Way.ESTIMATE:
            provider = candidate.offer.provider
            self.admission.enter_provider(provider)
            call.stack.callback(self.admission.leave_provider, provider)

    async def _attempt(self, call: Call, candidate: Candidate) -> Response:
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
