"""GET /api/providers: the providers that have a model granted to the caller, in the format that launchers read.

A launcher is a program that configures and starts clients of LLM APIs. For each provider, two fields tell a launcher
which API formats it may use:

- `compatibility`: the formats by which clients can call the provider's models through the gateway. The provider's
  setting `advertise` chooses them.
- `speaks`: the formats that the provider itself supports.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from gateway.access.grants import Access
from gateway.call.context import GATEWAY
from gateway.call.guard import json_error
from gateway.contract.errors import GatewayError
from gateway.contract.registry import Registry
from gateway.upstream.catalog import Catalog, Offer
from gateway.web.advertised import advertised
from gateway.web.discovery import access_of, encoded


def routes() -> list[web.RouteDef]:
    return [web.get("/api/providers", providers)]


async def providers(request: web.Request) -> web.Response:
    """Return the providers in the order of the catalog, each with its granted models."""
    access = access_of(request)
    if isinstance(access, web.Response):
        return access
    gateway = request.app[GATEWAY]
    make = partial(_listed, gateway.registry, gateway.runtime.catalog, access)
    try:
        body = await encoded(request, ("providers", access), make)
    except GatewayError as error:  # the machine is overloaded
        return json_error(500, error.problem.message)
    return web.Response(body=body, content_type="application/json")


def _listed(registry: Registry, catalog: Catalog, access: Access) -> bytes:
    grouped: dict[str, list[Offer]] = {}
    for offer in catalog.visible(access):
        grouped.setdefault(offer.provider_id, []).append(offer)
    return orjson.dumps([_entry(registry, granted) for granted in grouped.values()])


def _entry(registry: Registry, granted: Sequence[Offer]) -> dict[str, Any]:
    provider = granted[0].provider
    return {
        "id": provider.id,
        "name": provider.name or provider.id,
        "description": provider.description,
        "models": [offer.model for offer in granted],
        "compatibility": dict.fromkeys(advertised(registry, provider, [offer.caps for offer in granted]), True),
        "speaks": list(provider.flags),
    }
