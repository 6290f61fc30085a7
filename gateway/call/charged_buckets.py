"""Finds the buckets to which a call is charged, for each offer (model of a provider).

The buckets come from the caller's grants. Quotas are buckets of money. Rate limits are buckets of requests or tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gateway.access.grants import Access
from gateway.access.identity.caller import Identity
from gateway.contract.errors import QUOTA, Problem, Refused
from gateway.money.quotas.bucket_chains import MAX_RETRY_AFTER
from gateway.money.quotas.buckets import Bucket, Rule
from gateway.money.quotas.definitions import bucket_of
from gateway.money.quotas.settlements import BucketChain
from gateway.upstream.catalog import Offer

BucketRules = Mapping[BucketChain, Sequence[Rule]]
"""The chains of buckets to which a call is charged, each with the rules (capacity and refill) of its buckets."""


class OfferBuckets(msgspec.Struct, frozen=True):
    """The buckets (of quotas and rate limits) to which a call is charged if a certain offer (model of a provider)
    serves it.
    """

    rules: BucketRules
    unpriced: Refused | None
    """The error with which calls to this offer (model of a provider) are refused, because its price is unknown and a
    quota must be charged. None if there is no such reason.
    """


class ChargedBuckets:
    """A cache of the buckets to which one caller's calls are charged. The key is the name of an offer (a model of a
    provider).

    The cache is emptied when the configuration of the quotas changes.
    """

    def __init__(self) -> None:
        self._kept: tuple[Mapping[str, Rule], dict[str, OfferBuckets]] = ({}, {})
        """The rules of the defined quotas, and the cached results for these rules."""

    def get(self, offer: str, defined: Mapping[str, Rule]) -> OfferBuckets | None:
        """Return the cached buckets to which calls to an offer (model of a provider) are charged, or None.

        `defined` has the present rules of all quotas. The result is None if the cache was filled with other rules.
        """
        rules, kept = self._kept
        return kept.get(offer) if rules is defined else None

    def put(self, offer: str, defined: Mapping[str, Rule], buckets: OfferBuckets) -> None:
        """Cache the buckets to which calls to an offer (model of a provider) are charged.

        `defined` has the present rules of all quotas. If it is a new object, the rules have changed, and the cache is
        emptied first.
        """
        rules, kept = self._kept
        if rules is not defined:
            kept = {}
            self._kept = defined, kept
        kept[offer] = buckets


def bucket_rules(
    identity: Identity, access: Access, offer: Offer, defined: Mapping[str, Rule], *, billed: bool, counted: bool
) -> BucketRules:
    """Return the chains of buckets to which a caller's calls are charged if `offer` (a model of a provider) serves
    them.

    `defined` are the rules of all quotas. `billed` is False for an operation that costs nothing: it is charged to no
    quota. `counted` is False for an operation whose tokens do not count: it is charged to no rate limit of tokens.
    Raises `Refused` if a grant names a quota that is not defined.
    """
    rules: dict[BucketChain, Sequence[Rule]] = {
        (limit.bucket(identity.login, offer.model, patterns),): (limit.rule,)
        for limit, patterns in access.rate_limits(offer.provider_id, offer.model)
        if counted or limit.kind == "requests"
    }
    for chain in access.quotas(offer.provider_id, offer.model) if billed else ():
        buckets = tuple(Bucket("money", bucket_of(name, identity.login, identity.node)) for name in chain)
        rules[buckets] = [_rule(name, defined) for name in chain]
    return rules


def _rule(name: str, defined: Mapping[str, Rule]) -> Rule:
    if name not in defined:
        raise unusable(f'quota "{name}" is granted and not defined; define it in "quotas"')
    return defined[name]


def unpriced(offer: Offer, rules: BucketRules, *, by_model: bool) -> Refused | None:
    """Return the error for a call whose cost is unknown and that must be charged to a quota. Return None if the call is
    allowed.

    `rules` are the chains of the call to `offer` (a model of a provider). The call is allowed if each chain of quotas
    includes a quota with `"on_exceed": "notify"`. `by_model` tells why the cost is unknown: True if the price of the
    model is unknown, False if the price of the operation is.
    """
    for chain, links in rules.items():
        if chain[0].kind == "money" and not any(rule.notify for rule in links):
            if not by_model:
                return unusable(
                    f'what this request to "{offer.provider_id}" costs is not known, so quota "{chain[0].name}" cannot '
                    'be charged for it; it could be if its "on_exceed" were "notify"'
                )
            return unusable(
                f'the price of model "{offer.model}" is not known, so quota "{chain[0].name}" cannot be charged for '
                f'it; set "cost_basis" of provider "{offer.provider_id}" to a price list that has it'
            )
    return None


def unusable(message: str) -> Refused:
    """Return the error for calls that are refused because a quota cannot be charged."""
    return Refused(Problem(QUOTA, message, retry_after=MAX_RETRY_AFTER))
