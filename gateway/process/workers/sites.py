"""The listeners that the parent process (the keeper) opens, and on which its workers accept connections."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.access.identity.modes import Modes
from gateway.call.context import Gateway
from gateway.process.sites import Configured, Sites
from gateway.process.sockets import Bound
from gateway.process.workers.balance import Slots
from gateway.process.workers.forwarded import PrivateListener
from gateway.process.workers.hub import Hub
from gateway.process.workers.messages import Start, UseModels
from gateway.process.workers.states import WorkerStates
from gateway.process.workers.supervisor import CannotStartWorkers, Workers
from gateway.upstream.health.merged import MergedHealth
from gateway.web.connection_limits import Connections


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """The options of the command line that the workers need."""

    count: int
    path: Path
    """The path of the configuration's file."""
    text: str
    """The text of the configuration at the gateway's start. A worker that starts after a reload gets the new text
    instead.
    """
    listen: str = ""
    plugins: str = ""
    without: tuple[str, ...] = ()


class WorkerSites(Sites):
    """All listeners for calls, and the workers that accept their connections."""

    def __init__(self, bounds: list[Bound], modes: Modes, options: WorkerOptions, state: Path) -> None:
        super().__init__(bounds, modes)
        self._options = options
        self._state = state
        self._slots = Slots.create(options.count)
        self._gateway: Gateway | None = None
        self._pages: PrivateListener | None = None
        self.hub: Hub
        self.workers = Workers(self._slots, self._first_message, self.bounds)

    def employ(self, gateway: Gateway) -> None:
        """Let the workers serve the calls of a gateway."""
        self._gateway = gateway
        self.hub = Hub(gateway)
        gateway.spools.new = self.workers.spools
        gateway.health = MergedHealth(gateway.runtime.config)
        gateway.workers = WorkerStates(gateway, gateway.health, self.hub, self._slots, self.hub.metrics)
        gateway.models.saved = lambda: self.hub.tell(UseModels())

    def _first_message(self, slot: int, spool: str, sockets: Sequence[tuple[str, int]]) -> Start:
        options = self._options
        reloader = None if self._gateway is None else self._gateway.reloader
        return Start(
            slot=slot,
            spool=spool,
            state=str(self._state),
            path=str(options.path),
            text=options.text if reloader is None else reloader.loaded.text,
            listen=options.listen,
            plugins=options.plugins,
            without=options.without,
            sockets=tuple(sockets),
            slots=(self._slots.descriptor, self._slots.count),
        )

    async def start(self, runner: web.AppRunner, connections: Connections, configured: Configured) -> None:
        """Start the workers, which accept the connections. Raises `CannotStartWorkers` if this fails."""
        _ = connections, configured
        assert self._gateway is not None, "employ was called"
        assert runner.server is not None, "the runner is set up"
        self._pages = PrivateListener(self._state, self._modes, runner.server, self._gateway.log)
        try:
            await self._pages.start()
        except OSError as error:
            raise CannotStartWorkers(f"{self._state}: {error.strerror or error}") from None
        await self.workers.start(self._gateway, self.hub)

    async def pause(self) -> None:
        await self.workers.pause()

    async def resume(self) -> None:
        self.workers.resume()

    def give_up(self) -> None:
        # until the other process has put its own socket in the place of this one, pages are served here
        pages, self._pages = self._pages, None
        super().give_up()
        self._pages = pages
        self.workers.leave()

    def close(self) -> None:
        if self._pages is not None:
            self._pages.close()
        super().close()
        self.workers.abandon()


def count_of(text: str) -> int:
    """Return the number of workers for a value of `--workers`. `auto` is the number of processors that this process may
    use.

    Raises `ValueError` if the value is neither `auto` nor a positive number.
    """
    count = len(os.sched_getaffinity(0)) if text == "auto" else int(text)
    if count < 1:
        raise ValueError("write a number from 1 on, or auto")
    return count
