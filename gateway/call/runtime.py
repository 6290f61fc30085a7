"""The objects that calls need and that are computed from one configuration. A reload replaces them all at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.access.grants import Grants
from gateway.call.conversion_choice import NO_CONVERSIONS, Conversions
from gateway.call.encoded_lists import EncodedLists
from gateway.call.filters import ActiveFilter, active_filters
from gateway.call.plan import Plans, plans
from gateway.config.model import Config
from gateway.contract.registry import Registry
from gateway.money.prices.table import Prices
from gateway.upstream.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Runtime:
    config: Config
    grants: Grants
    catalog: Catalog
    prices: Prices
    plans: Plans
    """A function that returns the plan of a call: the decisions that hold for all calls of one caller for one model
    name.
    """
    filters: tuple[ActiveFilter, ...] = ()
    """The filters that the configuration has switched on, in the order of the configuration."""
    lists: EncodedLists = field(default_factory=EncodedLists, compare=False)


@dataclass(slots=True)
class Current:
    """Holds the current `Runtime`, which new calls use and a reload replaces."""

    runtime: Runtime

    def call_retention(self) -> float | None:
        """Return the seconds for which the store keeps calls, or None if it keeps them for ever."""
        return self.runtime.config.storage.retention

    def body_retention(self) -> float | None:
        """Return the seconds for which the store keeps bodies of calls, or None if it keeps them for ever."""
        return self.runtime.config.bodies.retention


def runtime(config: Config, registry: Registry | None = None) -> Runtime:
    """Return the runtime of a configuration: its grants, its catalog of models, its prices and its filters.

    `registry` has the plugins. It may be None if no calls are served. Then there are no filters and no conversions.
    """
    prices = Prices.load(config.prices, infer=config.auto_cost_basis)
    filters = () if registry is None else active_filters(config.plugins, registry.filters)
    conversions = NO_CONVERSIONS if registry is None else Conversions(registry)
    catalog = Catalog(config)
    made = plans(catalog, conversions)
    return Runtime(config, Grants(config.grants, config.providers), catalog, prices, made, filters)
