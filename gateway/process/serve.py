"""Runs the gateway: opens the listeners, serves until a signal, and shuts down in order.

SIGHUP reloads the configuration (`reload.py`). After SIGTERM or SIGINT the gateway accepts no more connections and
waits for calls in flight. A second SIGTERM or SIGINT ends these calls at once.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from gateway.access.identity.modes import Modes
from gateway.access.identity.proxy_protocol import Room
from gateway.call.context import GATEWAY, Gateway
from gateway.call.sessions import load_key
from gateway.config.load import Loaded
from gateway.config.model import Config, Listener
from gateway.contract.registry import Registry
from gateway.process.app import build
from gateway.process.output import say
from gateway.process.reload import Reloader, with_listener
from gateway.process.sockets import Bound, CannotListen, Passed, bind, refuse_rest
from gateway.process.systemd import READY, STOPPING, notify, passed_sockets, reloading
from gateway.store.base import StoreFailed
from gateway.telemetry.http_log import server_logger
from gateway.telemetry.log import Logger
from gateway.upstream.allocator import give_memory_back
from gateway.web.admin.metrics import serving
from gateway.web.connection_limits import Connections, raise_descriptor_limit
from gateway.web.connections import Runner
from gateway.web.readiness import READINESS

LAST_WORD_SECONDS: Final = 1.0
"""Seconds that cancelled calls get to send an error to their clients and to write their records."""
CLOSE_SECONDS: Final = 0.5
"""Seconds that other requests and unfinished responses get to finish after the wait for calls is over."""

SERVED_HEADER_BYTES: Final = 256 * 1024
"""Length of a header line in bytes that is always accepted if a listener is behind `tailscale serve`.

One header then has all grants of the tailnet policy. With hundreds of grants for one caller, that header is longer than
the configured maximum for headers usually is."""


class CannotStart(Exception):
    """An error that prevents the gateway from starting. The message names the address, file or folder."""


@dataclass(slots=True)
class Running:
    """A running gateway, whose listeners are open."""

    app: web.Application
    urls: list[str] = field(default_factory=list)
    metrics_url: str = ""
    """The URL of the metrics on a separate listener; "" if there is no such listener."""
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    """An event that ends the wait for calls in flight; the second signal sets it."""

    @property
    def gateway(self) -> Gateway:
        return self.app[GATEWAY]


@asynccontextmanager
async def listening(
    config: Config, registry: Registry, *, state: Path, log: Logger, passed: Sequence[Passed] = (), **options: Any
) -> AsyncIterator[Running]:
    """Build the gateway and open its listeners. Raises `CannotStart` if one of these steps fails.

    `passed` are listening sockets that another process has opened; each must have the address of a listener.
    At the end of the block, stop accepting connections, wait at most `drain_seconds` for calls in flight, cancel the
    calls that are left, and close everything.
    """
    modes = Modes(log)
    app = _built(config, registry, state=state, log=log, modes=modes, **options)
    running = Running(app)
    connections = Connections(
        lambda: running.gateway.runtime.config.server.limits, running.gateway.metrics, log, modes.client
    )
    header_bytes = _header_bytes(config)
    runner = Runner(
        app,
        connections,
        handler_cancellation=True,
        shutdown_timeout=CLOSE_SECONDS,
        logger=server_logger(log),
        auto_decompress=False,
        max_line_size=header_bytes,
        max_field_size=header_bytes,
    )
    try:
        await runner.setup()
    except StoreFailed as error:
        raise CannotStart(str(error)) from None
    bounds: list[Bound] = []
    metrics: list[Bound] = []
    try:
        _bind(config, list(passed), bounds, metrics)
        for bound in bounds:
            modes.listen(bound.endpoint, bound.listener)
            running.urls.append(bound.url)
            await Site(runner, bound, modes, connections).start()
        async with _metrics(running, metrics, modes, connections), _warned(running, modes):
            yield running
    finally:
        running.gateway.draining = True
        for bound in bounds:
            bound.remove_file()
        try:
            await _stopped(runner)
            await _drained(running, config.server.drain_seconds)
        finally:
            async with AsyncExitStack() as closing:
                for bound in (*bounds, *metrics):
                    closing.callback(bound.socket.close)
                closing.push_async_callback(modes.close)
                closing.push_async_callback(runner.cleanup)


def _header_bytes(config: Config) -> int:
    """Return the maximum length of a header line. Behind `tailscale serve`, one header has all grants of the policy."""
    served = any(listener.identity == "serve-headers" for listener in config.server.listeners)
    return max(config.server.limits.header_bytes, SERVED_HEADER_BYTES if served else 0)


def _bind(config: Config, passed: list[Passed], bounds: list[Bound], metrics: list[Bound]) -> None:
    """Open the sockets of all listeners, and append them to `bounds`, or to `metrics` for the listener of metrics.

    Raises `CannotStart` if a socket cannot be opened, or if one of `passed` belongs to no listener.
    """
    try:
        bounds.extend(bind(listener, passed) for listener in config.server.listeners)
        if config.metrics.listener is not None:
            metrics.append(bind(config.metrics.listener, passed))
        refuse_rest(passed)
    except CannotListen as error:
        raise CannotStart(str(error)) from None
    finally:
        for one in passed:
            one.socket.close()


@asynccontextmanager
async def _metrics(
    running: Running, bounds: Sequence[Bound], modes: Modes, connections: Connections
) -> AsyncIterator[None]:
    """Serve the metrics on a separate listener, if there is one."""
    async with AsyncExitStack() as stack:
        for bound in bounds:
            modes.listen(bound.endpoint, bound.listener, calls=False)
            readiness = running.app[READINESS]
            await stack.enter_async_context(serving(running.gateway, bound.socket, modes, connections, readiness))
            running.metrics_url = f"{bound.url}/metrics"
            running.gateway.log.info("metrics.listening", url=running.metrics_url)
        yield


@asynccontextmanager
async def _warned(running: Running, modes: Modes) -> AsyncIterator[None]:
    """Warn in the background if a process of this machine that calls the tailnet address is an admin."""

    async def warn() -> None:
        for identity in await modes.machines():
            if running.gateway.runtime.grants.access(identity).role == "admin":
                running.gateway.log.warning("identity.machine_is_admin", login=identity.login)

    task = asyncio.create_task(warn())
    yield
    await _cancelled(task)


class Site(web.SockSite):
    """A site of aiohttp whose connections begin with a PROXY header if the listener's mode is `proxy-protocol`."""

    def __init__(self, runner: web.AppRunner, bound: Bound, modes: Modes, room: Room | None = None) -> None:
        super().__init__(runner, bound.socket)
        self._room = room
        self._bound = bound
        self._modes = modes

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None
        factory = self._modes.protocol(self._bound.listener, server, self._room)
        self._server = await asyncio.get_running_loop().create_server(factory, sock=self._bound.socket)


def _built(config: Config, registry: Registry, *, state: Path, **options: Any) -> web.Application:
    try:
        return build(config, registry, state=state, **options)
    except OSError as error:
        raise CannotStart(f"{error.filename or state}: {error.strerror or error}") from None
    except (StoreFailed, ValueError) as error:
        raise CannotStart(str(error)) from None


async def _stopped(runner: web.AppRunner) -> None:
    """Accept no more connections, and no more requests on open connections."""
    for site in runner.sites:
        await site.stop()
    # let requests that have just arrived begin, as aiohttp's `AppRunner.cleanup` does
    await asyncio.sleep(0)
    if runner.server is not None:
        runner.server.pre_shutdown()


async def _drained(running: Running, seconds: float) -> None:
    """Wait for calls in flight, at most `seconds` or until `running.hurry` is set, then cancel those that are left.

    A cancelled call has `LAST_WORD_SECONDS` to send an error to its client.
    """
    calls = running.gateway.open_calls
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    hurry = asyncio.create_task(running.hurry.wait())
    while (waiting := _unfinished(calls)) and not hurry.done() and (left := end - loop.time()) > 0:
        await asyncio.wait({*waiting, hurry}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    if rest := _unfinished(calls):
        for task in rest:
            task.cancel()
        await asyncio.wait(rest, timeout=LAST_WORD_SECONDS)


def _unfinished(calls: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    return {task for task in calls if not task.done()}


async def serve(
    path: Path,
    loaded: Loaded,
    registry: Registry,
    *,
    state: Path,
    log: Logger,
    listener: Listener | None = None,
    hints: Callable[[str], str] = lambda _url: "",
) -> None:
    """Serve until SIGTERM or SIGINT.

    When all listeners are open, `listening on URL` is printed for each of them, followed by the text of `hints(URL)`.
    Raises `CannotStart` if the gateway cannot be started, and `OutputFailed` if these lines cannot be printed.
    """
    raise_descriptor_limit()
    give_memory_back()
    config = with_listener(loaded.config, listener)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(
            listening(config, registry, state=state, log=log, passed=_from_systemd())
        )
        reloader = running.gateway.reloader = Reloader(path, running.gateway, listener, loaded, load_key(state))

        def end() -> None:
            (running.hurry if stop.is_set() else stop).set()

        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, end)
        loop.add_signal_handler(signal.SIGHUP, _reload, reloader)
        following = asyncio.create_task(reloader.follow())
        stack.push_async_callback(_cancelled, following)
        for url in running.urls:
            say(f"listening on {url}{hints(url)}")
        # objects that exist now live as long as the process, so garbage collection need not examine them
        gc.freeze()
        log.info("gateway.started", urls=running.urls, providers=list(config.providers))
        notify(READY)
        await stop.wait()
        notify(STOPPING)
        log.info("gateway.draining", seconds=config.server.drain_seconds)
    log.info("gateway.stopped")


def _from_systemd() -> Sequence[Passed]:
    try:
        return passed_sockets()
    except CannotListen as error:
        raise CannotStart(str(error)) from None


def _reload(reloader: Reloader) -> None:
    """Reload the configuration in the background, and tell systemd about it."""
    notify(reloading())
    reloader.reload_soon().add_done_callback(lambda _task: notify(READY))


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end. An exception of the task is ignored, so that the shutdown continues."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
