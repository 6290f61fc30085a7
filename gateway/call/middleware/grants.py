"""Access to models: denied by default, with the same words for a model that is missing and one that is not granted.

The caller may read the record of a refused call. So that record has the name as the client sent it; only a call that
is let through is named by the model that serves it.
"""

from __future__ import annotations

from gateway.call.chain import Call, Next, Response
from gateway.contract.errors import NOT_FOUND, PERMISSION, Problem, Refused


async def grants(call: Call, following: Next) -> Response:
    """Keep the offers that are granted. Raises `Refused` when the caller has no role, or none is left."""
    access = call.runtime.grants.access(call.identity)
    if access.role is None:
        raise Refused(Problem(PERMISSION, "access denied: no role granted"))
    call.offers = [offer for offer in call.offers if access.allows(offer.provider_id, offer.model)]
    if not call.offers:
        name = call.request.model
        near = call.runtime.catalog.near(name, access)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise Refused(Problem(NOT_FOUND, f'model "{name}" not found or not granted{hint}', param="model"))
    call.model = call.offers[0].model
    # of a name that is two models' the first one that is granted is meant, whether or not the other exists
    call.offers = [offer for offer in call.offers if offer.model == call.model]
    return await following(call)
