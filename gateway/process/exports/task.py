"""Exports calls while the gateway serves, one task for each exporter of the configuration.

- A task looks at the configuration once a second, so a reload takes effect.
- After a failure, the export is tried again with growing pauses. Calls and readiness are not affected.
- A failure is logged unless the attempt before it failed for the same reason. The first success after failures is
  logged too. Metrics show failures and the number of waiting calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

from gateway.call.context import Gateway
from gateway.config.exporters import Exporter
from gateway.process.exports.export import Export, ExportFailed, Target
from gateway.process.exports.targets import target_of
from gateway.store.base import StoreFailed

LOOK_SECONDS: Final = 1.0
"""Seconds between two checks of the configuration and of the time of the next export."""
RETRY_SECONDS: Final = (1.0, 5.0, 30.0, 60.0, 300.0)
"""Seconds until the next attempt after one, two, three, ... failures in a row. The last number applies to all further
failures.
"""


class ExportTask:
    """The exports of a running gateway. `make` returns the destination of an exporter."""

    def __init__(self, gateway: Gateway, make: Callable[[Exporter], Target] = target_of) -> None:
        self._gateway = gateway
        self._make = make
        self._running: dict[Exporter, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End all exports. An unfinished object is written again after the next start."""
        tasks = [task for task in (self._task, *self._running.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        """Run the exporters of the configuration in use, until another process takes over."""
        while True:
            wanted = () if self._gateway.is_leaving else self._gateway.runtime.config.exporters
            for exporter in [each for each in self._running if each not in wanted]:
                self._running.pop(exporter).cancel()
            for exporter in wanted:
                if exporter not in self._running:
                    self._running[exporter] = asyncio.create_task(self._run(exporter))
            await asyncio.sleep(LOOK_SECONDS)

    async def _run(self, exporter: Exporter) -> None:
        gateway, target = self._gateway, self._make(exporter)
        export = Export(exporter, gateway.store.exports, target, partial(gateway.bodies.read, identity=None))
        try:
            failures, reason = 0, ""
            while True:
                started = monotonic()
                before, reason = reason, await self._attempt(exporter, export)
                if reason and reason != before:
                    gateway.log.error("export.failed", exporter=exporter.id, to=exporter.destination, reason=reason)
                if before and not reason:
                    gateway.log.info("export.recovered", exporter=exporter.id, failures=failures)
                failures = failures + 1 if reason else 0
                pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1] if failures else exporter.every
                await asyncio.sleep(max(0.0, started + pause - monotonic()))
        finally:
            export.end()
            await target.close()

    async def _attempt(self, exporter: Exporter, export: Export) -> str:
        """Export all calls that are in the store now. Return the reason of a failure, or "" after a success."""
        metrics = self._gateway.metrics.exports
        try:
            await export.all(partial(metrics.exported, exporter.id))
        except Exception as error:  # noqa: BLE001 (whatever it is, the export must be tried again)
            metrics.failed(exporter.id, export.waiting)
            return str(error) if isinstance(error, ExportFailed | StoreFailed) else repr(error)
        metrics.succeeded(exporter.id)
        return ""
