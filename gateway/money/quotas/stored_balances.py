"""The type of a bucket's balance that was read from a store."""

from __future__ import annotations

from typing import Protocol

from gateway.money.quotas.buckets import Charge


class StoredBalance(Protocol):
    """The last stored balance of a bucket, as this package needs it. `store.entries.Balance` is such a class."""

    @property
    def bucket(self) -> str: ...
    @property
    def amount(self) -> int: ...
    @property
    def remainder(self) -> int: ...
    @property
    def at(self) -> float: ...
    @property
    def terms(self) -> str: ...


def as_charge(balance: StoredBalance) -> Charge:
    """Return a charge of 0 units. The balance after this charge is the stored balance."""
    return Charge(balance.bucket, 0, balance.amount, balance.remainder, balance.at, terms=balance.terms)
