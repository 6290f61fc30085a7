"""The plan of calls: decisions that are made once for all calls of one caller for one model name.

A plan holds what depends only on the configuration, the caller's access, the client's API format, the operation and the
model's name. These are the granted offers (models of providers), the conversion for each of them, the headers to add,
and the buckets to charge. What depends on the body, on balances, on a session or on the health of a provider is decided
for each call, by the steps of the chain.

`Runtime` caches the plans of its configuration. A reload makes a new `Runtime`, which has no plans yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Final

from gateway.access.grants import Access
from gateway.call.candidate import Candidate
from gateway.call.charged_buckets import ChargedBuckets
from gateway.call.conversion_choice import Asked, Conversions
from gateway.contract.errors import NOT_FOUND, PERMISSION, Problem, Refused
from gateway.upstream.catalog import Catalog, Offer

MAX_PLANS: Final = 1024
"""Maximum number of plans that are cached for a configuration. Each takes a few hundred bytes."""
NO_ROLE: Final = Problem(PERMISSION, "access denied: no role granted")


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions for all calls of one caller, in one API format, with one operation and one model name."""

    offers: Sequence[Offer]
    """The granted offers (models of providers). Those of providers with a higher preference come first. There is at
    least one.
    """
    candidates: Sequence[Candidate]
    """The offers (models of providers) that can serve the client's format, in the order of `offers`, each with its
    conversion.
    """
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """Maps the name of each offer (model of a provider) to the headers that the gateway adds to every request for this
    offer. The headers' names are in lower case.

    The headers come from the caller's grants and from the provider's configuration, which takes precedence.
    """
    buckets: ChargedBuckets = field(default_factory=ChargedBuckets)

    def candidates_of(self, offers: Sequence[Offer]) -> Sequence[Candidate]:
        """Return the candidates of this plan for `offers`, in the order of `offers`. A candidate is an offer with its
        conversion.

        `offers` are offers of this plan. An offer without a candidate is left out.
        """
        if offers is self.offers:
            return self.candidates
        by_name = {candidate.offer.name: candidate for candidate in self.candidates}
        return [candidate for offer in offers if (candidate := by_name.get(offer.name)) is not None]


Plans = Callable[[Access, str, str, str, str], Plan]
"""A function that returns the plan of a call (`Plan`). Its arguments are the caller's access, and four fields of the
request: `flag`, `dialect`, `operation` and `model`.

Raises `Refused` if the caller has no role, `NotGranted` if the caller may not use a model of this name, and
`PluginFailed` if a plugin fails.
"""


def plans(catalog: Catalog, conversions: Conversions) -> Plans:
    """Return the plans of a configuration. Each plan is made when it is first asked for, and then cached."""
    return lru_cache(MAX_PLANS)(partial(_plan, catalog, conversions))


def _plan(
    catalog: Catalog, conversions: Conversions, access: Access, flag: str, dialect: str, operation: str, name: str
) -> Plan:
    offers = granted_offers(catalog, access, name)
    asked = Asked(flag, dialect, operation)
    best = (conversions.best(asked, offer) for offer in offers)
    headers = {offer.name: added_headers(access, offer) for offer in offers}
    return Plan(offers, [candidate for candidate in best if candidate is not None], headers)


def added_headers(access: Access, offer: Offer) -> Mapping[str, str]:
    """Return the headers that the gateway adds to all requests of a caller for an offer, a model of a provider
    (`Plan.headers`).
    """
    pairs = (*access.headers(offer.provider_id, offer.model), *offer.provider.add_headers)
    return {name.lower(): value for name, value in pairs}


class NotGranted(Exception):
    """The exception for a model name that the caller may not use. The model may exist or not."""


def not_granted(catalog: Catalog, access: Access, name: str) -> Refused:
    """Return the error for a caller who may not use a model of this name. The message suggests similar names of models
    that the caller may use. It does not tell whether the model exists.

    Run this in a thread, because the search for similar names takes milliseconds if there are thousands of models.
    """
    near = catalog.near(name, access)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return Refused(Problem(NOT_FOUND, f'model "{name}" not found or not granted{hint}', param="model"))


def granted_offers(catalog: Catalog, access: Access, name: str) -> Sequence[Offer]:
    """Return the offers (models of providers) that a model's name or an alias stands for, and that the caller may use.

    Raises `Refused` if the caller has no role, and `NotGranted` if no offer is granted.
    """
    if access.role is None:
        raise Refused(NO_ROLE)
    alias = catalog.aliases.get(name)
    meant = catalog.find(name) if alias is None else alias.offers
    granted = [offer for offer in meant if access.allows(offer.provider_id, offer.model)]
    if not granted:
        raise NotGranted
    if alias is not None:
        return granted
    # a name may mean two models (`Catalog.find`): the first granted model is used, whether or not the other exists
    return [offer for offer in granted if offer.model == granted[0].model]
