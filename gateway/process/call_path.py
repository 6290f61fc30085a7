"""Builds the parts that serve calls: the connections to providers, the chains of middlewares, and the routes of all
APIs.

`app.py` adds the other parts of the gateway, such as the store and the pages. A worker process has only the parts that
serve calls (`workers/app.py`).
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from aiohttp import web

from gateway.call.call_routes import CALL_ROUTES, CallRoutes
from gateway.call.chain import Next, attempt_chain, chain
from gateway.call.context import Gateway
from gateway.call.conversion_choice import Conversions
from gateway.call.direct.api import direct_api
from gateway.call.direct.send import DirectSend
from gateway.call.direct.target import DirectTarget
from gateway.call.filters import AfterCalls
from gateway.call.finish import Finish
from gateway.call.guard import Guard
from gateway.call.jobs import AskForJob, job_providers
from gateway.call.middleware.attempt import Attempts
from gateway.call.middleware.auto_cache import AutoCache, LastCalls
from gateway.call.middleware.count import Count
from gateway.call.middleware.filters import Filters
from gateway.call.middleware.meter import Metered
from gateway.call.middleware.order import Order
from gateway.call.middleware.plan import planned
from gateway.call.middleware.quota import Quota
from gateway.call.middleware.read_on import ReadOn
from gateway.call.middleware.refusals import WithoutRefused
from gateway.call.middleware.route import Route
from gateway.call.middleware.send import CallProvider
from gateway.call.middleware.session import Session
from gateway.call.middleware.steps import Fetching, Steps, client_flag, provider_flag
from gateway.call.middleware.translate import Translate
from gateway.call.operations import OF_JOBS
from gateway.call.retry_budget import RetryBudget
from gateway.call.sender import Sender
from gateway.call.server import Server
from gateway.call.sessions import SessionFinder
from gateway.call.turns import Turns
from gateway.telemetry.log import Logger
from gateway.upstream.client import Upstream
from gateway.upstream.credentials.live import LiveCredentials
from gateway.upstream.fetch.client import Fetcher
from gateway.upstream.process_pool import ProcessPool
from gateway.upstream.refused_features import RefusedFeatures


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The parts of the gateway that connect to other hosts, and the pool of worker processes for large bodies."""

    pool: ProcessPool
    live: LiveCredentials
    upstream: Upstream
    fetcher: Fetcher = field(default_factory=Fetcher)
    after: AfterCalls = field(default_factory=AfterCalls)

    @classmethod
    def new(cls, log: Logger, pool: ProcessPool | None = None) -> Outgoing:
        """Return new HTTP clients for other hosts. The result owns `pool`, or a new pool if `pool` is None."""
        upstream = Upstream()
        return cls(pool or ProcessPool(), LiveCredentials(log, upstream), upstream)

    def close_with(self, stack: AsyncExitStack) -> None:
        """Let `stack` close the clients and the pool when `stack` itself is closed."""
        stack.push_async_callback(self.after.close)
        stack.push_async_callback(asyncio.to_thread, self.pool.close)
        stack.callback(self.fetcher.close)
        stack.callback(self.live.close)
        stack.push_async_callback(self.upstream.close)


@dataclass(frozen=True, slots=True)
class CallPath:
    """The parts of the gateway that serve calls."""

    gateway: Gateway
    outgoing: Outgoing
    finish: Finish
    sessions: SessionFinder


def add_calls(app: web.Application, path: CallPath, guard: Guard, **seconds: float) -> None:
    """Add the routes of all APIs to the application.

    `seconds` are keyword arguments for `Server`, such as `ping_seconds`. Raises `PluginError` if two compatibility
    flags (plugins of API formats) have the same route.
    """
    gateway, registry = path.gateway, path.gateway.registry
    server, direct_server, job_server = (
        Server(gateway, steps, path.finish, path.outgoing.pool, **seconds) for steps in _chains(path)
    )
    direct = direct_api()
    calls = app[CALL_ROUTES] = CallRoutes(server, guard, app.router)
    for flag, route in registry.routes():
        calls.add(flag, route, job_server if route.operation in OF_JOBS else server)
    for route in direct.routes:
        calls.add(direct, route, direct_server)


def _chains(path: CallPath) -> tuple[Next, Next, Next]:
    """Return three chains of middlewares: for calls, for direct calls, and for requests about existing jobs.

    A direct call is a request that the gateway forwards to a provider unchanged. A job is work that a provider does in
    the background, such as a batch.
    """
    gateway, outgoing = path.gateway, path.outgoing
    log, metrics, registry = gateway.log, gateway.metrics, gateway.registry
    pool, turns = outgoing.pool, Turns()
    fetching = Fetching(outgoing.fetcher, metrics, log)
    sender = Sender(outgoing.upstream, gateway.follower, metrics, gateway.keys, gateway.health, outgoing.live, log)
    attempts = attempt_chain(
        WithoutRefused(RefusedFeatures()),
        Count(pool, log),
        Steps(sender, pool, fetching, client_flag),
        Translate(pool),
        Steps(sender, pool, fetching, provider_flag),
        AutoCache(LastCalls(), pool),
        ReadOn(lambda: gateway.draining),
        Metered(pool),
        last=CallProvider(sender, pool, turns),
    )
    quota = Quota(gateway.quotas, pool, log, gateway.keeper)
    filters = Filters(outgoing.fetcher, pool, gateway.reports, outgoing.after, turns)
    order = Order(gateway.order)
    budget = RetryBudget()
    metrics.retry_budget(lambda: budget.used(gateway.runtime.config.resilience.retry_budget))
    shared = gateway.admission, gateway.health, gateway.pools, budget, gateway.reports, log
    last, direct = Attempts(attempts, *shared), Attempts(DirectSend(sender, pool, registry.flags), *shared)
    session = Session(path.sessions)
    return (
        chain(session, planned, order, Route(Conversions(registry)), filters, quota, last=last),
        chain(session, DirectTarget(registry, pool), quota, last=direct),
        chain(session, job_providers, quota, last=AskForJob(last)),
    )
