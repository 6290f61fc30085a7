"""Builds the aiohttp application; the only place that wires the parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway.access.identity.modes import Modes
from gateway.call.chain import chain
from gateway.call.context import GATEWAY, Gateway
from gateway.call.finish import Finish
from gateway.call.guard import middlewares
from gateway.call.middleware.attempt import Attempts
from gateway.call.middleware.count import Count
from gateway.call.middleware.grants import grants
from gateway.call.middleware.meter import metered
from gateway.call.middleware.quota import Quota
from gateway.call.middleware.resolve import resolve
from gateway.call.middleware.route import Route
from gateway.call.middleware.send import CallProvider
from gateway.call.middleware.session import Session
from gateway.call.middleware.steps import Fetching, Steps, client_flag, provider_flag
from gateway.call.middleware.translate import Translate
from gateway.call.runtime import runtime
from gateway.call.server import PING_SECONDS, STALLED_SECONDS, Server
from gateway.call.sessions import load_key
from gateway.config.model import Config
from gateway.contract.registry import Registry
from gateway.money.quotas.book import Quotas
from gateway.store.bodies import Bodies
from gateway.store.entries import Balance, Entry
from gateway.store.follower import JournalFollower
from gateway.store.journal import Journal, see_that_it_is_free
from gateway.store.sqlite import SqliteStore
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import Observers
from gateway.upstream.client import Upstream
from gateway.upstream.fetch.client import Fetcher
from gateway.upstream.process_pool import ProcessPool
from gateway.upstream.refused_keys import RefusedKeys
from gateway.web import discovery
from gateway.web.admin import bodies as bodies_route
from gateway.web.admin import config as config_routes
from gateway.web.admin import explain as explain_routes
from gateway.web.admin import metrics as metrics_route
from gateway.web.admin import openapi
from gateway.web.admin import pricing as pricing_routes
from gateway.web.admin import quotas as quota_routes
from gateway.web.admin import sessions as sessions_routes
from gateway.web.admin import usage as usage_route
from gateway.web.admin.problems import problems
from gateway.web.dashboard import pages
from gateway.web.wrong_paths import wrong_paths

_OWN: Final = (
    config_routes, openapi, pricing_routes, discovery, metrics_route, sessions_routes, pages, quota_routes, usage_route,
    bodies_route,
)  # fmt: skip
"""The gateway's own API and its pages, but for `explain`, which must know the listeners."""


def build(
    config: Config,
    registry: Registry,
    *,
    state: Path,
    log: Logger,
    modes: Modes,
    ping_seconds: float = PING_SECONDS,
    stalled_seconds: float = STALLED_SECONDS,
) -> web.Application:
    """The application.

    `state` is the folder of what outlives the process; `modes` may get its listeners later, once the ports are known.
    Raises `PluginError` when two flags claim one route.
    """
    gateway = _gateway(config, registry, state, log)
    finish = Finish(gateway.keeper, gateway.metrics, log, gateway.observers)
    server = Server(gateway, finish, ping_seconds, stalled_seconds)
    calls: set[web.AbstractRoute] = set()
    app = web.Application(
        middlewares=[problems, *middlewares(calls, modes), wrong_paths], client_max_size=config.server.limits.body_bytes
    )
    app[GATEWAY] = gateway
    for flag, route in registry.routes():
        calls.add(app.router.add_route(route.method, route.path, server.handler(flag, route)))
    for own in _OWN:
        app.add_routes(own.routes())
    app.add_routes(explain_routes.routes(modes))
    app.cleanup_ctx.append(_parts)
    return app


def _gateway(config: Config, registry: Registry, state: Path, log: Logger) -> Gateway:
    """The parts that live as long as the process."""
    ready = runtime(config)
    metrics = Metrics(ready.config)
    database = _database(config, state)
    # a newer release would migrate the store under an older one's feet
    see_that_it_is_free(state / "journal")
    store = SqliteStore(database)
    journal = Journal(state / "journal", log, after=store.begun.segment)
    keeper = JournalFollower(journal, store, log, retention=lambda: gateway.runtime.config.storage.retention)
    bodies = Bodies(database.with_name(f"{database.name}-bodies"), log, lambda: gateway.runtime.config.bodies.retention)
    quotas = Quotas(refilled=lambda charge: keeper.put(Entry(balances=(Balance(*charge.left),))))
    quotas.configured(config.quotas)
    metrics.journal(keeper)
    metrics.quotas(quotas.used)
    observers = Observers(registry.observers, log)
    upstream = Upstream()
    fetcher = Fetcher()
    pool = ProcessPool()
    keys = RefusedKeys()
    fetching = Fetching(fetcher, metrics, log)
    key = load_key(state)
    attempts = chain(
        Count(log),
        Steps(upstream, fetching, client_flag),
        Translate(pool),
        Steps(upstream, fetching, provider_flag),
        metered,
        last=CallProvider(upstream, pool, metrics, keys, log),
    )
    steps = chain(Session(key), resolve, grants, Route(registry), Quota(quotas, log), last=Attempts(attempts))
    gateway = Gateway(
        observers=observers,
        runtime=ready,
        registry=registry,
        store=store,
        keeper=keeper,
        bodies=bodies,
        quotas=quotas,
        metrics=metrics,
        log=log,
        upstream=upstream,
        fetcher=fetcher,
        pool=pool,
        keys=keys,
        chain=steps,
    )
    return gateway


def _database(config: Config, state: Path) -> Path:
    """The store's file: `sqlite:PATH` of the configuration, relative to the state folder."""
    url = config.storage.url
    return state / (url.removeprefix("sqlite:") if url else "irisgate.db")


async def _parts(app: web.Application) -> AsyncIterator[None]:
    """What must be closed with the process: after the last call, before the loop ends."""
    gateway = app[GATEWAY]
    await gateway.keeper.start()
    gateway.bodies.start()
    gateway.quotas.restore(await gateway.store.balances())
    yield
    await gateway.upstream.close()
    gateway.fetcher.close()
    await asyncio.to_thread(gateway.pool.close)
    await gateway.keeper.close()
    await asyncio.to_thread(gateway.bodies.close)
    await gateway.store.close()
    await asyncio.to_thread(gateway.observers.close)
