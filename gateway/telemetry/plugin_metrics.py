"""Metrics of plugins' hooks: failures, calls and running times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

_LABELS = ("plugin", "hook")


class Timed(Protocol):
    """A hook (function of a plugin), with the number and the total time of its calls (`contract/hooks.py`)."""

    plugin: str
    name: str
    calls: int
    seconds: float


class PluginMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._failures = Counter(
            "irisgate_plugin_failures_total",
            "Failures of plugins: exceptions, results of a wrong type, and calls that took too long.",
            _LABELS,
            registry=registry,
        )

    def failed(self, plugin: str, hook: str) -> None:
        """Count a failure of a plugin."""
        self._failures.labels(plugin, hook).inc()

    def watch(self, hooks: Iterable[Timed]) -> None:
        """Add metrics with the number of calls and the running time of each hook."""
        self._registry.register(_Hooks(tuple(hooks)))


class _Hooks(Collector):
    """A collector that reads the counters of hooks at every scrape. A hook without calls has no series."""

    def __init__(self, hooks: Sequence[Timed]) -> None:
        self._hooks = hooks

    def collect(self) -> Iterable[CounterMetricFamily]:
        calls = CounterMetricFamily(
            "irisgate_plugin_calls", "Calls of plugins' hooks; one for the events of one read.", labels=_LABELS
        )
        seconds = CounterMetricFamily(
            "irisgate_plugin_seconds", "Seconds for which plugins' hooks held their thread.", labels=_LABELS
        )
        for hook in self._hooks:
            if hook.calls:
                calls.add_metric((hook.plugin, hook.name), hook.calls)
                seconds.add_metric((hook.plugin, hook.name), hook.seconds)
        yield from (calls, seconds)
