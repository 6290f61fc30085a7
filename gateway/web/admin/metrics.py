"""GET /metrics, for callers with a grant of `read_metrics`. The admin role is not enough (Aperture's documentation).

There may be a separate listener for metrics (`"metrics": {"listen": ...}`). Its callers need no grant, because only
this machine can reach its address. It serves only metrics and health checks. It refuses requests from web pages of
other sites. It also refuses connections that are forwarded by a proxy, or by a tailscaled without a network device
(`access/identity/loopback.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from socket import socket

from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from gateway.access.identity.modes import Modes
from gateway.call.context import GATEWAY, Gateway, identity_of
from gateway.call.guard import ambiguous, caller_of, cross_site, json_error
from gateway.contract.errors import Refused
from gateway.telemetry.http_log import server_logger
from gateway.web.connection_limits import Connections
from gateway.web.discovery import alive
from gateway.web.http_server import Runner
from gateway.web.readiness import READINESS, Readiness, ready

CLOSE_SECONDS = 0.5

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes() -> list[web.RouteDef]:
    return [web.get("/metrics", metrics)]


async def metrics(request: web.Request) -> web.Response:
    """Return the metrics in Prometheus' text format, or 403 if the caller has no grant of `read_metrics`."""
    gateway = request.app[GATEWAY]
    identity = identity_of(request)
    if identity is None or "read_metrics" not in gateway.runtime.grants.access(identity).permissions:
        return json_error(403, 'access denied: no grant says "read_metrics"')
    return await _render(request)


async def _render(request: web.Request) -> web.Response:
    """Return the metrics. A thread renders them, since thousands of series would block the event loop for too long."""
    gateway = request.app[GATEWAY]
    await gateway.keeper.look()
    if gateway.workers is None:
        body = await asyncio.to_thread(gateway.metrics.render)
    else:
        body = await gateway.workers.metrics()
    return web.Response(body=body, headers={"content-type": CONTENT_TYPE_LATEST})


@asynccontextmanager
async def serving(
    gateway: Gateway, listening: socket, modes: Modes, connections: Connections, readiness: Readiness
) -> AsyncIterator[None]:
    """Serve the metrics and health checks, and nothing else, on a separate listening socket until the block ends."""
    app = web.Application(middlewares=[_own_machine(modes)])
    app[GATEWAY] = gateway
    app[READINESS] = readiness
    app.add_routes([web.get("/metrics", _render), web.get("/healthz", alive), web.get("/readyz", ready)])
    logger = server_logger(gateway.log)
    runner = Runner(app, connections, logger=logger, shutdown_timeout=CLOSE_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        yield
    finally:
        await runner.cleanup()


def _own_machine(modes: Modes) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if fault := ambiguous(request):
            return json_error(400, fault)
        if refused := cross_site(request.headers, request.app[GATEWAY].runtime.config.server.hosts):
            return json_error(403, refused.problem.message)
        if request.path == "/metrics":
            try:
                await modes.identify(caller_of(request))
            except Refused as error:
                return json_error(403, error.problem.message)
        return await handler(request)

    return guard
