"""What handlers reach through the aiohttp application: the parts that live as long as the process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from gateway.chain import Next
from gateway.errors import Refused
from gateway.fetch.client import Fetcher
from gateway.identity import Identity
from gateway.log import Logger
from gateway.metrics import Metrics
from gateway.observers import Observers
from gateway.pool import Pool
from gateway.quotas.book import Quotas
from gateway.registry import Registry
from gateway.runtime import Runtime
from gateway.store.base import Store
from gateway.store.bodies import Bodies
from gateway.store.keeper import Keeper
from gateway.upstream import Upstream

if TYPE_CHECKING:
    from gateway.reload import Reloader


@dataclass(slots=True)
class Gateway:
    """The parts, wired by `app.py`. `runtime` is replaced by a reload; everything else stays."""

    runtime: Runtime
    registry: Registry
    store: Store
    keeper: Keeper
    """Writes down what is to be kept, and sees that the store takes it over."""
    bodies: Bodies
    quotas: Quotas
    metrics: Metrics
    log: Logger
    observers: Observers
    upstream: Upstream
    fetcher: Fetcher
    pool: Pool
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
