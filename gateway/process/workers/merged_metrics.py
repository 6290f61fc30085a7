"""The metrics of all workers and of their parent process (the keeper), in one text for Prometheus.

- The keeper asks the workers at every scrape. If a worker does not answer in time, its gauges are left out. Its
  counters keep the values of its last answer, because a counter that falls and rises again looks like a restart.
- If a worker ends, the sums still include its counters, with the values of its last answer.
- Some metrics also have a series for each process. The label `worker` of a series is the number of the worker's slot,
  or `keeper`.

`metric_families.py` has the rules by which the values of several processes become one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.process.workers.metric_families import Families, Family, added, as_metrics, counts, families, merged

KEEPER: Final = "keeper"
_EACH: Final[Mapping[str, tuple[str, str, str]]] = {
    "irisgate_connections": ("irisgate_worker_connections", "gauge", "Connections of clients, by process."),
    "irisgate_calls_in_flight": ("irisgate_worker_calls_in_flight", "gauge", "Calls in flight, by process."),
    "process_cpu_seconds": ("irisgate_worker_cpu_seconds", "counter", "Processor time in seconds, by process."),
    "process_resident_memory_bytes": (
        "irisgate_worker_resident_memory_bytes", "gauge", "Resident memory in bytes, by process.",
    ),
}  # fmt: skip
"""Metrics that are also shown separately for each process, with the label `worker`.

The key is the name of a metric in one process. The value is the name, type and help text of the metric for all
processes.
"""


class MergedMetrics:
    """Merges the metrics of the workers and of this process, the keeper. `own` is the registry of this process."""

    def __init__(self, own: CollectorRegistry) -> None:
        self._own = own
        self._slots: dict[str, int] = {}
        """The slots of the running workers, by the names of their spools. Each worker has a spool of its own."""
        self._last: dict[str, Families] = {}
        """The last answers of the running workers, by the names of their spools."""
        self._ended: Families = ()
        """The sums of the counters of workers that have ended."""
        self._alive = Gauge("irisgate_workers", "Worker processes that are alive.", registry=own)
        self._ends = Counter(
            "irisgate_worker_ends_total", "Worker processes that ended by themselves and were replaced.", registry=own
        )
        self._silent = Counter(
            "irisgate_worker_silent_total",
            "Questions of the keeper that a worker did not answer in time.",
            registry=own,
        )

    def begun(self, spool: str, slot: int) -> None:
        """Record that a worker has started. `spool` is the name of its journal, and `slot` the number of its slot."""
        self._slots[spool] = slot
        self._alive.set(len(self._slots))

    def ended(self, spool: str, last: Families = (), *, crashed: bool = False) -> None:
        """Add the counters of a worker that has ended to the sums of all ended workers.

        `last` are the metrics that the worker sent when it ended, or () if it sent none. `crashed` is true if the
        worker was not told to end.
        """
        del self._slots[spool]
        known = self._last.pop(spool, ())
        self._ended = added([self._ended, counts(last or known)])
        self._alive.set(len(self._slots))
        if crashed:
            self._ends.inc()

    def silent(self, count: int) -> None:
        """Add `count` to the number of questions that a worker did not answer in time."""
        self._silent.inc(count)

    async def render(self, answers: Mapping[str, Families]) -> bytes:
        """Return the metrics of all processes in Prometheus's text format.

        `answers` has the metrics of the workers that have answered. The key is the name of a worker's spool (journal).
        An answer of a worker that has ended meanwhile is left out.
        """
        present = {spool: given for spool, given in answers.items() if spool in self._slots}
        self._last |= present
        missing = [counts(last) for spool, last in self._last.items() if spool not in present]
        parts = {str(self._slots[spool]): given for spool, given in present.items()}
        return await asyncio.to_thread(self._rendered, parts, added([self._ended, *missing]))

    def _rendered(self, workers: Mapping[str, Families], ended: Families) -> bytes:
        own = families(self._own)
        every = [*merged(own, [*workers.values()], ended), *_each({**workers, KEEPER: own})]
        return generate_latest(_Given(every))


class _Given(Collector):
    """A collector (prometheus_client) that returns the metrics `given` to it."""

    def __init__(self, given: Families) -> None:
        self._given = given

    def collect(self) -> Iterable[Metric]:
        return as_metrics(self._given)


def _each(parts: Mapping[str, Families]) -> list[Family]:
    """Return the metrics that are shown separately for each process (`_EACH`), with the label `worker`.

    `parts` maps each value of this label to the metrics of its process.
    """
    result = []
    for source, (name, kind, text) in _EACH.items():
        sample = f"{name}_total" if kind == "counter" else name
        values = [
            (sample, (("worker", worker),), value)
            for worker, part in parts.items()
            for family in part
            if family.name == source
            for _, _, value in family.samples
        ]
        result.append(Family(name, kind, text, tuple(values)))
    return result
