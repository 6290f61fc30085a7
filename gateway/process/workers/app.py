"""Builds the application of a worker process, which serves calls.

The parent process (the keeper) has the store, the pages and the gateway's own API.

Requests that are not calls do not reach the application, because `pages.py` passes them on to the keeper.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from aiohttp import web

from gateway.access.identity.modes import Modes
from gateway.call.circuit_events import report_change
from gateway.call.context import GATEWAY, Gateway
from gateway.call.finish import Finish
from gateway.call.guard import Guard
from gateway.call.keeper import Keeper
from gateway.call.leases import Leases
from gateway.call.runtime import Current, runtime
from gateway.call.sessions import Sessions, load_key
from gateway.config.model import Config
from gateway.contract.registry import Registry
from gateway.money.quotas.book import ORDER, Quotas
from gateway.money.quotas.slices import Slices
from gateway.process.call_path import CallPath, Outgoing, add_calls
from gateway.process.workers.link import KeeperBank, KeeperBodies, WorkerSessions
from gateway.process.workers.messages import Channel
from gateway.store.base import JournalOffset
from gateway.store.disk_sync import DiskSync
from gateway.store.follower import JournalFollower
from gateway.store.journal import Journal
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import Observers
from gateway.upstream.discovered_models import FILE as DISCOVERED
from gateway.upstream.discovered_models import DiscoveredModels
from gateway.upstream.health.circuit import STATES
from gateway.upstream.health.circuits import Health

if TYPE_CHECKING:
    from gateway.store.base import Store

LEASE_SECONDS: Final = 30.0
"""Maximum number of seconds for which a worker may spend its slices (parts) of quota balances without an answer of the
keeper (its parent process). The worker sends three requests to the keeper in this time.

If `storage.lease_seconds` is shorter, it is used for the workers too.
"""
RECALL_SECONDS: Final = (1.0,) * 4
"""Seconds of each wait of a call for which a quota bucket has too little left.

Other workers may hold parts of the bucket's balance. So the worker asks the keeper (its parent process) again after
each wait. A wait ends early if another worker gives a part back.
"""


class _NoStore:
    """Takes the place of the store, which a worker does not have. Only its parent process (the keeper) has a store."""

    start_offset = JournalOffset()


@dataclass(frozen=True, slots=True)
class Place:
    """The state folder and the log of a worker, its spool and its connection to the parent process (the keeper).

    The spool is the journal to which the worker writes the records of its calls.
    """

    state: Path
    spool: str
    channel: Channel
    log: Logger


def build(config: Config, registry: Registry, place: Place, modes: Modes) -> web.Application:
    """Return the application of a worker.

    Raises `StoreFailed` if the worker's spool, the journal of its calls, cannot be written.
    """
    log = place.log
    bodies = KeeperBodies(place.channel)
    gateway, leases = _gateway(config, registry, place, bodies)
    observers = Observers(registry.observers, log, gateway.reports.failed)
    outgoing = Outgoing.new(log)
    finish = Finish(gateway.follower, gateway.metrics, log, observers, gateway.reports, is_worker=True)
    gateway.metrics.plugins.watch(registry.hooks())
    for hook in registry.hooks():
        hook.report_slow = gateway.reports.slow
    guard = Guard(gateway, modes)
    app = web.Application()
    app[GATEWAY] = gateway
    sessions = WorkerSessions(Sessions(load_key(place.state)), place.channel)
    add_calls(app, CallPath(gateway, outgoing, finish, sessions), guard)
    app.cleanup_ctx.append(partial(_run_parts, gateway, leases, bodies, outgoing, observers))
    return app


def _gateway(config: Config, registry: Registry, place: Place, bodies: KeeperBodies) -> tuple[Gateway, Leases]:
    log = place.log
    models = DiscoveredModels(place.state / DISCOVERED, config)
    models.load()
    effective = models.applied(config)
    current = Current(runtime(effective, registry))
    metrics = Metrics(effective)
    sync = config.storage.sync
    journal = Journal(place.state / "journal" / place.spool, log, sync=sync)
    store = cast("Store", _NoStore())
    follower = JournalFollower(journal, store, log, sync=DiskSync(journal, log) if sync else None)
    slices = Slices()
    quotas = Quotas(slices=slices, sliced_kinds=ORDER)
    quotas.configured(config.quotas)
    bank = KeeperBank(place.channel, slices)
    sharing = config.storage.sharing
    seconds = LEASE_SECONDS if sharing is None else min(LEASE_SECONDS, sharing.lease_seconds)
    leases = Leases(bank, quotas, None, log, seconds=seconds, goes_on=False, recall_seconds=RECALL_SECONDS)
    metrics.journal(follower)
    health = Health(effective, changed=partial(report_change, log=log, metrics=metrics))
    metrics.circuits.watch(health.standings, STATES)
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
        keeper=Keeper(leases),
    )
    return gateway, leases


async def _run_parts(
    gateway: Gateway,
    leases: Leases,
    bodies: KeeperBodies,
    outgoing: Outgoing,
    observers: Observers,
    _app: web.Application,
) -> AsyncIterator[None]:
    """Start the parts of the worker, such as its journal, and close them in reverse order after the last call."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, observers.close)
        stack.push_async_callback(gateway.follower.close)
        stack.push_async_callback(leases.close)
        stack.push_async_callback(bodies.sent)
        outgoing.close_with(stack)
        gateway.follower.spool()
        await leases.start()
        yield
