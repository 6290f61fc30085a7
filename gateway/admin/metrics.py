"""GET /metrics, for callers whose grants say `read_metrics`; being an admin is not enough (aperture.md 1.4)."""

from __future__ import annotations

import asyncio

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from gateway.context import GATEWAY, identity_of
from gateway.guard import json_error


def routes() -> list[web.RouteDef]:
    return [web.get("/metrics", metrics)]


async def metrics(request: web.Request) -> web.Response:
    """Prometheus' text format; rendered in a thread, for thousands of series take longer than a call may wait."""
    gateway = request.app[GATEWAY]
    identity = identity_of(request)
    if identity is None or not gateway.runtime.grants.may(identity, "read_metrics"):
        return json_error(403, 'access denied: no grant says "read_metrics"')
    body = await asyncio.to_thread(gateway.metrics.render)
    return web.Response(body=body, headers={"content-type": CONTENT_TYPE_LATEST})
