"""The offers of all providers, and the selection of the offers that a caller may use.

An offer is one model at one provider. Offers are found by the model's name, which must match exactly. An alias takes
precedence over a model of the same name. `provider/model` is accepted wherever a model is named. The catalog is built
once for each configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Final

import msgspec

from gateway.access.grants import Access
from gateway.config.model import Alias, Config, Provider, Strategy
from gateway.contract.capabilities import capabilities, fits, listed_name
from gateway.contract.flag import Caps
from gateway.upstream.near_names import near_names

LISTS: Final = 256
"""Maximum number of different `Access` objects (rights of callers) for which the usable offers are cached."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One model at one provider."""

    provider: Provider
    model: str
    caps: Caps
    base: str
    """Name of the underlying model: the entry of `model` in the provider's `base_models`, or `model` itself if there is
    no entry.
    """
    provider_id: str = field(init=False, repr=False, compare=False)
    name: str = field(init=False, repr=False, compare=False)
    """The name `provider/model`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "provider_id", self.provider.id)
        object.__setattr__(self, "name", f"{self.provider.id}/{self.model}")


class Aliased(msgspec.Struct, frozen=True):
    """An alias of the configuration, with only those targets that enabled providers offer."""

    strategy: Strategy
    offers: Sequence[Offer]


class Catalog:
    """The offers of all enabled providers. An offer is one model at one provider.

    The offers of providers with a higher `preference` come first. Offers with the same preference have the order of the
    configuration.
    """

    def __init__(self, config: Config) -> None:
        offers = [_offer(provider, model) for provider in config.providers.values() for model in _models(provider)]
        offers.sort(key=lambda offer: -offer.provider.preference)
        self.offers: Sequence[Offer] = offers
        self._by_model: Mapping[str, Sequence[Offer]] = _grouped(offers)
        self._by_both = {(offer.provider_id, offer.model): offer for offer in offers}
        self.aliases: Mapping[str, Aliased] = {name: self._aliased(alias) for name, alias in config.aliases.items()}
        # not a bound method: a catalog in no cycle of references is freed as soon as no call uses it
        self._visible = lru_cache(LISTS)(partial(_visible, offers, self._by_both))

    def find(self, name: str) -> Sequence[Offer]:
        """Return the offers of the model called `name`. The name may also be the ARN of an inference profile in the
        gateway's list.

        If `name` has the form `provider/model`, the offer of this model at this provider is added at the end. Such a
        name may also be a model's own name: a reseller may have a model `anthropic/claude-x`, while a provider
        `anthropic` has a model `claude-x`. The caller's grants decide which of the offers are used (`call/plan.py`).
        """
        offers = self._by_model.get(name) or self._by_model.get(listed_name(name), ())
        provider, _, model = name.partition("/")
        offer = self._by_both.get((provider, model))
        return offers if offer is None else (*offers, offer)

    def at_provider(self, provider: Provider, model: str) -> Offer:
        """Return the offer of a model at a provider.

        If the provider does not list the model, the offer has the model "". Otherwise clients could create any number
        of offers.
        """
        return self._by_both.get((provider.id, model)) or _offer(provider, "")

    def visible(self, access: Access) -> Sequence[Offer]:
        """Return the offers that a caller may use."""
        return self._visible(access)

    def visible_aliases(self, access: Access) -> dict[str, list[Offer]]:
        """Return, for each alias, its offers (models of providers) that the caller may use.

        An alias without such an offer is left out.
        """
        if not self.aliases:
            return {}
        granted = {offer.name for offer in self.visible(access)}
        return {
            name: mine
            for name, alias in self.aliases.items()
            if (mine := [offer for offer in alias.offers if offer.name in granted])
        }

    def near(self, name: str, access: Access) -> list[str]:
        """Return up to three names that are similar to `name`, among the models and aliases that the caller may use."""
        names = dict.fromkeys(offer.model for offer in self.visible(access))
        names |= dict.fromkeys(self.visible_aliases(access))
        return near_names(name, names)

    def _aliased(self, alias: Alias) -> Aliased:
        return Aliased(alias.strategy, [self._by_both[target] for target in alias.targets if target in self._by_both])


def _visible(offers: Sequence[Offer], by_both: Iterable[tuple[str, str]], access: Access) -> Sequence[Offer]:
    granted = access.select(by_both)
    return [offer for offer in offers if (offer.provider_id, offer.model) in granted]


def _models(provider: Provider) -> Sequence[str]:
    return () if provider.disabled else provider.models


def _offer(provider: Provider, model: str) -> Offer:
    base = provider.base_models.get(model, model)
    overrides: dict[str, Any] = {}
    for pattern, fields in provider.capabilities:
        if fits(pattern, model, base):
            overrides |= fields
    return Offer(provider, model, capabilities(base, overrides), base)


def _grouped(offers: Iterable[Offer]) -> dict[str, list[Offer]]:
    groups: dict[str, list[Offer]] = {}
    for offer in offers:
        groups.setdefault(offer.model, []).append(offer)
    return groups
