"""A configuration made ready for calls. A reload replaces it as a whole; it is never changed."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.access.grants import Grants
from gateway.config.model import Config
from gateway.money.prices.table import Prices
from gateway.upstream.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Runtime:
    config: Config
    grants: Grants
    catalog: Catalog
    prices: Prices


@dataclass(slots=True)
class Current:
    """The configuration that new calls get."""

    runtime: Runtime

    def call_retention(self) -> float | None:
        """Return the seconds for which rows of calls are kept; None keeps them."""
        return self.runtime.config.storage.retention

    def body_retention(self) -> float | None:
        """Return the seconds for which bodies are kept; None keeps them."""
        return self.runtime.config.bodies.retention


def runtime(config: Config) -> Runtime:
    """Return a configuration made ready for calls."""
    prices = Prices.load(config.prices, infer=config.auto_cost_basis)
    return Runtime(config, Grants(config.grants, config.providers), Catalog(config), prices)
