"""Builds the aiohttp application; the only place that wires the parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from gateway.admin import config as config_routes
from gateway.admin import explain as explain_routes
from gateway.admin import metrics as metrics_route
from gateway.admin import openapi
from gateway.admin import sessions as sessions_routes
from gateway.admin.problems import problems
from gateway.chain import chain
from gateway.config.model import Config
from gateway.context import GATEWAY, Gateway
from gateway.dashboard import pages
from gateway.discovery import routes as discovery_routes
from gateway.finish import Finish
from gateway.guard import middlewares
from gateway.identity.modes import Modes
from gateway.log import Logger
from gateway.metrics import Metrics
from gateway.middleware.attempt import attempt
from gateway.middleware.cost import cost
from gateway.middleware.grants import grants
from gateway.middleware.media import Steps, clients, providers
from gateway.middleware.metrics import Timing
from gateway.middleware.resolve import resolve
from gateway.middleware.route import Route
from gateway.middleware.send import SendOn
from gateway.middleware.session import Session
from gateway.middleware.translate import translate
from gateway.observers import Observers
from gateway.registry import Registry
from gateway.runtime import runtime
from gateway.server import PING_SECONDS, Server
from gateway.sessions import load_key
from gateway.store.sqlite import SqliteStore
from gateway.upstream import Upstream


def build(
    config: Config,
    registry: Registry,
    *,
    state: Path,
    log: Logger,
    modes: Modes,
    ping_seconds: float = PING_SECONDS,
) -> web.Application:
    """The application.

    `state` is the folder of what outlives the process; `modes` may get its listeners later, once the ports are known.
    Raises `PluginError` when two flags claim one route.
    """
    ready = runtime(config)
    metrics = Metrics(ready.config)
    store = SqliteStore(_database(config, state), log)
    observers = Observers(registry.observers, log)
    upstream = Upstream()
    key = load_key(state)
    steps = chain(
        Session(key),
        Timing(metrics),
        resolve,
        grants,
        Route(registry),
        attempt,
        Steps(upstream, clients),
        translate,
        Steps(upstream, providers),
        cost,
        last=SendOn(upstream, metrics, log),
    )
    gateway = Gateway(
        observers=observers,
        runtime=ready,
        registry=registry,
        store=store,
        metrics=metrics,
        log=log,
        upstream=upstream,
        chain=steps,
    )
    server = Server(gateway, Finish(store, metrics, log, observers), ping_seconds)
    calls: set[web.AbstractRoute] = set()
    app = web.Application(
        middlewares=[problems, *middlewares(calls, modes)], client_max_size=config.server.limits.body_bytes
    )
    app[GATEWAY] = gateway
    for flag, route in registry.routes():
        calls.add(app.router.add_route(route.method, route.path, server.handler(flag, route)))
    app.add_routes([*config_routes.routes(), *openapi.routes()])
    app.add_routes(explain_routes.routes(modes))
    app.add_routes([*discovery_routes(), *metrics_route.routes(), *sessions_routes.routes(), *pages.routes()])
    app.cleanup_ctx.append(_parts)
    return app


def _database(config: Config, state: Path) -> Path:
    """The store's file: `sqlite:PATH` of the configuration, relative to the state folder."""
    url = config.storage.url
    return state / (url.removeprefix("sqlite:") if url else "irisgate.db")


async def _parts(app: web.Application) -> AsyncIterator[None]:
    """What must be closed with the process: after the last call, before the loop ends."""
    gateway = app[GATEWAY]
    yield
    await gateway.upstream.close()
    await gateway.store.close()
    await asyncio.to_thread(gateway.observers.close)
