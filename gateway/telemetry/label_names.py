"""The names that metrics may use as label values: those in the configuration.

Any other name gets the label `other`, so that clients cannot create new time series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self


class HasModels(Protocol):
    @property
    def models(self) -> tuple[str, ...]: ...


class HasUsers(Protocol):
    @property
    def users(self) -> int: ...


class Bounds(Protocol):
    """The part of a configuration that limits the label values: the providers with their models, and the maximum number
    of users.
    """

    @property
    def providers(self) -> Mapping[str, HasModels]: ...

    @property
    def metrics(self) -> HasUsers: ...


@dataclass(frozen=True, slots=True)
class LabelNames:
    max_users: int
    """Maximum number of callers that have a label of their own."""
    models: frozenset[tuple[str, str]]
    """Each model in the configuration, as a pair of the provider and the model."""
    any_model: frozenset[str]
    """Names of models that at least one provider has."""

    @classmethod
    def of(cls, config: Bounds) -> Self:
        """Return the label values that a configuration allows. For 10,000 models, this takes some milliseconds."""
        models = [(name, model) for name, provider in config.providers.items() for model in provider.models]
        return cls(config.metrics.users, frozenset(models), frozenset(model for _, model in models))
