"""The objects that request handlers get from the aiohttp application. They live as long as the process.

This file only declares them. `process/app.py` makes them, and `process/reload.py` replaces the configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from aiohttp import web

from gateway.access.identity.caller import Identity
from gateway.call.admission import Admission
from gateway.call.candidate_order import CandidateOrder
from gateway.call.chain import Call
from gateway.call.keeper import Keeper
from gateway.call.live_calls import LiveCall, live_call
from gateway.call.plugin_reports import PluginReports
from gateway.call.runtime import Current, Runtime
from gateway.call.sessions import Sessions
from gateway.call.spools import SpoolReaders
from gateway.config.history import History
from gateway.config.load import Loaded
from gateway.config.model import Config
from gateway.contract.registry import Registry
from gateway.money.quotas.book import Quotas
from gateway.money.quotas.lending import Lender
from gateway.store.base import Store
from gateway.store.captured import BodyStore
from gateway.store.follower import JournalFollower
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.upstream.discovered_models import DiscoveredModels
from gateway.upstream.health.circuits import Health
from gateway.upstream.key_pools import KeyPools
from gateway.upstream.refused_keys import RefusedKeys


class NotTaken(Exception):
    """The error for a valid configuration that could not be put into use. The log has the cause."""


class Who(NamedTuple):
    """The person who changes the configuration, as named in the log."""

    login: str
    node: str = ""
    request_id: str = ""


class ConfigReloader(Protocol):
    """The interface through which handlers read and replace the configuration file (`process/reload.py`)."""

    @property
    def path(self) -> Path: ...

    @property
    def key(self) -> bytes:
        """The secret key for entity tags, and for the placeholders that are shown instead of secrets."""

    @property
    def loaded(self) -> Loaded:
        """The configuration in use, with the text of the file from which it was read."""

    @property
    def history(self) -> History | None:
        """The earlier versions of the configuration. The value is None if they are not kept."""

    @property
    def gateway(self) -> Gateway: ...

    def effective(self, config: Config) -> Config:
        """Return the configuration `config`. With the command-line option `--listen`, its only listener is the one in
        that option.
        """

    def etag(self, data: bytes, error: str = "") -> str:
        """Return an entity tag for the content of the file.

        The tag depends on the content (`data`), and on the reason why the content was refused (`error`).
        """

    async def save(self, text: str, expected: bytes, who: Who, check: Callable[[], object] = ...) -> None:
        """Replace the content of the configuration file by `text`, and use the new configuration.

        - Raises `ConfigError` if `text` is invalid, and `NotTaken` if the configuration cannot be put into use.
        - Raises `CannotReplace` if the present content is not `expected`, and `OSError` if the file cannot be written.
        - Raises `StoreFailed`, or `Changed` (a `CannotReplace`), if the text cannot be shared with the other gateways.
        - `check` is called before the file is written. Its exceptions are raised.
        """


class Workers(Protocol):
    """The worker processes that serve the calls of this gateway (`process/workers`)."""

    @property
    def number(self) -> int:
        """The number of workers that there should be. While the gateway starts, this is the number of workers that have
        started so far.
        """

    @property
    def alive(self) -> int:
        """The number of workers that are alive."""

    @property
    def calls_in_flight(self) -> int:
        """The number of calls in flight in all workers."""

    @property
    def calls(self) -> Sequence[LiveCall]:
        """The calls that were in flight at the last `refresh`."""

    @property
    def disk_fault(self) -> str:
        """The reason why a worker cannot write records, as of the last `refresh`. It is "" if all workers can write
        them.
        """

    async def refresh(self) -> None:
        """Ask the workers for their calls in flight and for the health of the providers. A worker that does not answer
        within a second is left out.
        """

    async def metrics(self) -> bytes:
        """Return the metrics of this process and of all workers in Prometheus's text format."""


@dataclass(slots=True)
class Gateway:
    """The objects that request handlers use, made by `process/app.py`."""

    current: Current
    registry: Registry
    store: Store
    follower: JournalFollower
    """Writes the records of calls to the journal, and copies them from the journal to the store."""
    bodies: BodyStore
    quotas: Quotas
    metrics: Metrics
    log: Logger
    health: Health
    """The health of each model at each provider. Calls avoid models that fail."""
    models: DiscoveredModels
    """The models that were received from providers with `"models": "discover"`."""
    reports: PluginReports = field(init=False)
    admission: Admission = field(init=False)
    keys: RefusedKeys = field(default_factory=RefusedKeys)
    """The gateway's keys that providers refuse at present."""
    pools: KeyPools = field(default_factory=KeyPools)
    """The keys of the providers that have several keys."""
    order: CandidateOrder = field(init=False)
    """Decides in which order the models of a call are tried, and remembers the model that served each session last."""
    open_calls: set[asyncio.Task[Any]] = field(default_factory=set)
    """The tasks of the calls in flight. The gateway waits for them before it stops."""
    calls: dict[str, Call] = field(default_factory=dict)
    """The calls in flight, by id. A call is added when its request is parsed."""
    keeper: Keeper = field(default_factory=Keeper)
    sessions: Sessions = field(init=False)
    """Finds the sessions of calls. In a worker process, it asks the parent process."""
    lender: Lender = field(init=False)
    """Lends parts of the quota balances to this process's workers. In a worker process, which has no workers, `lender`
    and `spools` are not set.
    """
    spools: SpoolReaders = field(init=False)
    """The readers of the spools, the journals in which other processes write the records of their calls."""
    is_replaced: bool = False
    """Whether this process is a worker whose gateway has been replaced by another one."""
    draining: bool = False
    """Whether the gateway is stopping and waits for the calls in flight."""
    reloader: ConfigReloader | None = None
    """The reloader of the configuration file. It is None if the configuration was not read from a file."""
    workers: Workers | None = None
    """The worker processes. It is None if this process serves the calls itself."""
    config_error: str = ""
    """The reason why the last reload was refused. It is "" if the gateway uses the configuration in the file."""

    def __post_init__(self) -> None:
        self.reports = PluginReports(self.metrics, self.log)
        self.admission = Admission(lambda: self.runtime.config.server.limits, self.metrics, self.log)
        self.order = CandidateOrder(self.admission.in_flight)

    @property
    def is_leaving(self) -> bool:
        """Whether clients should open new connections, because this process is stopping or is being replaced."""
        return self.draining or self.is_replaced or self.follower.is_replaced

    async def refresh(self) -> None:
        """Ask the workers, if there are any, for their calls in flight, their reservations in quotas, and the health of
        the providers.
        """
        if self.workers is not None:
            await self.workers.refresh()

    @property
    def live_calls(self) -> Sequence[LiveCall]:
        """The calls in flight. With workers, these are the calls of the last `refresh`."""
        if self.workers is not None:
            return self.workers.calls
        return [live_call(call) for call in self.calls.values()]

    @property
    def is_serving_calls(self) -> bool:
        """Whether calls are in flight, in this process or in its workers."""
        return bool(self.calls) or (self.workers is not None and self.workers.calls_in_flight > 0)

    @property
    def runtime(self) -> Runtime:
        """The configuration for new calls. A reload replaces it."""
        return self.current.runtime


GATEWAY: Final = web.AppKey("gateway", Gateway)
IDENTITY: Final = web.RequestKey("identity", Identity)
"""Key of the caller's `Identity` in a request. Requests that the guard refused, and requests for open routes such as
/healthz, may have none."""
REQUEST_ID: Final = web.RequestKey("request_id", str)
CALL: Final = web.RequestKey("call", Call)
"""Key of the `Call` that belongs to a request. Requests for pages, and requests that are not parsed yet, have none."""


def identity_of(request: web.Request) -> Identity | None:
    return request.get(IDENTITY)
