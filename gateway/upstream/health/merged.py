"""Merges what several worker processes know of the health of models, for a process that makes no attempts itself.

Each worker has its own circuit breakers. A model is shown in the worst state that any worker reports. The numbers of
attempts of all workers are added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from gateway.upstream.health.circuit import State
from gateway.upstream.health.circuits import Health
from gateway.upstream.health.peers import Key
from gateway.upstream.health.standings import Standing

BY_SEVERITY: Final[tuple[State, ...]] = ("closed", "slow_start", "half_open", "open")
"""The states of a circuit, the worst one last."""


class MergedHealth(Health):
    """The health of the models, as the workers have last reported it. It is unknown before the first call of `take`."""

    _known: Mapping[Key, Standing] = {}

    def take(self, workers: Iterable[Iterable[Standing]]) -> None:
        """Replace the known health by the standings of all workers. Each worker reports one standing for each model."""
        by_key: dict[Key, list[Standing]] = {}
        for standings in workers:
            for one in standings:
                by_key.setdefault((one.provider, one.model), []).append(one)
        self._known = {key: merged(each) for key, each in by_key.items()}

    def standings(self) -> list[Standing]:
        known = self._known
        return [known.get((own.provider, own.model), own) for own in super().standings()]

    def resting(self) -> tuple[int, int]:
        resting = [one for one in self.standings() if one.state == "open" and one.cause != "throttled"]
        return len(resting), sum(not one.has_other for one in resting)


def merged(standings: Sequence[Standing]) -> Standing:
    """Return the health of one model, merged from the standings that the workers reported for this model."""
    worst = max(standings, key=lambda one: (BY_SEVERITY.index(one.state), one.cause != "throttled", one.retry_in or 0))
    means = [(one.mean_seconds, max(1, one.calls)) for one in standings if one.mean_seconds is not None]
    weight = sum(calls for _, calls in means)
    failures = [one.last_failure for one in standings if one.last_failure is not None]
    return replace(
        worst,
        calls=sum(one.calls for one in standings),
        failures=sum(one.failures for one in standings),
        throttles=sum(one.throttles for one in standings),
        mean_seconds=sum(mean * calls for mean, calls in means) / weight if means else None,
        last_success_at=max(
            (one.last_success_at for one in standings if one.last_success_at is not None), default=None
        ),
        last_failure=max(failures, key=lambda one: one.at, default=None),
    )
