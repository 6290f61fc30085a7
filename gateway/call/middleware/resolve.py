"""Finds the offers of the model that a request names.

The call keeps the name as the client sent it: before `grants`, nothing may tell what the name means here.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.call.chain import Call, Next, Response
from gateway.upstream.catalog import Aliased, Offer


async def resolve(call: Call, following: Next) -> Response:
    """Find the offers of the name. An unknown name leaves none; `grants` refuses it in the same words as an ungranted
    one.
    """
    name = call.request.model
    catalog = call.runtime.catalog
    alias = catalog.aliases.get(name)
    call.offers = catalog.find(name) if alias is None else _pick(call, alias)
    call.model = name
    return await following(call)


def _pick(call: Call, alias: Aliased) -> Sequence[Offer]:
    """Return one granted target of an alias: which of several a strategy picks must not make a call fail."""
    allows = call.runtime.grants.access(call.identity).allows
    granted = [offer for offer in alias.offers if allows(offer.provider_id, offer.model)]
    return [alias.pick(granted, call.session_id)] if granted else ()
