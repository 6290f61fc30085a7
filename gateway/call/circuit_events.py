"""Log lines and metrics about circuit breakers. `upstream/health/` decides when a circuit opens or closes."""

from __future__ import annotations

from typing import Any

from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.upstream.health.standings import Change


def report_change(change: Change, *, log: Logger, metrics: Metrics) -> None:
    """Log the new state of a circuit, and count it if the circuit opened."""
    where: dict[str, Any] = {"provider": change.provider, "model": change.model or "*"}
    match change.state:
        case "open":
            metrics.circuits.opened(change.provider, change.cause)
            counts = {"calls": change.calls, "failures": change.failures, "seconds": round(change.seconds, 1)}
            log.warning("circuit.opened", **where, cause=change.cause, **counts)
        case "half_open":
            log.info("circuit.half_open", **where)
        case "slow_start":
            log.info("circuit.slow_start", **where)
        case "closed":
            log.info("circuit.closed", **where)
