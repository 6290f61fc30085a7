"""A worker process: it accepts connections on the listeners of its parent process (the keeper), and serves the calls.

- The keeper starts the worker with the descriptor of the connection between them, and sends everything else over this
  connection (`messages.py`).
- The worker ends when the keeper tells it to end, when the keeper process has ended, and after SIGTERM or SIGINT. It
  then accepts no more connections, and waits for its calls in flight. A second SIGTERM or SIGINT ends these calls at
  once.
- A message of the keeper does not count as a first or second signal. For Ctrl-C in a terminal, a worker gets both a
  SIGINT and a message of the keeper, and must still wait for its calls.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway.access.identity.modes import Modes
from gateway.call.call_routes import CALL_ROUTES
from gateway.call.context import GATEWAY
from gateway.call.leases import Leases
from gateway.config import load as config_load
from gateway.config.findings import ConfigError
from gateway.config.model import Config
from gateway.config.sections.listen import loopback_listener
from gateway.contract.registry import Registry, discover
from gateway.process.draining import drained, first, left
from gateway.process.handover.wire import Broken
from gateway.process.http import runner_of, stopped
from gateway.process.model_refresh import use_models
from gateway.process.prepared import prepare, use
from gateway.process.reload import with_listener
from gateway.process.sockets import Bound, CannotListen, Passed, bind
from gateway.process.workers.accepting import BalancedSites
from gateway.process.workers.app import Place, build
from gateway.process.workers.balance import Balance, Slots
from gateway.process.workers.messages import (
    Accept,
    Channel,
    Configure,
    Configured,
    Drain,
    Ended,
    Failed,
    Free,
    Hurry,
    Leave,
    Loaded,
    Message,
    Pause,
    Paused,
    Question,
    Ready,
    Recall,
    Reply,
    Start,
    UseModels,
)
from gateway.process.workers.pages import Pages
from gateway.process.workers.states import answers, metrics_of
from gateway.store.base import StoreFailed
from gateway.telemetry.log import Logger, configure
from gateway.upstream.allocator import freed_memory_returned
from gateway.web.connection_limits import Connections, raise_descriptor_limit
from gateway.web.http_server import Calls

COLLECT_AFTER: Final = 10_000
"""The threshold of Python's garbage collector. It is the same in the parent process (`process/serve.py`)."""


class Worker:
    """The state of this worker process, and its reactions to the messages of its parent process (the keeper)."""

    def __init__(self, app: web.Application, sites: BalancedSites, start: Start, channel: Channel) -> None:
        self._gateway = app[GATEWAY]
        self._sites = sites
        self._start = start
        self._channel = channel
        self._serving: tuple[web.AppRunner, Connections] | None = None
        self._is_accepting = False
        self.answers = answers(self._gateway)
        """Functions that answer the keeper's questions, by the names of the questions."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.stop = asyncio.Event()
        """An event that makes this process drain its calls and end."""
        self.leave = asyncio.Event()
        """An event that makes this process end when no client is connected."""
        self.hurry = asyncio.Event()
        """An event that ends the calls in flight."""

    async def follow(self, runner: web.AppRunner, connections: Connections) -> None:
        """React to the messages of the keeper (the parent process) until the keeper has ended."""
        self._serving = runner, connections
        try:
            while True:
                await self._heard(await self._channel.receive())
        except Broken:
            self.stop.set()

    async def _heard(self, message: Message) -> None:
        match message:
            case Accept():
                await self._accept()
            case Pause():
                await self._sites.pause()
                self._channel.send(Paused())
            case Recall() | Free():
                self._of_bucket(message)
            case Configure():
                self._begin(self._configure(message))
            case UseModels():
                self._begin(self._use_models())
            case Question(number, name):
                self._begin(self._answer(number, name))
            case Leave():
                self._leases.give_back()
                self.leave.set()
            case Drain() | Hurry():
                self.stop.set()
                if isinstance(message, Hurry):
                    self.hurry.set()

    @property
    def _leases(self) -> Leases:
        leases = self._gateway.keeper.leases
        assert leases is not None, "the quotas of a worker are slices"
        return leases

    def _of_bucket(self, message: Recall | Free) -> None:
        leases = self._leases
        if isinstance(message, Recall):
            leases.recalled(message.bucket, is_awaited=True)
        else:
            # after the answer that came before this message has been applied
            asyncio.get_running_loop().call_soon(leases.refilled, message.bucket)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        """Accept connections, unless this process is about to end."""
        if self.stop.is_set() or self.leave.is_set():
            return
        if self._is_accepting:
            await self._sites.resume()
        elif self._serving is not None:
            self._is_accepting = True
            await self._sites.start(*self._serving, lambda: self._gateway.runtime.config)

    async def _answer(self, number: int, name: str) -> None:
        self._channel.send(Reply(number, await self.answers[name]()))

    async def _configure(self, message: Configure) -> None:
        """Use another text of the configuration, and tell the keeper (the parent process) whether this was possible."""
        gateway = self._gateway
        try:
            loaded = await asyncio.to_thread(_loaded, self._start, message.text, gateway.registry)
            prepared = await asyncio.to_thread(prepare, gateway, _effective(loaded, self._start))
        except ConfigError as error:
            fault = str(error.findings[0])
        except Exception as error:  # noqa: BLE001 (whatever it is, the former configuration stays in use)
            fault = repr(error)
        else:
            use(gateway, prepared)
            fault = ""
        self._channel.send(Configured(message.number, fault))

    async def _use_models(self) -> None:
        await asyncio.to_thread(self._gateway.models.load)
        await use_models(self._gateway)


def _loaded(start: Start, text: str, registry: Registry) -> config_load.Loaded:
    """Read a text of the configuration. Raises `ConfigError` if it is invalid."""
    path = Path(start.path)
    return config_load.loads(text, name=str(path), plugins=registry.known, folder=path.parent)


def _effective(loaded: config_load.Loaded, start: Start) -> Config:
    return with_listener(loaded.config, loopback_listener(start.listen) if start.listen else None)


async def serve(descriptor: int, log: Logger) -> None:
    """Serve until the keeper (the parent process) or a signal ends this process.

    `descriptor` is the file descriptor of the connection to the keeper.
    """
    channel = await Channel.open(socket.socket(fileno=descriptor))
    start = await channel.receive()
    if not isinstance(start, Start):
        raise Broken("the keeper begins otherwise")
    try:
        registry = discover(Path(start.plugins) if start.plugins else None, without=start.without)
        config = _effective(_loaded(start, start.text, registry), start)
        passed = [Passed(name, _listening(descriptor)) for name, descriptor in start.sockets]
        bounds = [bind(listener, passed) for listener in config.server.listeners]
        channel.send(Loaded())
        await _serve(config, registry, start, channel, bounds, log)
    except (ConfigError, CannotListen, StoreFailed, OSError) as error:
        channel.send(Failed(str(error)))
        raise


def _listening(descriptor: int) -> socket.socket:
    listening = socket.socket(fileno=descriptor)
    listening.setblocking(False)
    return listening


async def _serve(
    config: Config, registry: Registry, start: Start, channel: Channel, bounds: list[Bound], log: Logger
) -> None:
    modes = Modes(log)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(freed_memory_returned())
        stack.push_async_callback(modes.close)
        app = build(config, registry, Place(Path(start.state), start.spool, channel, log), modes)
        gateway = app[GATEWAY]
        balance = Balance(Slots(*start.slots), start.slot, lambda: len(gateway.calls))
        connections = Connections(
            lambda: gateway.runtime.config.server.limits, gateway.metrics, log, modes.client, balance.opened
        )
        for bound in bounds:
            modes.listen(bound.endpoint, bound.listener)
        sites = BalancedSites(bounds, modes, balance)
        runner = runner_of(app, connections, config, log, _calls(app, Path(start.state)))
        worker = Worker(app, sites, start, channel)
        following = asyncio.create_task(worker.follow(runner, connections))
        stack.callback(following.cancel)
        _handle_signals(worker)
        try:
            await runner.setup()
            gc.freeze()
            gc.set_threshold(COLLECT_AFTER)
            channel.send(Ready())
            await first(worker.stop, worker.leave)
            gateway.is_replaced = worker.leave.is_set()
            if worker.leave.is_set():
                await sites.pause()
                await left(lambda: bool(gateway.open_calls or connections.count), worker.stop)
        finally:
            gateway.draining = True
            try:
                await stopped(sites, runner)
                await drained(gateway.open_calls, worker.hurry, config.server.drain_seconds)
            finally:
                await runner.cleanup()
                channel.send(Ended(await metrics_of(gateway)))
                await channel.sent()


def _calls(app: web.Application, state: Path) -> Calls:
    """Return the function that serves calls here, and passes all other requests on to the keeper (parent process)."""
    routes = app[CALL_ROUTES]
    pages = Pages(routes.guard, state)
    return lambda _others, request: routes.handle(pages.handle, request)


def _handle_signals(worker: Worker) -> None:
    """Set how this process reacts to signals.

    After the first SIGTERM or SIGINT it waits for its calls and ends, and after the second it ends the calls at once.
    It ignores the signals that only the keeper (the parent process) handles.
    """
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()

    def end() -> None:
        worker.stop.set()
        (worker.hurry if signalled.is_set() else signalled).set()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, end)
    for name in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)


def main() -> int:
    """Run a worker, and return its exit status.

    The first argument of the command line is the file descriptor of the connection to the keeper (the parent process).
    """
    gc.freeze()
    gc.enable()
    raise_descriptor_limit()
    try:
        asyncio.run(serve(int(sys.argv[1]), configure()))
    except (Broken, ConfigError, CannotListen, StoreFailed, OSError):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
