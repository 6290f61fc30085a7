"""The parts that handlers reach through the aiohttp application; they live as long as the process.

Nothing here is made: `process/app.py` wires the parts, and `process/reload.py` replaces the configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from aiohttp import web

from gateway.access.identity.caller import Identity
from gateway.call.runtime import Current, Runtime
from gateway.config.load import Loaded
from gateway.config.model import Config
from gateway.contract.errors import Refused
from gateway.contract.registry import Registry
from gateway.money.quotas.book import Quotas
from gateway.store.base import Store
from gateway.store.bodies import Bodies
from gateway.store.follower import JournalFollower
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.upstream.refused_keys import RefusedKeys


class NotTaken(Exception):
    """A configuration that is valid, and could not be made ready; the log has the cause."""


class Who(NamedTuple):
    """The person who changed the configuration, for the log."""

    login: str
    node: str = ""
    request_id: str = ""


class ConfigReloader(Protocol):
    """The interface by which handlers read and replace the configuration's file (`process/reload.py`)."""

    @property
    def path(self) -> Path: ...

    @property
    def key(self) -> bytes:
        """The key of entity tags, and of the marks that stand for secrets."""

    @property
    def loaded(self) -> Loaded:
        """The configuration that is in use, as it was read."""

    @property
    def gateway(self) -> Gateway: ...

    def effective(self, config: Config) -> Config:
        """Return the configuration with the listener of the command line, which the file does not replace."""

    def etag(self, data: bytes, error: str = "") -> str:
        """Return the entity tag of the file's bytes and of the reason for which they are refused."""

    async def save(self, text: str, expected: bytes, who: Who, check: Callable[[], object] = ...) -> None:
        """Replace the file, which holds `expected`, and use the new configuration.

        Raises what `check` raises, `CannotReplace`, `OSError`, `ConfigError` and `NotTaken`.
        """


@dataclass(slots=True)
class Gateway:
    """The parts that handlers use, wired by `process/app.py`."""

    current: Current
    registry: Registry
    store: Store
    follower: JournalFollower
    """The writer of records: into the journal, and from there into the store."""
    bodies: Bodies
    quotas: Quotas
    metrics: Metrics
    log: Logger
    keys: RefusedKeys
    """The providers that refuse the gateway's key at the moment."""
    open_calls: set[asyncio.Task[Any]] = field(default_factory=set)
    """The tasks of calls in flight, for a stop that lets them finish."""
    draining: bool = False
    reloader: ConfigReloader | None = None
    """The reloader of the configuration's file; None where the configuration was not read from a file."""
    config_error: str = ""
    """The reason for which the last reload was refused; "" when the configuration is the file's."""

    @property
    def runtime(self) -> Runtime:
        """The current configuration, which a reload replaces."""
        return self.current.runtime


GATEWAY: Final = web.AppKey("gateway", Gateway)
IDENTITY: Final = web.RequestKey("identity", Identity)
"""Key of the caller's `Identity` in a request; missing when the listener's mode found none."""
REQUEST_ID: Final = web.RequestKey("request_id", str)
REFUSED: Final = web.RequestKey("refused", Refused)
"""Key of a `Refused` that a guard raised for a call, to be said in the client's dialect and recorded by the server."""


def identity_of(request: web.Request) -> Identity | None:
    return request.get(IDENTITY)
