"""Reads `metrics`: how many callers are labels, and the listener of the metrics' own."""

from __future__ import annotations

from typing import Any

from gateway.config.model import MetricsSettings
from gateway.config.reading import Reading
from gateway.config.sections.listen import loopback_listener
from gateway.config.sections.metrics_model import MetricsSection


def read_metrics(raw: Any, reading: Reading) -> MetricsSettings:
    section = reading.section(MetricsSection, raw, ("metrics",))
    if section is None:
        return MetricsSettings()
    return MetricsSettings(section.users, loopback_listener(section.listen) if section.listen else None)
