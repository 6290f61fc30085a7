"""Access to models. An unknown model and a model that is not granted are refused with the same message.

Callers may read the records of their refused calls. To reveal nothing, such a record has only the model's name as the
client sent it. The record of an allowed call has the name of the model that served the call. An alias may lead to
several models. If none of them served the call, the record has the name of the model that was tried last.
"""

from __future__ import annotations

from typing import Final

from gateway.call.chain import Call, Next
from gateway.call.responses import Response
from gateway.contract.errors import NOT_FOUND, PERMISSION, Problem, Refused

NO_ROLE: Final = Problem(PERMISSION, "access denied: no role granted")


async def grants(call: Call, following: Next) -> Response:
    """Keep the offers (models of providers) that are granted.

    Raises `Refused` if the caller has no role, or if no offer is left.
    """
    access = call.access
    if access.role is None:
        raise Refused(NO_ROLE)
    call.offers = [offer for offer in call.offers if access.allows(offer.provider_id, offer.model)]
    if not call.offers:
        name = call.request.model
        near = call.runtime.catalog.near(name, access)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise Refused(Problem(NOT_FOUND, f'model "{name}" not found or not granted{hint}', param="model"))
    call.model = call.offers[0].model
    if call.request.model not in call.runtime.catalog.aliases:
        # a name may mean two models (`Catalog.find`): the first granted model is used, whether or not the other exists
        call.offers = [offer for offer in call.offers if offer.model == call.model]
    return await following(call)
