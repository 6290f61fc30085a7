"""Metrics of the exports of calls. The label `exporter` is a key in the section `exporters` of the configuration."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

_LABELS: Final = ("exporter",)


class ExportMetrics:
    """The metrics of all exporters. An exporter has no series before its first export."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "irisgate_exported_calls_total", "Calls that were exported.", _LABELS, registry=registry
        )  # fmt: skip
        self._failures = Counter(
            "irisgate_export_failures_total", "Attempts to export that failed.", _LABELS, registry=registry
        )
        self._waiting = Gauge(
            "irisgate_export_waiting_calls", "Calls that the last attempt left; 0 after a success.", _LABELS,
            registry=registry,
        )  # fmt: skip
        self._success = Gauge(
            "irisgate_export_last_success_timestamp_seconds", "Unix time of the last export that left no call.",
            _LABELS, registry=registry,
        )  # fmt: skip

    def exported(self, exporter: str, calls: int) -> None:
        """Count the calls in a completely uploaded file. `calls` is the number of calls in the file."""
        self._calls.labels(exporter).inc(calls)

    def succeeded(self, exporter: str) -> None:
        self._failures.labels(exporter)
        self._waiting.labels(exporter).set(0)
        self._success.labels(exporter).set_to_current_time()

    def failed(self, exporter: str, waiting: int) -> None:
        """Count a failed export of calls. `waiting` is the number of calls that have not been exported yet."""
        self._failures.labels(exporter).inc()
        self._waiting.labels(exporter).set(waiting)
