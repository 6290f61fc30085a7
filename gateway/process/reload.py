"""Reloads the configuration: a changed one is used as a whole, or the last good one stays.

- A change comes from the file, when somebody edits it, or from `save`, which writes the file itself.
- Calls in flight keep the configuration that they began with.

Who may save, and which texts are refused, is decided in `web/admin/config.py`; the process starts and ends in
`serve.py`.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import time
from typing import Any, Final, NamedTuple

from gateway.call.context import Gateway, NotTaken, Who
from gateway.call.runtime import Runtime, runtime
from gateway.config.changes import changed_paths, rotated_keys
from gateway.config.document import atomic_file
from gateway.config.document.hujson import parse
from gateway.config.document.redact import scrubber
from gateway.config.document.secret_spans import secrets_in
from gateway.config.document.watch import Stamp, stamps, watch
from gateway.config.findings import ConfigError
from gateway.config.load import Loaded, load
from gateway.config.model import Config, Listener, active_secrets
from gateway.store.entries import Entry, Version

WATCH_AGAIN_SECONDS: Final = 1.0
"""Seconds after which watching starts again when it failed."""


FILE: Final = Who("file")
"""Somebody who edited the file, or a secret's; the file system does not say who."""


class _Ready(NamedTuple):
    """A configuration that was read, and all that takes long to say of it."""

    loaded: Loaded
    runtime: Runtime
    warnings: tuple[str, ...]
    changed: tuple[str, ...]
    """Paths, without any value; a key that has slipped into a name is left out of them."""


@dataclass(slots=True)
class Reloader:
    """Takes a changed configuration, or keeps the last good one and says why."""

    path: Path
    gateway: Gateway
    overlay: Listener | None
    """The listener of the command line, which the file's listeners do not replace."""
    loaded: Loaded
    """The configuration that is used, as it was read."""
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    """The key of entity tags and marks; kept beyond the process, they stay valid over a restart."""
    seen: Mapping[Path, Stamp] = field(init=False)
    """The files of the configuration, as they were before they were last read."""
    started: Config = field(init=False)
    """The configuration of the start; some of it holds until the end."""
    _watched: frozenset[Path] = field(init=False)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.started = self.gateway.runtime.config
        self.seen = self.loaded.stamps
        self._watched = frozenset(self.seen)

    def etag(self, data: bytes, error: str = "") -> str:
        """Return the entity tag of the file's bytes: keyed, so that nobody can find a secret by trying many.

        A file that was refused is shown with the reason, so the reason counts too.
        """
        message = b"configuration tag:" + error.encode() + b"\0" + data
        return hmac.digest(self.key, message, "sha256").hex()[:32]

    def effective(self, config: Config) -> Config:
        return with_listener(config, self.overlay)

    async def follow(self) -> None:
        """Reload whenever the file, or a secret that it names, changes; whatever happens, go on with that."""
        while True:
            try:
                async with aclosing(watch(lambda: self._watched, since=self.seen)) as changed:
                    async for _ in changed:
                        await self._reload_if_changed()
            except Exception:
                self.gateway.log.exception("config.watch_failed", again_in_seconds=WATCH_AGAIN_SECONDS)
            await asyncio.sleep(WATCH_AGAIN_SECONDS)

    def reload_soon(self) -> None:
        """Reload soon; for a signal's handler, which cannot wait."""
        self._task(self.reload())

    async def reload(self) -> None:
        async with self._one_at_a_time:
            await self._reload()

    async def save(self, text: str, expected: bytes, who: Who, check: Callable[[], object] = lambda: None) -> None:
        """Replace the file, which holds `expected`, and take the new one over.

        `check` raises when `who` may not save any more; it is asked once nothing else can change that. A save is done
        to the end, whatever becomes of the caller. Raises what `check` does, `CannotReplace`, `OSError`, and
        `ConfigError` or `NotTaken` for what only showed once it was written; the old file stands there again then.
        """
        await asyncio.shield(self._task(self._save(text.encode(), expected, who, check)))

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _reload_if_changed(self) -> None:
        """Reload unless a save, which has written the file, has read it again already."""
        async with self._one_at_a_time:
            if stamps(self._watched) != self.seen:
                await self._reload()

    async def _reload(self) -> None:
        self.seen = stamps(self._watched)
        try:
            ready = await asyncio.to_thread(self._read)
        except ConfigError as error:
            self._watched |= error.watched
            self._keep(await asyncio.to_thread(self._shown, error))
        except Exception as error:
            self.gateway.log.exception("config.reload_failed")
            self._keep([f"{self.path}: cannot be taken over: {type(error).__name__}"])
        else:
            self._take(ready, FILE)

    async def _save(self, data: bytes, expected: bytes, who: Who, check: Callable[[], object]) -> None:
        async with self._one_at_a_time:
            check()
            await asyncio.to_thread(atomic_file.replace, self.path, data, expected)
            try:
                ready = await asyncio.to_thread(self._read)
            except ConfigError:
                await self._put_back(expected, data)
                raise
            except Exception as error:
                self.gateway.log.exception("config.reload_failed")
                await self._put_back(expected, data)
                raise NotTaken(f"{self.path} cannot be taken over: {type(error).__name__}") from None
            self._take(ready, who)

    async def _put_back(self, old: bytes, new: bytes) -> None:
        """Restore the old file, unless somebody else has written it by now or it cannot be replaced.

        The follower reads the old file once more, too: a secret's file may have changed since that was read.
        """
        try:
            await asyncio.to_thread(atomic_file.replace, self.path, old, new)
        except (atomic_file.CannotReplace, OSError):
            self.gateway.log.exception("config.put_back_failed")

    def _read(self) -> _Ready:
        """Read the configuration, in a thread: a large file, or a slow disk, must not hold up calls."""
        before = self.loaded
        loaded = load(self.path, known_flags=self.gateway.registry.flags)
        ready = runtime(self.effective(loaded.config))
        differing = changed_paths(before.document.value, loaded.document.value)
        differing += [path for path in rotated_keys(before.config, loaded.config) if path not in differing]
        hidden = active_secrets(before.config) | active_secrets(loaded.config)
        scrubbed = scrubber({*hidden, *secrets_in(before.document), *secrets_in(loaded.document)})
        warnings = tuple(scrubbed(str(warning)) for warning in loaded.warnings)
        return _Ready(loaded, ready, warnings, tuple(map(scrubbed, differing)))

    def _shown(self, error: ConfigError) -> list[str]:
        """Return the findings as they may be shown: a key that has slipped into a name stands in the path of one."""
        hidden = set(active_secrets(self.gateway.runtime.config))
        # what cannot be read or parsed has findings that quote nothing
        with suppress(OSError, ValueError):
            hidden |= secrets_in(parse(atomic_file.read(self.path).decode()))
        return [*map(scrubber(hidden), map(str, error.findings))]

    def _keep(self, findings: list[str]) -> None:
        self.gateway.config_error = findings[0]
        self.gateway.metrics.config_reloaded(successful=False)
        self.gateway.log.error("config.refused", findings=findings, kept="the last good configuration serves on")

    def _take(self, ready: _Ready, who: Who) -> None:
        gateway, before, loaded = self.gateway, self.loaded, ready.loaded
        config = ready.runtime.config
        self.loaded, self.seen, self._watched = loaded, loaded.stamps, loaded.watched
        gateway.current.runtime = ready.runtime
        gateway.metrics.configured(config)
        gateway.quotas.configured(config.quotas)
        gateway.config_error = ""
        gateway.metrics.config_reloaded(successful=True)
        for warning in ready.warnings:
            gateway.log.warning("config.warning", finding=warning)
        if keys := fixed_changes(self.started, config):
            gateway.log.warning("config.needs_restart", changed=keys)
        gateway.log.info("config.reloaded", file=str(self.path), providers=list(config.providers))
        if ready.changed or before.text != loaded.text:
            self._note(before, ready.changed, who)

    def _note(self, before: Loaded, changed: tuple[str, ...], who: Who) -> None:
        """Write the audit's line: who changed what, without any value."""
        after = self.etag(self.loaded.text.encode())
        self.gateway.follower.put(Entry(version=Version(time(), who.login, after, changed)))
        self.gateway.log.info(
            "config.changed",
            who=who.login,
            node=who.node,
            request_id=who.request_id,
            etag_before=self.etag(before.text.encode()),
            etag_after=after,
            changed=list(changed),
        )


def fixed_changes(started: Config, now: Config) -> list[str]:
    """Return the keys that differ and are read at the start only."""
    keys = {
        "server.listeners": (started.server.listeners, now.server.listeners),
        "server.drain_seconds": (started.server.drain_seconds, now.server.drain_seconds),
        "server.limits.header_bytes": (started.server.limits.header_bytes, now.server.limits.header_bytes),
        "storage.url": (started.storage.url, now.storage.url),
        "metrics.listen": (started.metrics.listener, now.metrics.listener),
    }
    return [key for key, (before, after) in keys.items() if before != after]


def with_listener(config: Config, listener: Listener | None) -> Config:
    """Return the configuration with its listeners replaced by one, if there is one."""
    if listener is None:
        return config
    return replace(config, server=replace(config.server, listeners=(listener,)))
