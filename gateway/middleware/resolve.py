"""From the name in the request to the offers of that model."""

from __future__ import annotations

from gateway.chain import Answer, Call, Next


async def resolve(call: Call, following: Next) -> Answer:
    """An unknown name leaves no offers; `grants` refuses it in the same words as one that is not granted."""
    name = call.require_ask().model
    call.offers = call.runtime.catalog.find(name)
    call.model = call.offers[0].model if call.offers else name
    return await following(call)
