"""Finds the offers (models of providers) for the model name in a request.

The call keeps the name as the client sent it. The name may be an alias. Until the step `grants` has allowed the call,
nothing may reveal the model behind the alias.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.call.chain import Call, Next
from gateway.call.responses import Response
from gateway.upstream.catalog import Aliased, Offer


async def resolve(call: Call, following: Next) -> Response:
    """Find the offers for the model name in the request. If there are none, the step `grants` refuses the call."""
    name = call.request.model
    catalog = call.runtime.catalog
    alias = catalog.aliases.get(name)
    call.offers = catalog.find(name) if alias is None else _targets(call, alias)
    call.model = name
    return await following(call)


def _targets(call: Call, alias: Aliased) -> Sequence[Offer]:
    """Return the targets of an alias that are granted to the caller. The step `order` chooses among them."""
    allows = call.access.allows
    return [offer for offer in alias.offers if allows(offer.provider_id, offer.model)]
