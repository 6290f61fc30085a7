"""The values with which a process hands over the state of its quotas and rate limits to the process that replaces it.

- Only the buckets of rate limits are handed over, because the balances of money are in the store.
- The reservations of open calls are handed over for all kinds of buckets. Otherwise the new process would accept calls
  that the old process would have refused.

`book.py` reads and applies the values. `gateway.process.handover` sends them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.money.quotas.buckets import Kind, LiveBucket, Rule
from gateway.money.quotas.ledger import Ledger
from gateway.money.quotas.reservations import Reservation


class BucketState(msgspec.Struct, frozen=True):
    """The state of a bucket of a rate limit at the time `at`."""

    name: str
    rule: Rule
    balance: int
    remainder: int
    at: int
    """Unix time in nanoseconds. The balance includes all refills up to this time."""

    @classmethod
    def of(cls, name: str, bucket: LiveBucket) -> BucketState:
        return cls(name, bucket.rule, bucket.balance, bucket.remainder, bucket.at)

    def apply(self, ledger: Ledger) -> None:
        bucket = ledger.present(self.name, self.rule, self.at)
        bucket.balance, bucket.remainder, bucket.at = self.balance, self.remainder, self.at


class Hold(msgspec.Struct, frozen=True):
    """The amounts that one call has reserved in the buckets of one kind."""

    parts: tuple[tuple[str, Rule, int], ...]
    """The name, the rule and the reserved amount of each bucket."""
    chains: tuple[tuple[str, ...], ...]
    """The chains of buckets in which the amounts are reserved, as bucket names. A single bucket is a chain of one."""

    @classmethod
    def of(cls, reservation: Reservation) -> Hold:
        parts = tuple((name, bucket.rule, amount) for name, bucket, amount in reservation.parts)
        return cls(parts, tuple(tuple(name for name, _ in chain) for chain in reservation.chains))

    def reserve(self, ledger: Ledger, rules: Mapping[str, Rule], now: int) -> Reservation:
        """Reserve the amounts in the buckets of a ledger.

        `rules` has the present rules of buckets, by name. A bucket that is not in `rules` has the rule in `parts`.
        """
        buckets = {name: ledger.present(name, rules.get(name, rule), now) for name, rule, _ in self.parts}
        parts = [(name, buckets[name], amount) for name, _, amount in self.parts]
        for name, bucket, amount in parts:
            bucket.reserve(name, amount)
        return Reservation(parts, [[(name, buckets[name]) for name in chain] for chain in self.chains])


Holds = Mapping[Kind, Hold]
"""The amounts that one call has reserved, by the kind of the buckets."""
