"""Runs the gateway: opens the listeners, serves until a signal comes, and then shuts down.

SIGHUP reloads the configuration (`reload.py`). SIGUSR2 starts a new process that takes over (`handover`). After SIGTERM
or SIGINT the gateway accepts no more connections and waits for calls in flight. A second SIGTERM or SIGINT ends these
calls at once.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiohttp import web

from gateway.access.identity.modes import Modes
from gateway.call.context import GATEWAY, Gateway
from gateway.call.sessions import load_key
from gateway.config.history import HISTORY, History
from gateway.config.load import Loaded
from gateway.config.model import Config
from gateway.config.server import Listener
from gateway.contract.registry import Registry
from gateway.process.app import build
from gateway.process.config_sharing import config_sharing
from gateway.process.draining import drained, first, left
from gateway.process.handover.giving import Giver
from gateway.process.handover.taking import CannotTake, Taker, connect
from gateway.process.handover.wire import PROTOCOL, Broken, Hello
from gateway.process.hook_alarm import hook_alarm
from gateway.process.http import runner_of, stopped
from gateway.process.output import say
from gateway.process.reload import Reloader, with_listener
from gateway.process.restarts import Restarts
from gateway.process.sites import Sites
from gateway.process.sockets import Bound, CannotListen, Passed, bind, refuse_rest
from gateway.process.stores import database_path, newest_schema, store_name
from gateway.process.systemd import READY, STOPPING, main_process, notify, passed_sockets, reloading
from gateway.process.workers.sites import WorkerOptions, WorkerSites
from gateway.process.workers.supervisor import CannotStartWorkers
from gateway.store.base import StoreFailed
from gateway.store.journal import require_unlocked
from gateway.store.sample import require_no_sample
from gateway.telemetry.log import Logger
from gateway.upstream.allocator import freed_memory_returned
from gateway.web.admin.metrics import serving
from gateway.web.connection_limits import Connections, raise_descriptor_limit
from gateway.web.readiness import READINESS

COLLECT_AFTER: Final = 10_000
"""Number of new objects after which Python's garbage collector searches its youngest generation.

Reference counting frees nearly all objects of a call, so the collector finds little. With Python's default of 700, each
batch of records that is written to the store would cause several searches."""


class CannotStart(Exception):
    """An error that prevents the gateway from starting. The message names the address, file or folder."""


@dataclass(slots=True)
class Running:
    """A running gateway with open listeners."""

    app: web.Application
    sites: Sites
    connections: Connections
    hurry: asyncio.Event
    """An event that ends the wait for calls in flight. The second SIGTERM or SIGINT sets it."""
    metrics: AsyncExitStack = field(default_factory=AsyncExitStack)
    """A stack that closes the metrics listener."""
    metrics_bounds: list[Bound] = field(default_factory=list)
    metrics_url: str = ""
    """The URL of the metrics on a separate listener. It is "" if there is no such listener."""
    replaced: asyncio.Event = field(default_factory=asyncio.Event)
    """An event that is set when another process has replaced this one."""

    @property
    def gateway(self) -> Gateway:
        return self.app[GATEWAY]

    def replaced_by(self, process: int) -> None:
        """Record that another process has replaced this one. Report it to systemd and in the log."""
        notify(main_process(process))
        self.gateway.log.info("gateway.replaced", process=process)
        self.replaced.set()

    @property
    def urls(self) -> list[str]:
        return [bound.url for bound in self.sites.bounds]


class Inherited(NamedTuple):
    """A connection to the running gateway, and open sockets. A starting gateway gets both from other processes."""

    taker: Taker | None = None
    """The connection to a running gateway that this process replaces. It is None if this process replaces no gateway.
    """
    passed: Sequence[Passed] = ()
    """Listening sockets that another process has opened. Each must have the address of a listener."""


NOTHING: Final = Inherited()


@asynccontextmanager
async def listening(
    config: Config,
    registry: Registry,
    *,
    state: Path,
    log: Logger,
    inherited: Inherited = NOTHING,
    hurry: asyncio.Event | None = None,
    workers: WorkerOptions | None = None,
    **options: Any,
) -> AsyncIterator[Running]:
    """Build the gateway and open its listeners. Raises `CannotStart` if one of these steps fails.

    `hurry` is an event that ends the wait for calls in flight. `workers` are the options of the worker processes, or
    None if this process itself serves the calls.

    At the end of the `async with` block, stop accepting connections, and wait at most `drain_seconds` for calls in
    flight. Then cancel the calls that are left, and close everything.
    """
    modes, (taker, passed) = Modes(log), inherited
    async with AsyncExitStack() as opened:
        opened.push_async_callback(modes.close)
        if taker is None:
            # otherwise a newer release could migrate the store while an older release still uses it
            with _starting():
                require_unlocked(state / "journal")
        sites = Sites([], modes) if workers is None else WorkerSites([], modes, workers, state)
        metrics: list[Bound] = []
        opened.callback(sites.close)
        _bind(config, list(passed), sites.bounds, metrics, every=taker is None)
        if isinstance(sites, WorkerSites):
            with _starting():
                await sites.workers.prepare()  # the workers load their code before this process takes over
        app = _built(config, registry, state=state, log=log, modes=modes, taker=taker, **options)
        gateway = app[GATEWAY]
        if isinstance(sites, WorkerSites):
            sites.employ(gateway)
        connections = Connections(lambda: gateway.runtime.config.server.limits, gateway.metrics, log, modes.client)
        runner = runner_of(app, connections, config, log)
        running = Running(app, sites, connections, hurry or asyncio.Event())
        opened.push_async_callback(_end, running, runner, config.server.drain_seconds)
        with _starting():
            await runner.setup()
        for bound in sites.bounds:
            modes.listen(bound.endpoint, bound.listener)
        for bound in metrics:
            modes.listen(bound.endpoint, bound.listener, calls=False)
        if taker is not None:
            sites.own_files(_finish(taker))
        gateway.spools.start()
        with _starting():
            await sites.start(runner, connections, lambda: gateway.runtime.config)
        async with running.metrics, _warned(running, modes):
            await _serve_metrics(running, metrics, modes)
            yield running


async def _end(running: Running, runner: web.AppRunner, drain_seconds: float) -> None:
    """Stop accepting connections, wait at most `drain_seconds` for calls in flight, and cancel those that are left."""
    running.gateway.draining = True
    try:
        if isinstance(running.sites, WorkerSites):
            await running.sites.workers.end(running.hurry, drain_seconds)
        await stopped(running.sites, runner)
        await drained(running.gateway.open_calls, running.hurry, drain_seconds)
    finally:
        await runner.cleanup()


@contextmanager
def _starting() -> Iterator[None]:
    """Raise `CannotStart` with the same message if the `with` block, which starts a part of the gateway, raises an
    error.
    """
    try:
        yield
    except (CannotListen, CannotStartWorkers, CannotTake, StoreFailed) as error:
        raise CannotStart(str(error)) from None


def _finish(taker: Taker) -> Collection[str]:
    """Finish the replacement of the running gateway. Return the names of the unix sockets whose files that gateway has
    created.

    Raises `CannotStart` if the running gateway has not given up its listeners.
    """
    try:
        return taker.finish()
    except Broken as error:
        raise CannotStart(f"the running gateway did not complete the hand-over: {error}") from None


def _bind(config: Config, passed: list[Passed], bounds: list[Bound], metrics: list[Bound], *, every: bool) -> None:
    """Open the sockets of all listeners. Append the metrics listener's socket to `metrics`, and the others to `bounds`.

    `passed` are sockets that another process has opened. Raises `CannotStart` if a socket cannot be opened. If `every`
    is true, also raises `CannotStart` for a passed socket that belongs to no listener.
    """
    try:
        with _starting():
            bounds.extend(bind(listener, passed) for listener in config.server.listeners)
            if config.metrics.listener is not None:
                metrics.append(bind(config.metrics.listener, passed))
            if every:
                refuse_rest(passed)
    finally:
        for one in passed:
            one.socket.close()


async def _serve_metrics(running: Running, bounds: Sequence[Bound], modes: Modes) -> None:
    """Serve the metrics on a separate listener, if the configuration has one."""
    for bound in bounds:
        running.metrics.callback(bound.socket.close)
        running.metrics_bounds.append(bound)
        await running.metrics.enter_async_context(
            serving(running.gateway, bound.socket, modes, running.connections, running.app[READINESS])
        )
        running.metrics_url = f"{bound.url}/metrics"
        running.gateway.log.info("metrics.listening", url=running.metrics_url)


@asynccontextmanager
async def _warned(running: Running, modes: Modes) -> AsyncIterator[None]:
    """Log a warning in the background if this machine itself has the role admin in the tailnet.

    Every process of the machine is then an admin when it calls through the tailnet.
    """

    async def warn() -> None:
        for identity in await modes.machines():
            if running.gateway.runtime.grants.access(identity).role == "admin":
                running.gateway.log.warning("identity.machine_is_admin", login=identity.login)

    task = asyncio.create_task(warn())
    yield
    await _cancelled(task)


def _built(config: Config, registry: Registry, *, state: Path, **options: Any) -> web.Application:
    try:
        return build(config, registry, state=state, **options)
    except OSError as error:
        raise CannotStart(f"{error.filename or state}: {error.strerror or error}") from None
    except (StoreFailed, ValueError) as error:
        raise CannotStart(str(error)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of `serve`."""

    listener: Listener | None = None
    """The listener that replaces the listeners of the configuration's file. It is None if the command line names none.
    """
    hints: Callable[[str], str] = lambda _url: ""
    take_over: bool = False
    """True to replace a gateway that already runs with the same state folder."""
    workers: WorkerOptions | None = None
    """The options of the workers. It is None if this process serves the calls itself."""
    sample: bool = False
    """True to allow a store with sample calls."""
    restart: Sequence[str] = ()
    """The command of the new process that SIGUSR2 starts. If it is empty, SIGUSR2 is not handled."""


def _hello(config: Config, state: Path, options: Options) -> Hello:
    """Return the first message to the process that is to be replaced.

    Raises `CannotStart` if the store has sample calls and the option `sample` is not set.
    """
    if not options.sample:
        with _starting():
            require_no_sample(database_path(config, state))
    return Hello(PROTOCOL, newest_schema(config), store_name(config, state), config.storage.sync, lends=True)


async def serve(path: Path, loaded: Loaded, registry: Registry, *, state: Path, log: Logger, options: Options) -> None:
    """Serve until SIGTERM or SIGINT, or until another process has taken over and the last call has ended.

    When all listeners are open, print for each listener `listening on URL`, followed by the text `options.hints(URL)`.

    Raises `CannotStart` or `StoreFailed` if the gateway cannot be started. Raises `OutputFailed` if these lines cannot
    be printed.
    """
    raise_descriptor_limit()
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        (hurry if stop.is_set() else stop).set()

    # before the listeners open, because a supervisor may stop the gateway as soon as it answers
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, end)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(freed_memory_returned())
        sharing = await stack.enter_async_context(config_sharing(path, loaded, registry.known, state, log))
        config = with_listener(sharing.loaded.config, options.listener)
        hello = _hello(config, state, options)
        inherited = _inherited(state, hello, take_over=options.take_over)
        workers = None if options.workers is None else replace(options.workers, text=sharing.loaded.text)
        running = await stack.enter_async_context(
            listening(config, registry, state=state, log=log, inherited=inherited, hurry=hurry, workers=workers)
        )
        stack.enter_context(hook_alarm())
        reloader = running.gateway.reloader = await _reloader(path, running, options, sharing.loaded, state)
        loop.add_signal_handler(signal.SIGHUP, _reload, reloader)
        following = asyncio.create_task(sharing.follow(reloader))
        stack.push_async_callback(_cancelled, following)
        giver = Giver(state, hello, running.gateway, running.sites, running.metrics_bounds, running.replaced_by)
        giver.start()
        stack.push_async_callback(giver.close)
        if options.restart:
            loop.add_signal_handler(signal.SIGUSR2, Restarts(options.restart, log).begin)
        for url in running.urls:
            say(f"listening on {url}{options.hints(url)}")
        # objects that exist now live as long as the process, so garbage collection need not examine them
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER)
        log.info("gateway.started", urls=running.urls, providers=list(config.providers))
        notify(READY)
        await first(stop, running.replaced)
        if running.replaced.is_set():
            following.cancel()
            await running.metrics.aclose()
            await _left(running, stop)
        else:
            notify(STOPPING)
        log.info("gateway.draining", seconds=config.server.drain_seconds)
    log.info("gateway.stopped")


async def _left(running: Running, stop: asyncio.Event) -> None:
    """Wait, in a replaced process, until no client is connected to it or to its workers, or until `stop` is set."""
    if isinstance(running.sites, WorkerSites):
        ended = asyncio.create_task(running.sites.workers.ended())
        await left(lambda: not ended.done(), stop)
    await left(lambda: bool(running.gateway.open_calls or running.connections.count), stop)


async def _reloader(path: Path, running: Running, options: Options, loaded: Loaded, state: Path) -> Reloader:
    history = History(state / HISTORY)
    reloader = Reloader(path, running.gateway, options.listener, loaded, load_key(state), history)
    if isinstance(running.sites, WorkerSites):
        hub = running.sites.hub
        reloader.used = lambda loaded: hub.configure(loaded.text)
    await reloader.begin_history()
    return reloader


def _inherited(state: Path, hello: Hello, *, take_over: bool) -> Inherited:
    """Return the connection to the running gateway and the listening sockets that it passes.

    If no gateway runs on the state folder, or if `take_over` is False, return the sockets that systemd passed.
    Raises `CannotStart` if the running gateway refuses to hand over, or if a socket of systemd cannot be used.
    """
    with _starting():
        taker = connect(state) if take_over else None
        return Inherited(taker, passed_sockets() if taker is None else taker.offer(hello))


def _reload(reloader: Reloader) -> None:
    """Reload the configuration in the background, and tell systemd about it."""
    notify(reloading())
    reloader.reload_soon().add_done_callback(lambda _task: notify(READY))


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end. An exception of the task is ignored, so that the shutdown continues."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
