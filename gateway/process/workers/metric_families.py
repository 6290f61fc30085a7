"""The metrics of one process as values, and the sums of the metrics of several processes.

- Counters, histograms and summaries are added up. The counters of a worker that has ended stay in the sum, so that the
  sum never falls while the keeper (the workers' parent process) runs.
- For each gauge, `_RULES` has a rule. The result is a sum, the greatest or least value, the keeper's own value, or the
  worst state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Final, Literal

import msgspec
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.upstream.health.circuit import State
from gateway.upstream.health.merged import BY_SEVERITY

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]
"""The name of a sample, with its labels."""


class Family(msgspec.Struct, frozen=True, array_like=True):
    """A metric with all its series."""

    name: str
    kind: str
    text: str
    samples: tuple[tuple[str, Labels, float], ...]


Families = Sequence[Family]

Rule = Literal["sum", "max", "min", "keeper", "workers", "worst"]
"""The way in which the values of several processes become one.

- "sum", "max" and "min": the sum, the greatest or the least value of all processes.
- "keeper": the value of the keeper (the parent process of the workers).
- "workers": the sum over the workers, without the keeper. For example, the keeper's connections come from its workers.
- "worst": the worst state that any worker reports. Such a metric has a series for each possible state, and the series
  of the present state has the value 1.
"""

_RULES: Final[Mapping[str, Rule]] = {
    "irisgate_buffered_bytes": "sum",
    "irisgate_build": "max",
    "irisgate_calls_in_flight": "sum",
    "irisgate_check_failing": "keeper",
    "irisgate_circuit_state": "worst",
    "irisgate_config_last_reload_successful": "min",
    "irisgate_config_last_reload_timestamp_seconds": "keeper",
    "irisgate_config_reloads": "keeper",
    "irisgate_connections": "workers",
    "irisgate_discovered_models": "keeper",
    "irisgate_discovery_failing": "keeper",
    "irisgate_export_last_success_timestamp_seconds": "keeper",
    "irisgate_export_waiting_calls": "keeper",
    "irisgate_journal_full": "max",
    "irisgate_journal_lag_bytes": "sum",
    "irisgate_journal_waiting_bytes": "sum",
    "irisgate_open_streams": "sum",
    "irisgate_provider_calls_in_flight": "sum",
    "irisgate_quota_used_ratio": "keeper",
    "irisgate_ready": "keeper",
    "irisgate_retry_budget_used_ratio": "max",
    "irisgate_sessions_active": "keeper",
    "irisgate_store_failing": "max",
    # the process that has used most of its descriptors: the two gauges are of use as a quotient only
    "process_max_fds": "min",
    "process_open_fds": "max",
    "process_resident_memory_bytes": "sum",
    "process_start_time_seconds": "keeper",
    "process_virtual_memory_bytes": "sum",
}
"""The rule of each metric that is not simply added up: all gauges, and a few counters."""
_COUNTING: Final = frozenset({"counter", "histogram", "summary"})
_JOINED: Final[Mapping[Rule, Callable[[float, float], float]]] = {"max": max, "min": min, "worst": max}


def families(collector: Collector) -> list[Family]:
    """Return the present metrics of a process. This takes 30 ms for 7000 series, so call it in a thread.

    JSON has no infinite numbers, so series with such values are left out.
    """
    return [
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            tuple((one.name, tuple(one.labels.items()), one.value) for one in metric.samples if isfinite(one.value)),
        )
        for metric in collector.collect()
    ]


def counts(given: Families) -> list[Family]:
    """Return the counters, histograms and summaries that are added up over all processes, including those that have
    ended.
    """
    return [family for family in given if _rule(family) == "sum" and family.kind in _COUNTING]


def added(parts: Iterable[Families]) -> list[Family]:
    """Return one family for each metric name in `parts`. Series with the same name and labels become one, with the sum
    of their values.
    """
    return [_joined(of_one) for of_one in _by_name(parts).values()]


def merged(keeper: Families, workers: Sequence[Families], ended: Families = ()) -> list[Family]:
    """Return one family for each metric of the workers and their parent process (the keeper).

    `ended` has the counters of workers that have ended or have not answered, added up.
    """
    names = {family.name: family for family in keeper}
    of_workers = _by_name([*workers, ended])
    result = []
    for name in {**names, **of_workers}:
        own, others = [names[name]] if name in names else [], of_workers.get(name, [])
        rule = _rule((own or others)[0])
        chosen = own if rule == "keeper" else others or own if rule in {"workers", "worst"} else [*own, *others]
        if chosen:
            result.append(_joined(chosen))
    return result


def as_metrics(given: Families) -> Iterable[Metric]:
    """Yield each family as a `Metric` of prometheus_client."""
    for family in given:
        metric = Metric(family.name, family.text, family.kind)
        for name, labels, value in family.samples:
            metric.add_sample(name, dict(labels), value)
        yield metric


def _rule(family: Family) -> Rule:
    return _RULES.get(family.name, "sum")


def _by_name(parts: Iterable[Families]) -> dict[str, list[Family]]:
    by_name: dict[str, list[Family]] = {}
    for part in parts:
        for family in part:
            by_name.setdefault(family.name, []).append(family)
    return by_name


def _joined(of_one: Sequence[Family]) -> Family:
    """Return one family for the families of several processes, which all have the same name.

    The values of series with the same name and labels are joined as `Rule` says.
    """
    first = of_one[0]
    if len(of_one) == 1:
        return first
    rule = _rule(first)
    join = _JOINED.get(rule)
    values: dict[Key, float] = {}
    for family in of_one:
        for name, labels, value in family.samples:
            key = name, labels
            if key not in values:
                values[key] = value
            else:
                values[key] = values[key] + value if join is None else join(values[key], value)
    if rule == "worst":
        values = _worst(values)
    return msgspec.structs.replace(first, samples=tuple((*key, value) for key, value in values.items()))


def _worst(values: Mapping[Key, float]) -> dict[Key, float]:
    """Return 1 for the worst reported state in each group of series, and 0 for the other states in the group.

    The series of a group differ only in the label `state`. For example, the series of one model at one provider are a
    group.
    """
    worst: dict[Labels, State] = {}
    for (_, labels), value in values.items():
        thing, state = _thing(labels)
        if value and (thing not in worst or BY_SEVERITY.index(state) > BY_SEVERITY.index(worst[thing])):
            worst[thing] = state
    return {key: float(worst.get(_thing(key[1])[0]) == _thing(key[1])[1]) for key in values}


def _thing(labels: Labels) -> tuple[Labels, State]:
    """Split labels into the labels other than `state`, and the value of the label `state`."""
    named = dict(labels)
    state = next(one for one in BY_SEVERITY if one == named["state"])
    return tuple(pair for pair in labels if pair[0] != "state"), state
