"""Starts an attempt from the unchanged client's request, at the first candidate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.call.chain import Attempt, AttemptNext, Call, Response
from gateway.upstream.catalog import Offer
from gateway.upstream.credentials import keys


@dataclass(frozen=True, slots=True)
class Attempts:
    """The last step of a call's chain: it runs the chain of attempts."""

    steps: AttemptNext

    async def __call__(self, call: Call) -> Response:
        candidate = call.candidates[0]
        attempt = Attempt(candidate, call.request, _added_headers(call, candidate.offer))
        attempt.request = keys.without_own(attempt.request, attempt.drop)
        call.attempts.append(attempt)
        return await self.steps(call, attempt)


def _added_headers(call: Call, offer: Offer) -> dict[str, str]:
    """Return the headers beside those that the flag builds; a later one replaces an earlier one of its name."""
    granted = call.runtime.grants.access(call.identity).headers(offer.provider_id, offer.model)
    return {
        **_lower(granted),
        **_lower(offer.provider.add_headers),
        **keys.headers(offer.provider, call.request.headers),
    }


def _lower(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}
