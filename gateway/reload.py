"""The life of a configuration: a changed file is taken over as a whole, or the last good one serves on.

Calls in flight keep the configuration that they began with. How the process starts and ends is in `serve.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from gateway.config.findings import ConfigError
from gateway.config.load import Loaded, load
from gateway.config.model import Config, Listener
from gateway.config.watch import Stamp, stamps, watch
from gateway.context import Gateway
from gateway.runtime import Runtime, runtime

WATCH_AGAIN_SECONDS: Final = 1.0
"""After which watching is begun anew, when it failed."""


@dataclass(slots=True)
class Reloader:
    """Takes a changed configuration file, or keeps the last good one and says why."""

    path: Path
    gateway: Gateway
    overlay: Listener | None
    """The listener of the command line, which the file's listeners do not replace."""
    seen: Mapping[Path, Stamp]
    """The files of the configuration that is used, as they were before it was read."""
    started: Config = field(init=False)
    """The configuration of the start; some of it holds until the end."""
    _watched: frozenset[Path] = field(init=False)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _asked: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.started = self.gateway.runtime.config
        self._watched = frozenset(self.seen)

    async def follow(self) -> None:
        """Reload whenever the file, or a secret that it names, changes; whatever happens, go on with that."""
        while True:
            try:
                async with aclosing(watch(lambda: self._watched, since=self.seen)) as changes:
                    async for _ in changes:
                        await self.reload()
            except Exception:
                self.gateway.log.exception("config.watch_failed", again_in_seconds=WATCH_AGAIN_SECONDS)
            await asyncio.sleep(WATCH_AGAIN_SECONDS)

    def ask(self) -> None:
        """Reload soon; for a signal's handler, which cannot wait."""
        task = asyncio.create_task(self.reload())
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def reload(self) -> None:
        async with self._one_at_a_time:
            self.seen = stamps(self._watched)
            try:
                loaded, ready = await asyncio.to_thread(self._read)
            except ConfigError as error:
                self._watched |= error.watched
                self._keep([str(finding) for finding in error.findings])
            except Exception as error:
                self.gateway.log.exception("config.reload_failed")
                self._keep([f"{self.path}: cannot be taken over: {type(error).__name__}"])
            else:
                self._take(loaded, ready)

    def _read(self) -> tuple[Loaded, Runtime]:
        """In a thread of its own: a large file, or a slow disk, must not hold up calls."""
        loaded = load(self.path, known_flags=self.gateway.registry.flags)
        return loaded, runtime(with_listener(loaded.config, self.overlay))

    def _keep(self, findings: list[str]) -> None:
        self.gateway.config_error = findings[0]
        self.gateway.metrics.config_reloaded(successful=False)
        self.gateway.log.error("config.refused", findings=findings, kept="the last good configuration serves on")

    def _take(self, loaded: Loaded, ready: Runtime) -> None:
        gateway = self.gateway
        self._watched = loaded.watched
        gateway.runtime = ready
        gateway.metrics.configured(ready.config)
        gateway.config_error = ""
        gateway.metrics.config_reloaded(successful=True)
        for warning in loaded.warnings:
            gateway.log.warning("config.warning", finding=str(warning))
        if keys := fixed_changes(self.started, ready.config):
            gateway.log.warning("config.needs_restart", changed=keys)
        gateway.log.info("config.reloaded", file=str(self.path), providers=list(ready.config.providers))


def fixed_changes(started: Config, now: Config) -> list[str]:
    """The keys that differ and are read at the start only."""
    keys = {
        "server.listeners": (started.server.listeners, now.server.listeners),
        "server.drain_seconds": (started.server.drain_seconds, now.server.drain_seconds),
        "server.limits.header_bytes": (started.server.limits.header_bytes, now.server.limits.header_bytes),
        "storage.url": (started.storage.url, now.storage.url),
    }
    return [key for key, (before, after) in keys.items() if before != after]


def with_listener(config: Config, listener: Listener | None) -> Config:
    """The configuration with its listeners replaced by one, if there is one."""
    if listener is None:
        return config
    return replace(config, server=replace(config.server, listeners=(listener,)))
