"""GET /api/providers/health: the state of each model at each provider, with its last success and last error. The
gateway requests a list of models from some providers. For each of these providers, the answer also says whether the
provider has returned its list.

Callers see the models that are granted to them, and the lists of the providers of these models. Admins see all models
and lists, and only admins see the messages of errors. If the store cannot be read, the answer has only what this
process knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import orjson
from aiohttp import web

from gateway.call.context import GATEWAY, Gateway, identity_of
from gateway.store.base import StoreFailed
from gateway.store.reports.values import ModelHealth
from gateway.web.admin.sessions import errors_as_json, scope
from gateway.web.provider_health import known_health, list_states
from gateway.web.query_parameters import check_names


def routes() -> list[web.RouteDef]:
    return [web.get("/api/providers/health", errors_as_json(provider_health))]


async def provider_health(request: web.Request) -> web.Response:
    is_admin = scope(request).role == "admin"
    check_names(request.query, ())
    gateway = request.app[GATEWAY]
    await gateway.refresh()
    stored = await _stored(request)

    def body_of() -> bytes:
        granted = None if is_admin else _granted(request, gateway)
        known = known_health(gateway.health.standings(), stored, messages=is_admin)
        shown = (one for one in known if granted is None or (one.standing.provider, one.standing.model) in granted)
        ids = None if granted is None else {provider for provider, _ in granted}
        states = list_states(gateway.models, reasons=is_admin).items()
        lists = [state for id_, state in states if ids is None or id_ in ids]
        return orjson.dumps({"providers": [one.as_dict() for one in shown], "lists": lists})

    # a thread makes it, because there may be thousands of models
    body = await asyncio.to_thread(body_of)
    return web.Response(body=body, content_type="application/json", headers={"cache-control": "no-store"})


def _granted(request: web.Request, gateway: Gateway) -> Collection[tuple[str, str]]:
    identity = identity_of(request)
    assert identity is not None
    runtime = gateway.runtime
    return {(offer.provider_id, offer.model) for offer in runtime.catalog.visible(runtime.grants.access(identity))}


async def _stored(request: web.Request) -> tuple[ModelHealth, ...]:
    try:
        return await request.app[GATEWAY].store.reports.health()
    except StoreFailed as error:
        request.app[GATEWAY].log.error("store.read_failed", reason=str(error))
        return ()
