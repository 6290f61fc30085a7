"""Metrics of circuit breakers: the state for each model at each provider, and the number of times that a circuit
opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class Standing(Protocol):
    """The state of one circuit breaker. There is one circuit breaker for each model at each provider
    (`upstream/health/circuits.py`).
    """

    @property
    def provider(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def state(self) -> str: ...


class CircuitMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._openings = Counter(
            "irisgate_circuit_openings_total",
            "Times that a model at a provider, or all of its models, began to rest.",
            ("provider", "cause"),
            registry=registry,
        )

    def opened(self, provider: str, cause: str) -> None:
        """Count that a circuit breaker at a provider has opened, by the cause."""
        self._openings.labels(provider, cause).inc()

    def watch(self, standings: Callable[[], Iterable[Standing]], states: Sequence[str]) -> None:
        """Add the metric of the circuit breakers' states. `states` has the names of all possible states.

        At every scrape, the thread of the scrape calls `standings` to get the present states.
        """
        self._registry.register(_States(standings, states))


class _States(Collector):
    """A collector with one series for each state of each model: 1 if the model is in this state, and 0 otherwise."""

    def __init__(self, standings: Callable[[], Iterable[Standing]], states: Sequence[str]) -> None:
        self._standings = standings
        self._states = states

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "irisgate_circuit_state",
            "1 for the state in which the circuit breaker of a model at a provider is, else 0.",
            labels=("provider", "model", "state"),
        )
        for standing in self._standings():
            for state in self._states:
                family.add_metric((standing.provider, standing.model, state), float(standing.state == state))
        yield family
