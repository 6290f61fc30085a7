"""The amounts that a call is charged, and the chains of buckets that pay them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.money.quotas.buckets import Bucket, Kind

BucketChain = tuple[Bucket, ...]
"""Buckets that are charged in order: what a bucket cannot pay, the next one pays. Most chains have one bucket."""

ChainTerms = tuple[tuple[tuple[Kind, str, str], ...], ...]
"""Chains of buckets in the form in which the journal stores them. Each bucket is a triple: kind, name and rule
(`Rule.terms`).
"""
MoneyTerms = tuple[tuple[tuple[str, str], ...], ...]
"""Chains of money buckets in the form in which they are stored. Each bucket is a pair: name and rule (`Rule.terms`)."""


class Settlement(msgspec.Struct, frozen=True):
    """The amounts to charge for a call."""

    requests: int = 0
    tokens: int = 0
    money: int = 0
    """Cost of the call in nanodollars."""
    estimated: bool = False
    """True if an amount is an estimate, because the provider did not report everything that the call used."""


def money_terms(chains: ChainTerms) -> MoneyTerms:
    """Return the chains of money buckets in `chains`. In the result, a bucket has only its name and rule."""
    return tuple(tuple((name, terms) for _, name, terms in chain) for chain in chains if chain[0][0] == "money")


def bucket_names(chains: Iterable[BucketChain], kind: Kind) -> frozenset[tuple[str, ...]]:
    """Return the names of the buckets in each chain of one kind."""
    return frozenset(tuple(bucket.name for bucket in chain) for chain in chains if chain[0].kind == kind)
