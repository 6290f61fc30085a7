"""Asks the providers with `"models": "discover"` for their models, and puts changed lists into use.

- A provider is asked at the start, after each reload, and then once an hour. After a failure it is asked again after a
  minute. Meanwhile the last list stays in use.
- A changed list takes effect like a reload: calls in flight keep the models with which they began.
- Failures and changes are logged. A failure does not make the gateway unready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from time import monotonic, time
from typing import Final

from gateway.call.context import Gateway
from gateway.call.runtime import runtime
from gateway.config.model import Provider
from gateway.telemetry.label_names import LabelNames
from gateway.upstream.discovered_models import Difference, DiscoveredModels
from gateway.upstream.health.peers import peers_of
from gateway.upstream.model_search import ModelSearcher, SearchFailed

REFRESH_SECONDS: Final = 3600.0
"""Seconds between two requests for a provider's list of models. Providers add models a few times a month."""
RETRY_SECONDS: Final = 60.0
"""Seconds until a provider is asked for its models again, after a request to this provider has failed."""
AT_ONCE: Final = 4
"""Maximum number of providers that are asked at the same time."""
SHOWN_NAMES: Final = 50
"""Maximum number of added models that a log line names. Removed models have the same limit."""


class ModelRefresh:
    """The task that asks providers for their lists of models, again and again."""

    def __init__(self, gateway: Gateway, searcher: ModelSearcher) -> None:
        self._gateway = gateway
        self._searcher = searcher
        self._due: dict[str, float] = {}
        """Monotonic time in seconds of the next request to each provider."""
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._saving = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def _models(self) -> DiscoveredModels:
        return self._gateway.models

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._models.wake.clear()
            await self._guarded(use_models(self._gateway))
            await asyncio.gather(*(self._guarded(self._ask(provider)) for provider in self._due_now()))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._models.wake.wait()
                self._due.clear()

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Await `work`, and log its exception, so that the requests to other providers continue."""
        try:
            await work
        except Exception:
            self._gateway.log.exception("models.refresh_failed", again_in_seconds=RETRY_SECONDS)

    def _asked(self) -> Sequence[Provider]:
        providers = self._models.written.providers.values()
        return [provider for provider in providers if provider.discovers and not provider.disabled]

    def _due_now(self) -> Sequence[Provider]:
        now = monotonic()
        return [provider for provider in self._asked() if self._due.get(provider.id, now) <= now]

    def _pause(self) -> float | None:
        """Return the number of seconds until the next request for a list of models. Return None if no request is
        planned.
        """
        times = [self._due[provider.id] for provider in self._asked() if provider.id in self._due]
        return max(0.0, min(times) - monotonic()) if times else None

    async def _ask(self, provider: Provider) -> None:
        try:
            async with self._slots:
                names = await self._searcher.models(provider)
        except SearchFailed as error:
            self._note_failure(provider, str(error))
            return
        finally:
            self._due[provider.id] = monotonic() + RETRY_SECONDS
        self._due[provider.id] = monotonic() + REFRESH_SECONDS
        if self._models.written.providers.get(provider.id) != provider:
            return  # a reload has changed the provider, which is asked again
        was_failing = provider.id in self._models.failures
        difference = self._models.note(provider, names, time())
        if difference is not None:
            self._log_change(provider, difference, len(names))
            await use_models(self._gateway)
        elif was_failing:
            self._gateway.log.info("models.listed", provider=provider.id, models=len(names))
        await self._save()

    def _note_failure(self, provider: Provider, reason: str) -> None:
        """Log a failure, unless it is the same as the last one."""
        known = self._models.list_of(provider)
        if self._models.failures.get(provider.id) != reason:
            kept = 0 if known is None else len(known.models)
            self._gateway.log.warning("models.list_failed", provider=provider.id, reason=reason, kept=kept)
        self._models.failures[provider.id] = reason

    def _log_change(self, provider: Provider, difference: Difference, count: int) -> None:
        self._gateway.log.info(
            "models.changed",
            provider=provider.id,
            models=count,
            added=list(difference.added[:SHOWN_NAMES]),
            added_count=len(difference.added),
            removed=list(difference.removed[:SHOWN_NAMES]),
            removed_count=len(difference.removed),
        )

    async def _save(self) -> None:
        try:
            async with self._saving:
                await asyncio.to_thread(self._models.save)
                self._models.saved()
        except OSError as error:
            self._gateway.log.warning("models.not_kept", file=str(self._models.path), reason=error.strerror)


async def use_models(gateway: Gateway) -> None:
    """Put the providers' last lists of models into use. Do nothing if they are in use already.

    A thread prepares the configuration with these models for use by calls. If the configuration is reloaded or a list
    changes meanwhile, the work is done again.
    """
    models = gateway.models
    while True:
        before, written, lists = gateway.runtime, models.written, models.lists
        config = models.applied(written)
        if config is written or config.providers == before.config.providers:
            return
        ready = await asyncio.to_thread(runtime, config, gateway.registry)
        names = await asyncio.to_thread(LabelNames.of, config)
        peers = await asyncio.to_thread(peers_of, config)
        if gateway.runtime is before and models.written is written and models.lists is lists:
            gateway.current.runtime = ready
            gateway.metrics.configured(names)
            gateway.health.configured(config, peers)
            return
