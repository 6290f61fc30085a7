"""One configuration, made ready: what calls read. Replaced as a whole by a reload, never changed."""

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


def runtime(config: Config) -> Runtime:
    prices = Prices.load(config.prices, infer=config.auto_cost_basis)
    return Runtime(config, Grants(config.grants, config.providers), Catalog(config), prices)
