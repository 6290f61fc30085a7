"""Which provider offers which model: an index by model name, and what of it a caller may see.

Built once for each configuration. Names match exactly; `provider/model` is accepted wherever a model is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from gateway.caps import capabilities
from gateway.config.model import Config, Provider
from gateway.flag import Caps
from gateway.grants import Grants
from gateway.identity import Identity


@dataclass(frozen=True, slots=True)
class Offer:
    """One model at one provider."""

    provider: Provider
    model: str
    caps: Caps

    @property
    def provider_id(self) -> str:
        return self.provider.id


class Catalog:
    """The offers of all enabled providers, those of higher preference first and the config's order within."""

    def __init__(self, config: Config) -> None:
        offers = [
            Offer(provider, model, capabilities(model))
            for provider in config.providers.values()
            if not provider.disabled
            for model in provider.models
        ]
        offers.sort(key=lambda offer: -offer.provider.preference)
        self.offers: Sequence[Offer] = offers
        self._by_model: Mapping[str, Sequence[Offer]] = _grouped(offers)
        self._by_both = {(offer.provider_id, offer.model): offer for offer in offers}

    def find(self, name: str) -> Sequence[Offer]:
        """The offers of a model, or the one of `provider/model`; () for a name that is neither."""
        if (found := self._by_model.get(name)) is not None:
            return found
        provider, _, model = name.partition("/")
        offer = self._by_both.get((provider, model))
        return () if offer is None else (offer,)

    def visible(self, grants: Grants, identity: Identity) -> list[Offer]:
        """What a caller may use; nothing without a role."""
        if grants.role(identity) is None:
            return []
        return [offer for offer in self.offers if grants.allows(identity, offer.provider_id, offer.model)]

    def near(self, name: str, grants: Grants, identity: Identity) -> list[str]:
        """Up to three names like this one, among those that the caller may use."""
        names = dict.fromkeys(offer.model for offer in self.visible(grants, identity))
        return get_close_matches(name, names, n=3, cutoff=0.6)


def _grouped(offers: Iterable[Offer]) -> dict[str, list[Offer]]:
    groups: dict[str, list[Offer]] = {}
    for offer in offers:
        groups.setdefault(offer.model, []).append(offer)
    return groups
