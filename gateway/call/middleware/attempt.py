"""One try of a call: a fresh attempt from the unchanged ask, at the first candidate."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.call.chain import Answer, Attempt, Call, Next
from gateway.upstream.catalog import Offer
from gateway.upstream.credentials import keys


async def attempt(call: Call, following: Next) -> Answer:
    candidate = call.candidates[0]
    tried = Attempt(candidate, call.require_request(), _added(call, candidate.offer))
    tried.request = keys.without_own(tried.request, tried.drop)
    call.attempts.append(tried)
    return await following(call)


def _added(call: Call, offer: Offer) -> dict[str, str]:
    """What goes upstream beside what the flag builds; a later one stands for an earlier one of its name."""
    granted = call.runtime.grants.access(call.require_identity()).headers(offer.provider_id, offer.model)
    return {
        **_lower(granted),
        **_lower(offer.provider.add_headers),
        **keys.headers(offer.provider, call.require_request().headers),
    }


def _lower(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}
