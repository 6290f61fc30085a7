"""What handlers reach through the aiohttp application: the parts that live as long as the process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from gateway.access.identity.caller import Identity
from gateway.call.chain import Next
from gateway.call.runtime import Runtime
from gateway.contract.errors import Refused
from gateway.contract.registry import Registry
from gateway.money.quotas.book import Quotas
from gateway.store.base import Store
from gateway.store.bodies import Bodies
from gateway.store.follower import JournalFollower
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import Observers
from gateway.upstream.client import Upstream
from gateway.upstream.fetch.client import Fetcher
from gateway.upstream.process_pool import ProcessPool

if TYPE_CHECKING:
    from gateway.process.reload import Reloader


@dataclass(slots=True)
class Gateway:
    """The parts, wired by `process/app.py`. `runtime` is replaced by a reload; everything else stays."""

    runtime: Runtime
    registry: Registry
    store: Store
    keeper: JournalFollower
    """Writes down what is to be kept, and sees that the store takes it over."""
    bodies: Bodies
    quotas: Quotas
    metrics: Metrics
    log: Logger
    observers: Observers
    upstream: Upstream
    fetcher: Fetcher
    pool: ProcessPool
    chain: Next
    open_calls: set[asyncio.Task[Any]] = field(default_factory=set)
    """The tasks of calls in flight, for a stop that lets them finish."""
    draining: bool = False
    reloader: Reloader | None = None
    """Takes over a changed configuration; None where it was not read from a file."""
    config_error: str = ""
    """Why the last reload was refused; "" when the configuration is the file's."""


GATEWAY: Final = web.AppKey("gateway", Gateway)
IDENTITY: Final = web.RequestKey("identity", Identity)
"""Key of the caller's `Identity` in a request; missing when the listener's mode found none."""
REQUEST_ID: Final = web.RequestKey("request_id", str)
REFUSED: Final = web.RequestKey("refused", Refused)
"""Key of a `Refused` that a guard raised for a call, to be said in the client's dialect and recorded by the server."""


def identity_of(request: web.Request) -> Identity | None:
    return request.get(IDENTITY)
