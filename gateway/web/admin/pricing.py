"""GET /aperture/pricing and /aperture/pricing/{model}: prices of the caller's granted models.

Callers need a grant of `read_pricing`. The admin role is not enough (Aperture's documentation). `gateway/money/prices`
finds the price of a model.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.access.grants import Access
from gateway.call.context import GATEWAY, identity_of
from gateway.call.runtime import Runtime
from gateway.money.prices.shown import per_million
from gateway.money.prices.table import Prices
from gateway.upstream.catalog import Offer
from gateway.web.admin.problems import Refusal, problem_response

UNIT: Final = "USD for 1M tokens or searches"


def routes() -> list[web.RouteDef]:
    return [web.get("/aperture/pricing", pricing), web.get("/aperture/pricing/{model:.+}", pricing)]


async def pricing(request: web.Request) -> web.Response:
    """Return the prices of all granted models, or only of the model in the path.

    The path has the model in the form `model` or `provider/model`.
    """
    identity = identity_of(request)
    runtime = request.app[GATEWAY].runtime
    if identity is None or "read_pricing" not in runtime.grants.access(identity).permissions:
        return problem_response(Refusal(403, 'access denied: no grant says "read_pricing"'))
    name = request.match_info.get("model")
    # a thread finds the prices, because there may be thousands of models
    body = await asyncio.to_thread(_prices, runtime, runtime.grants.access(identity), name)
    if body is None:
        return problem_response(Refusal(404, "no such model, or it is not granted"))
    return _with_etag(request, body)


def _prices(runtime: Runtime, access: Access, name: str | None) -> bytes | None:
    """Return the body of the answer: the prices of the model `name`, or of all granted models if `name` is None.

    Return None if no granted model has the name.
    """
    granted = runtime.catalog.visible(access)
    offers = [offer for offer in granted if name is None or name in {offer.model, offer.name}]
    if name is not None and not offers:
        return None
    return orjson.dumps({"unit": UNIT, "models": [_entry(offer, runtime.prices) for offer in offers]})


def _entry(offer: Offer, prices: Prices) -> dict[str, Any]:
    priced = prices.of(offer.provider, offer.model)
    return {
        "model": offer.model,
        "provider": offer.provider_id,
        "cost_basis": priced.name if priced else None,
        "cost_basis_source": prices.source(offer.provider),
        "adjustment": f"{priced.adjustment:f}" if priced else None,
        "pricing": per_million(priced) if priced else None,
    }


def _with_etag(request: web.Request, body: bytes) -> web.Response:
    """Return the body with an entity tag, or 304 if `If-None-Match` has the same tag."""
    tag = blake2b(body, digest_size=16).hexdigest()
    headers = {"cache-control": "no-cache", "etag": f'"{tag}"'}
    given = request.headers.get("If-None-Match", "").strip()
    if given == "*" or any(known.value == tag for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type="application/json", headers=headers)
