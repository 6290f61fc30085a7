"""Reloads the configuration. A valid new configuration replaces the old one as a whole. An invalid one is refused.

- A change is either an edit of the file by a user or a call of `save`, which writes the file itself.
- Calls in flight keep the configuration with which they began.

`web/admin/config.py` decides who may save and which texts are refused. `serve.py` starts and stops the process.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import time
from typing import Any, Final, NamedTuple, Protocol

from gateway.call.context import Gateway, NotTaken, Who
from gateway.config.changes import changed_paths, rotated_keys
from gateway.config.document import atomic_file
from gateway.config.document.hujson import parse
from gateway.config.document.redact import redact, scrubber
from gateway.config.document.secret_spans import secrets_in
from gateway.config.document.watch import Stamp, stamps, watch
from gateway.config.findings import ConfigError
from gateway.config.history import History, Version
from gateway.config.load import Loaded, load
from gateway.config.model import Config, active_secrets
from gateway.config.server import Listener
from gateway.contract.plugin_packages import changes
from gateway.process.discard import discard
from gateway.process.prepared import Prepared, prepare, use
from gateway.store import entries

WATCH_AGAIN_SECONDS: Final = 1.0
"""Seconds to wait, after an error, before the files are watched again."""

_KEPT_CODE: Final = "the code of the start serves on"
FILE: Final = Who("file")
"""The author that is recorded for an edit of a configuration file, because the file system does not record one."""

START: Final = Who("start")
"""The author of the version that a starting process adds to the history."""


class _Ready(NamedTuple):
    """A loaded configuration that can be put into use at once."""

    loaded: Loaded
    prepared: Prepared
    warnings: tuple[str, ...]
    changed: tuple[str, ...]
    """Paths of the changed keys, without values. A secret that is in a path by mistake is redacted."""
    etags: tuple[str, str]
    """The entity tags of the file's text before and after the change."""


async def _nothing(_loaded: Loaded) -> None:
    """Do nothing. This is the value of `Reloader.used` in a gateway without workers."""


class Shared(Protocol):
    """Passes changes of the configuration on to other gateways (`shared_config.py`)."""

    async def publish(self, text: str, who: Who) -> None:
        """Pass a new text of the configuration on to the other gateways. This gateway uses the text afterwards.

        Raises `Changed` if another gateway has passed on a newer text, and `StoreFailed` if the text cannot be passed
        on.
        """

    def look_soon(self) -> None:
        """Request that the text in use is passed on to the other gateways soon, and return at once.

        Called after an edit of the file.
        """


@dataclass(slots=True)
class Reloader:
    """Replaces the configuration in use by a valid new one. If a new one is invalid, the old one stays in use."""

    path: Path
    gateway: Gateway
    overlay: Listener | None
    """The listener that replaces the listeners of the configuration's file. It is None if the command line names none.
    """
    loaded: Loaded
    """The configuration in use, as it was loaded from the file."""
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    """The secret key of the entity tags, and of the placeholders that are shown instead of secrets. Entity tags and
    placeholders stay valid after a restart with the same key.
    """
    history: History | None = None
    """The most recent versions of the configuration. The value is None if they are not kept."""
    shared: Shared | None = None
    """Passes changes on to other gateways. It is None if they do not share the configuration."""
    used: Callable[[Loaded], Awaitable[None]] = _nothing
    """A function that is called after a new configuration has been put into use here. It passes the configuration on to
    the worker processes.
    """
    seen: Mapping[Path, Stamp] = field(init=False)
    """The modification stamps of the configuration's files, taken just before the files were last read."""
    started: Config = field(init=False)
    """The configuration with which the process started. Some of its keys are used only when a process starts."""
    _watched: frozenset[Path] = field(init=False)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.started = self.gateway.runtime.config
        self.seen = self.loaded.stamps
        self._watched = frozenset(self.seen)

    def etag(self, data: bytes, error: str = "") -> str:
        """Return an entity tag for what readers of the configuration see: the file's content, and `error`, the reason
        why the file was refused.

        The tag is a keyed hash. Without the key, nobody can use the tag to check a guess of a secret in the file.
        """
        message = b"configuration tag:" + error.encode() + b"\0" + data
        return hmac.digest(self.key, message, "sha256").hex()[:32]

    def effective(self, config: Config) -> Config:
        return with_listener(config, self.overlay)

    async def follow(self) -> None:
        """Reload whenever the configuration's file or a secret's file has changed. Continue to watch after an error."""
        while True:
            try:
                async with aclosing(watch(lambda: self._watched, since=self.seen)) as changed:
                    async for _ in changed:
                        await self._reload_if_changed()
            except Exception:
                self.gateway.log.exception("config.watch_failed", again_in_seconds=WATCH_AGAIN_SECONDS)
            await asyncio.sleep(WATCH_AGAIN_SECONDS)

    def reload_soon(self) -> asyncio.Task[None]:
        """Start a reload and return its task at once, for a signal handler."""
        return self._task(self.reload())

    async def reload(self) -> None:
        async with self._one_at_a_time:
            await self._reload()

    async def save(self, text: str, expected: bytes, who: Who, check: Callable[[], object] = lambda: None) -> None:
        """Write `text` to the configuration's file if its content is still `expected`, and use the new configuration.

        `check` raises an exception if `who` may no longer save. From the call of `check` to the write, no other change
        of the configuration is possible. A save that has begun is completed even if the caller is cancelled.

        Raises the exceptions of `check`, `CannotReplace` if the file is not as expected, and `OSError` if it cannot be
        written.

        Some faults are found only after the write. The old content is then restored, and one of these errors is raised:
        `ConfigError` for an invalid text, `NotTaken` if the configuration cannot be put into use, `Changed` or
        `StoreFailed` if it cannot be shared with the other gateways.
        """
        await asyncio.shield(self._task(self._save(text.encode(), expected, who, check, self.shared)))

    @property
    def text(self) -> str:
        """The text of the configuration in use."""
        return self.loaded.text

    def content(self) -> bytes:
        """Return the text that the file has now. Raises `OSError` if it cannot be read."""
        return atomic_file.read(self.path)

    async def replace(self, text: str, expected: bytes, who: Who) -> None:
        """Write a text that comes from another gateway into the file if the content is still `expected`, and use the
        text.

        Raises `CannotReplace` or `OSError` if the text cannot be written, and `NotTaken` if it cannot be used here. In
        these cases, the file has its old text.
        """
        try:
            await asyncio.shield(self._task(self._save(text.encode(), expected, who, lambda: None, None)))
        except ConfigError as error:
            raise NotTaken("; ".join(await asyncio.to_thread(self._shown, error, text.encode()))) from None

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _reload_if_changed(self) -> None:
        """Reload if the files have changed since they were last read here, or last written by `save`."""
        async with self._one_at_a_time:
            if stamps(self._watched) != self.seen:
                await self._reload()

    async def _reload(self) -> None:
        self.seen = stamps(self._watched)
        sources = self.gateway.registry.sources
        if sources is not None and (changed := await asyncio.to_thread(sources.changed)):
            self.gateway.log.warning("plugins.changed", files=changed, kept=_KEPT_CODE)
        if upgraded := await asyncio.to_thread(changes, self.gateway.registry.packages):
            self.gateway.log.warning("plugins.upgraded", packages=upgraded, kept=_KEPT_CODE)
        try:
            ready = await asyncio.to_thread(self._read)
        except ConfigError as error:
            self._watched |= error.watched
            self._keep(await asyncio.to_thread(self._shown, error))
        except Exception as error:
            self.gateway.log.exception("config.reload_failed")
            self._keep([f"{self.path}: cannot be taken over: {type(error).__name__}"])
        else:
            await self._take(ready, FILE)
            await self._remember(ready.loaded, ready.changed, FILE)
            if self.shared is not None:
                self.shared.look_soon()

    async def _save(
        self, data: bytes, expected: bytes, who: Who, check: Callable[[], object], shared: Shared | None
    ) -> None:
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
            if shared is not None:
                try:
                    await shared.publish(ready.loaded.text, who)
                except BaseException:
                    await self._put_back(expected, data)
                    raise
            await self._take(ready, who)
            await self._remember(ready.loaded, ready.changed, who)

    async def begin_history(self) -> None:
        """Add the gateway's first configuration to the history, unless the newest version there has the same text."""
        await self._remember(self.loaded, (), START)

    async def _remember(self, loaded: Loaded, changed: tuple[str, ...], who: Who) -> None:
        """Add the configuration to the history, unless the newest version has the same text. Failures are logged."""
        if self.history is None:
            return
        try:
            await asyncio.to_thread(self._add_version, self.history, loaded, changed, who)
        except OSError:
            self.gateway.log.exception("config.history_failed")

    def _add_version(self, history: History, loaded: Loaded, changed: tuple[str, ...], who: Who) -> None:
        tag = self.etag(loaded.text.encode())
        if history.last_etag() == tag:
            return
        text = redact(loaded.document, self.key, active_secrets(loaded.config)).text
        history.add(Version(at=time(), who=who.login, etag=tag, changed=changed, text=text))

    async def _put_back(self, old: bytes, new: bytes) -> None:
        """Restore the old content of the configuration's file. If this fails, only log the reason."""
        try:
            await asyncio.to_thread(atomic_file.replace, self.path, old, new)
        except (atomic_file.CannotReplace, OSError):
            self.gateway.log.exception("config.put_back_failed")

    def _read(self) -> _Ready:
        """Load the configuration. Called in a thread, because a large file or a slow disk must not delay calls."""
        before = self.loaded
        registry = self.gateway.registry
        loaded = load(self.path, plugins=registry.known)
        prepared = prepare(self.gateway, self.effective(loaded.config))
        differing = changed_paths(before.document.value, loaded.document.value)
        differing += [path for path in rotated_keys(before.config, loaded.config) if path not in differing]
        hidden = active_secrets(before.config) | active_secrets(loaded.config)
        scrubbed = scrubber({*hidden, *secrets_in(before.document), *secrets_in(loaded.document)})
        warnings = tuple(scrubbed(str(warning)) for warning in loaded.warnings)
        return _Ready(
            loaded,
            prepared,
            warnings,
            changed=tuple(map(scrubbed, differing)),
            etags=(self.etag(before.text.encode()), self.etag(loaded.text.encode())),
        )

    def _shown(self, error: ConfigError, data: bytes | None = None) -> list[str]:
        """Return the findings about the configuration's file, or about the text `data`, with secrets redacted.

        A finding can contain a secret: it names a key's path, and somebody may have written a secret in place of a key.
        """
        hidden = set(active_secrets(self.gateway.runtime.config))
        # the findings about a file that cannot be read or parsed quote nothing of the file
        with suppress(OSError, ValueError):
            hidden |= secrets_in(parse((self.content() if data is None else data).decode()))
        return [*map(scrubber(hidden), map(str, error.findings))]

    def _keep(self, findings: list[str]) -> None:
        self.gateway.config_error = findings[0]
        self.gateway.metrics.config_reloaded(successful=False)
        self.gateway.log.error("config.refused", findings=findings, kept="the last good configuration serves on")

    async def _take(self, ready: _Ready, who: Who) -> None:
        """Put a configuration into use, and free the one that it replaces."""
        old = [(self.loaded, self.gateway.current.runtime)]
        self._use(ready, who)
        await self.used(ready.loaded)
        await asyncio.to_thread(discard, old)

    def _use(self, ready: _Ready, who: Who) -> None:
        gateway, loaded = self.gateway, ready.loaded
        config, is_same_text = ready.prepared.runtime.config, ready.etags[0] == ready.etags[1]
        self.loaded, self.seen, self._watched = loaded, loaded.stamps, loaded.watched
        use(gateway, ready.prepared)
        gateway.config_error = ""
        gateway.metrics.config_reloaded(successful=True)
        for warning in ready.warnings:
            gateway.log.warning("config.warning", finding=warning)
        if keys := fixed_changes(self.started, config):
            gateway.log.warning("config.needs_restart", changed=keys)
        gateway.log.info("config.reloaded", file=str(self.path), providers=list(config.providers))
        if ready.changed or not is_same_text:
            self._note(ready.etags, ready.changed, who)

    def _note(self, etags: tuple[str, str], changed: tuple[str, ...], who: Who) -> None:
        """Record who changed which paths of the configuration, in the store and in the log, without values."""
        before, after = etags
        self.gateway.follower.put(entries.Entry(version=entries.Version(time(), who.login, after, changed)))
        self.gateway.log.info(
            "config.changed",
            who=who.login,
            node=who.node,
            request_id=who.request_id,
            etag_before=before,
            etag_after=after,
            changed=list(changed),
        )


def fixed_changes(started: Config, now: Config) -> list[str]:
    """Return the changed keys among the configuration keys that are read only when the gateway starts."""
    keys = {
        "server.listeners": (started.server.listeners, now.server.listeners),
        "server.drain_seconds": (started.server.drain_seconds, now.server.drain_seconds),
        "server.limits.header_bytes": (started.server.limits.header_bytes, now.server.limits.header_bytes),
        "storage.url": (started.storage.url, now.storage.url),
        "storage.sync": (started.storage.sync, now.storage.sync),
        "metrics.listen": (started.metrics.listener, now.metrics.listener),
    }
    if (former := started.storage.postgres) is not None and (postgres := now.storage.postgres) is not None:
        keys |= {
            "storage.read_url": (former.replica, postgres.replica),
            "storage.password": (former.password, postgres.password),
            "storage.ca_file": (former.authorities, postgres.authorities),
            "storage.shared": (former.sharing, postgres.sharing),
        }
    return [key for key, (before, after) in keys.items() if before != after]


def with_listener(config: Config, listener: Listener | None) -> Config:
    """Return the configuration with `listener` as its only listener, or unchanged if `listener` is None."""
    if listener is None:
        return config
    return replace(config, server=replace(config.server, listeners=(listener,)))
