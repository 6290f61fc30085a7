"""Reports of plugins that fail (a log line and a metric), and of plugins that block the event loop (a log line).

`contract/hooks.py` finds the cause of a failure. Each failure is reported once.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

import msgspec

from gateway.contract.errors import GatewayError, PluginFailed
from gateway.contract.hooks import Hook
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics

QUIET_SECONDS: Final = 60.0
"""Minimum number of seconds between two log lines about the same slow hook."""


class PluginReports(msgspec.Struct, frozen=True):
    metrics: Metrics
    log: Logger
    _logged: dict[tuple[str, str], float] = msgspec.field(default_factory=dict)
    """The time of the last log line about each slow hook. The key is a pair: the name of the plugin, and the name of
    the hook.
    """

    def report(self, error: GatewayError, request_id: str) -> None:
        """Log and count an error if it is the failure of a plugin."""
        if isinstance(error, PluginFailed):
            self.failed(error, request_id)

    def failed(self, failure: PluginFailed, request_id: str) -> None:
        """Log and count a plugin's failure that occurred during a call."""
        self.metrics.plugins.failed(failure.plugin, failure.hook)
        self.log.error(
            "plugin.failed", plugin=failure.plugin, hook=failure.hook, at=failure.place, cause=failure.cause,
            request_id=request_id, traceback=failure.trace,
        )  # fmt: skip

    def slow(self, hook: Hook, seconds: float, place: str) -> None:
        """Log that a hook blocked the event loop, at most once in `QUIET_SECONDS` for each hook.

        `place` is the position of the hook in its source file.
        """
        now, key = monotonic(), (hook.plugin, hook.name)
        if now - self._logged.get(key, -QUIET_SECONDS) < QUIET_SECONDS:
            return
        self._logged[key] = now
        self.log.warning("plugin.slow", plugin=hook.plugin, hook=hook.name, at=place, seconds=round(seconds, 3))
