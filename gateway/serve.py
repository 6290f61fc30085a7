"""The life of the process: load, listen, reload, drain.

A configuration is swapped in whole or not at all; calls in flight keep the one they began with. SIGHUP reloads, SIGTERM
and SIGINT stop accepting and let calls finish.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.app import build
from gateway.config.findings import ConfigError
from gateway.config.load import Loaded, load
from gateway.config.model import Config, Listener
from gateway.config.watch import watch
from gateway.context import GATEWAY, Gateway
from gateway.log import Logger
from gateway.registry import Registry
from gateway.runtime import runtime


@dataclass(slots=True)
class Running:
    """A gateway that listens."""

    app: web.Application
    urls: list[str] = field(default_factory=list)

    @property
    def gateway(self) -> Gateway:
        return self.app[GATEWAY]


@asynccontextmanager
async def listening(
    config: Config, registry: Registry, *, state: Path, log: Logger, **options: Any
) -> AsyncIterator[Running]:
    """Open all listeners; on leaving, stop accepting, wait for calls in flight, then close what is left.

    Raises `OSError` when an address is taken.
    """
    listeners: dict[int | str, Listener] = {}
    app = build(config, registry, state=state, log=log, listeners=listeners, **options)
    limits = config.server.limits
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        shutdown_timeout=config.server.drain_seconds,
        access_log=None,
        max_line_size=limits.header_bytes,
        max_field_size=limits.header_bytes,
    )
    await runner.setup()
    running = Running(app)
    try:
        for listener in config.server.listeners:
            key, url = await _listen(runner, listener)
            listeners[key] = listener
            running.urls.append(url)
        yield running
    finally:
        running.gateway.draining = True
        await runner.cleanup()


async def _listen(runner: web.AppRunner, listener: Listener) -> tuple[int | str, str]:
    """Open one listener; gives what identifies its connections (TCP port or socket path), and its URL."""
    if listener.unix:
        Path(listener.unix).unlink(missing_ok=True)  # noqa: ASYNC240 (at start, before anything is served)
        await web.UnixSite(runner, listener.unix).start()
        return listener.unix, f"unix:{listener.unix}"
    bound = socket.create_server(
        (listener.host, listener.port), family=socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    )
    bound.setblocking(False)
    await web.SockSite(runner, bound).start()
    port: int = bound.getsockname()[1]
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    return port, f"http://{host}:{port}"


@dataclass(slots=True)
class Reloader:
    """Takes a changed configuration file, or keeps the last good one and says why."""

    path: Path
    gateway: Gateway
    overlay: Listener | None
    """The listener of the command line, which the file's listeners do not replace."""
    watched: frozenset[Path]

    async def follow(self) -> None:
        """Reload whenever the file, or a secret that it names, changes."""
        async for _ in watch(lambda: self.watched):
            self.reload()

    def reload(self) -> None:
        gateway = self.gateway
        try:
            loaded = load(self.path, known_flags=gateway.registry.flags)
        except ConfigError as error:
            self.watched |= error.watched
            findings = [str(finding) for finding in error.findings]
            gateway.config_error = findings[0]
            gateway.metrics.config_reloaded(successful=False)
            gateway.log.error(  # noqa: TRY400 (the findings say it all)
                "config.refused", findings=findings, kept="the last good configuration serves on"
            )
            return
        self.watched = loaded.watched
        gateway.runtime = runtime(with_listener(loaded.config, self.overlay))
        gateway.metrics.configured(gateway.runtime.config)
        gateway.config_error = ""
        gateway.metrics.config_reloaded(successful=True)
        for warning in loaded.warnings:
            gateway.log.warning("config.warning", finding=str(warning))
        gateway.log.info("config.reloaded", file=str(self.path), providers=list(loaded.config.providers))


def with_listener(config: Config, listener: Listener | None) -> Config:
    """The configuration with its listeners replaced by one, if there is one."""
    if listener is None:
        return config
    return replace(config, server=replace(config.server, listeners=(listener,)))


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
    """Serve until SIGTERM or SIGINT. Prints `listening on URL` for each listener when it is ready, then the hints."""
    config = with_listener(loaded.config, listener)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(listening(config, registry, state=state, log=log))
        reloader = Reloader(path, running.gateway, listener, loaded.watched)
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        loop.add_signal_handler(signal.SIGHUP, reloader.reload)
        following = asyncio.create_task(reloader.follow())
        stack.push_async_callback(_cancelled, following)
        for url in running.urls:
            print(f"listening on {url}{hints(url)}", flush=True)  # noqa: T201 (what scripts wait for)
        log.info("gateway.started", urls=running.urls, providers=list(config.providers))
        await stop.wait()
        log.info("gateway.draining", seconds=config.server.drain_seconds)
    log.info("gateway.stopped")


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
