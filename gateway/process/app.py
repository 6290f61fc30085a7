"""Builds the aiohttp application. Only this module creates the parts of the gateway, connects them and closes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway.access.identity.modes import Modes
from gateway.call.circuit_events import report_change
from gateway.call.context import GATEWAY, Gateway
from gateway.call.direct.api import routes as direct_routes
from gateway.call.finish import Finish
from gateway.call.guard import Guard, middlewares
from gateway.call.keeper import Keeper
from gateway.call.quota_events import report_nearly_used
from gateway.call.runtime import Current, runtime
from gateway.call.sessions import MAX_OPEN, Sessions, load_key
from gateway.call.spools import Parts, SpoolReader, SpoolReaders
from gateway.config.model import Config
from gateway.contract.registry import Registry
from gateway.money.quotas.book import ORDER, Quotas
from gateway.money.quotas.buckets import Charge
from gateway.money.quotas.lending import Lender
from gateway.money.quotas.slices import Slices
from gateway.process.call_path import CallPath, Outgoing, add_calls
from gateway.process.exports.task import ExportTask
from gateway.process.handover.memory import adopt_memory
from gateway.process.handover.taking import Taker
from gateway.process.handover.wire import State
from gateway.process.model_refresh import ModelRefresh
from gateway.process.stores import SharedQuotas, database_path, open_store, shared_quotas
from gateway.store.base import SessionQuery
from gateway.store.bodies import Bodies, bodies_path
from gateway.store.disk_sync import DiskSync
from gateway.store.entries import Balance, Entry
from gateway.store.follower import JournalFollower
from gateway.store.journal import Journal
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import Observers
from gateway.upstream.discovered_models import FILE as DISCOVERED
from gateway.upstream.discovered_models import DiscoveredModels
from gateway.upstream.health.circuit import STATES
from gateway.upstream.health.circuits import Health
from gateway.upstream.model_search import ModelSearcher
from gateway.upstream.process_pool import ProcessPool
from gateway.web import discovery, model_lists, providers_list, readiness
from gateway.web.admin import bodies as bodies_route
from gateway.web.admin import config as config_routes
from gateway.web.admin import explain as explain_routes
from gateway.web.admin import metrics as metrics_route
from gateway.web.admin import openapi, report_routes
from gateway.web.admin import pricing as pricing_routes
from gateway.web.admin import provider_health as provider_health_routes
from gateway.web.admin import quotas as quota_routes
from gateway.web.admin import sessions as sessions_routes
from gateway.web.admin import usage as usage_route
from gateway.web.admin.problems import problems
from gateway.web.dashboard import pages
from gateway.web.dashboard.browsers import error_pages
from gateway.web.wrong_paths import wrong_paths

_OWN: Final = (
    config_routes, openapi, pricing_routes, discovery, readiness, providers_list, metrics_route, sessions_routes, pages,
    quota_routes, usage_route, bodies_route, provider_health_routes, report_routes,
)  # fmt: skip
"""Modules with the routes of the gateway's own API and pages.

The module `explain` is not in this tuple, because the routes of `explain` need the listeners."""


def build(
    config: Config,
    registry: Registry,
    *,
    state: Path,
    log: Logger,
    modes: Modes,
    pool: ProcessPool | None = None,
    taker: Taker | None = None,
    **seconds: float,
) -> web.Application:
    """Return the application.

    - `state` is the folder for data that must survive a restart.
    - `modes` finds the identity of a caller by the identity mode of the listener. Listeners may be added to it later,
      when their ports are known.
    - `pool` is closed with the application.
    - `taker` is the connection to the running gateway that this process replaces, or None if no gateway is running.
    - `seconds` are keyword arguments for `Server`, such as `ping_seconds`.

    Raises `PluginError` if two compatibility flags (plugins of API formats) have the same route. Raises `StoreFailed`
    if the store cannot be opened.
    """
    gateway, shared = _gateway(config, registry, state, log, taker)
    observers = Observers(registry.observers, log, gateway.reports.failed)
    gateway.quotas.nearly_used = partial(report_nearly_used, log=log, observers=observers)
    outgoing = Outgoing.new(log, pool)
    finish = Finish(gateway.follower, gateway.metrics, log, observers, gateway.reports)
    sessions = gateway.sessions = Sessions(load_key(state))
    gateway.lender = Lender(gateway.quotas)
    gateway.keeper.refilled = gateway.lender.refilled
    if shared is not None:
        shared.leases.recall_workers = gateway.lender.recall_all
        shared.leases.free_workers = gateway.lender.refilled
    parts = Parts(finish, gateway.quotas, gateway.lender, sessions, gateway.store, log)
    gateway.spools = SpoolReaders(parts, state / "journal")
    gateway.metrics.plugins.watch(registry.hooks())
    for hook in registry.hooks():
        hook.report_slow = gateway.reports.slow
    guard = Guard(gateway, modes)
    app = web.Application(
        middlewares=[error_pages, problems, *middlewares(guard), wrong_paths],
        client_max_size=config.server.limits.body_bytes,
    )
    app[GATEWAY] = gateway
    app[readiness.READINESS] = readiness.Readiness(gateway, modes)
    add_calls(app, CallPath(gateway, outgoing, finish, sessions), guard, **seconds)
    app.add_routes(model_lists.routes(registry))
    for module in _OWN:
        app.add_routes(module.routes())
    app.add_routes(explain_routes.routes(modes))
    app.cleanup_ctx.append(partial(_run_parts, gateway, shared, outgoing, observers, sessions, taker))
    _report_plugins(registry, log)
    return app


def own_routes() -> Sequence[tuple[str, str]]:
    """Return the method and path of each route of the gateway's own API and pages. Plugins may not use these routes."""
    routes = [(route.method, route.path) for module in _OWN for route in module.routes()]
    routes += [(route.method, route.path) for route in direct_routes]
    return [*routes, *(("GET", path) for path in explain_routes.PATHS)]


def _report_plugins(registry: Registry, log: Logger) -> None:
    """Log the packages with plugins, the plugins that were left out, and the plugins that were slow to import."""
    if registry.packages:
        log.info("plugins.installed", packages=list(map(str, registry.packages)))
    for skipped in registry.skipped:
        first = skipped.mistakes[0]
        log.warning(
            "plugin.skipped", plugin=skipped.name, package=skipped.package, at=first.place, reason=first.message
        )
    for name, seconds in registry.slow_imports.items():
        log.warning("plugin.slow_import", plugin=name, seconds=round(seconds, 1))


def _gateway(
    config: Config, registry: Registry, state: Path, log: Logger, taker: Taker | None
) -> tuple[Gateway, SharedQuotas | None]:
    """Create the objects that request handlers use, such as the store.

    The second result has the objects that share the balances of quotas with other gateways. It is None if the quotas
    are not shared. Raises `StoreFailed` if the store cannot be opened.
    """
    models = DiscoveredModels(state / DISCOVERED, config)
    models.load()
    effective = models.applied(config)
    current = Current(runtime(effective, registry))
    metrics = Metrics(effective)
    lock = None if taker is None else taker.commit()
    sync = config.storage.sync
    store = open_store(config, state)
    journal = Journal(state / "journal", log, after=store.start_offset.segment, sync=sync, lock=lock)
    disk_sync = DiskSync(journal, log) if sync else None
    follower = JournalFollower(journal, store, log, retention=current.call_retention, sync=disk_sync)
    bodies = Bodies(bodies_path(database_path(config, state)), log, current.body_retention)

    def keep(charges: Sequence[Charge]) -> None:
        follower.put(Entry(balances=tuple(Balance(*charge.left) for charge in charges)))

    quotas = (
        Quotas(keep=keep) if config.storage.sharing is None else Quotas(keep=keep, slices=Slices(), sliced_kinds=ORDER)
    )
    quotas.configured(config.quotas)
    shared = shared_quotas(config, state, quotas, follower, log)
    metrics.journal(follower)
    metrics.quotas(quotas.used)
    health = Health(effective, changed=partial(report_change, log=log, metrics=metrics))
    metrics.circuits.watch(health.standings, STATES)
    metrics.discovery(models.sizes, models.failing)
    gateway = Gateway(
        current=current,
        registry=registry,
        store=store,
        follower=follower,
        bodies=bodies,
        quotas=quotas,
        metrics=metrics,
        log=log,
        health=health,
        models=models,
        keeper=Keeper(None if shared is None else shared.leases),
    )
    return gateway, shared


async def _run_parts(
    gateway: Gateway,
    shared: SharedQuotas | None,
    outgoing: Outgoing,
    observers: Observers,
    sessions: Sessions,
    taker: Taker | None,
    app: web.Application,
) -> AsyncIterator[None]:
    """Start the parts of the gateway, such as the store, and close them in reverse order after the last call.

    If one part fails to close, the others are still closed.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, observers.close)
        stack.push_async_callback(gateway.store.close)
        if shared is not None:
            stack.push_async_callback(shared.close)
        stack.push_async_callback(asyncio.to_thread, gateway.bodies.close)
        stack.push_async_callback(gateway.follower.close)
        outgoing.close_with(stack)
        await gateway.follower.start()
        gateway.bodies.start()
        gateway.quotas.restore(await gateway.store.balances())
        sessions.restore((await gateway.store.sessions(SessionQuery(None, MAX_OPEN))).rows)
        stack.push_async_callback(gateway.spools.stop)
        if taker is not None:
            _adopt(taker.state, gateway, sessions)
        if taker is None:
            await gateway.spools.recover()
        if shared is not None:
            # what workers of a killed process have spent must be in the store before its leases end
            await gateway.follower.flush()
            await shared.start()
        ready = app[readiness.READINESS]
        stack.callback(ready.close)
        stack.callback(asyncio.create_task(ready.watch()).cancel)
        searcher = ModelSearcher(outgoing.upstream, outgoing.live, gateway.registry.flags, gateway.log)
        refresh = ModelRefresh(gateway, searcher)
        stack.push_async_callback(refresh.stop)
        refresh.start()
        exports = ExportTask(gateway)
        stack.push_async_callback(exports.stop)
        exports.start()
        yield


def _adopt(state: State, gateway: Gateway, sessions: Sessions) -> None:
    """Take over what the replaced gateway had in memory: rate limits, reservations, sessions of calls in flight, and
    what it had learned of the providers.
    """
    adopt_memory(state.memory, gateway)
    gateway.quotas.adopt_limits(state.limits)
    sessions.restore(state.sessions)
    for spool in state.spools:
        held = {call: gateway.quotas.adopt(holds) for call, holds in spool.held.items()}
        folder = gateway.spools.folder(spool.name)
        reader = SpoolReader(folder, spool.offset, held, set(spool.ids))
        if reader.is_of_worker:
            gateway.lender.adopt(spool.name, spool.leases)
        gateway.spools.add(reader)
