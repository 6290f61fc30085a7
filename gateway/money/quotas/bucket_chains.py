"""The arithmetic of chains of buckets: which bucket pays what, when a chain refuses a call, and for how long.

A chain is charged in order: what a bucket cannot pay, the next bucket pays. A single bucket is a chain of one.
`ledger.py` has the buckets and the reservations of calls. `buckets.py` has the arithmetic of one bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.money.quotas.buckets import SECOND, Bucket, LiveBucket, Rule

RETRY_AFTER_BUSY: Final = 5
"""Maximum `retry_after` in seconds for a call that is refused only because of the reservations of calls in flight.

Most of the calls in flight will have ended after this time. If memory has no room for a new bucket, this number is the
`retry_after` as well.
"""
MAX_RETRY_AFTER: Final = 86_400
"""Maximum `retry_after` in seconds. A bucket that is never refilled has this `retry_after`.

The maximum does not apply to a bucket with a calendar window (`windows.py`). Its `retry_after` ends exactly at the
start of the next window.
"""

Links = Sequence[tuple[str, LiveBucket]]
"""The buckets of a chain with their names, in the order in which they are charged."""


class Short(NamedTuple):
    """The amount that a refused call needs from a bucket whose balance several gateways share.

    The call may begin if the bank, which keeps the balance, grants this gateway the amount (`leases.py`).
    """

    bucket: str
    amount: int
    """The amount that the call must reserve in the whole chain, at least 1."""
    others: int
    """Amount that the other buckets of the chain can pay for the call."""
    is_partial: bool
    """True if the bank may grant less than the call needs, because the missing part can be requested for another bucket
    of the chain.
    """


class Exceeded(Exception):
    """The error for a refused call: a chain of buckets has nothing left, or memory has no room for a new bucket."""

    def __init__(
        self, chain: Sequence[str], rule: Rule, balance: int, retry_after: int, short: Short | None = None
    ) -> None:
        super().__init__(chain[0])
        self.chain = tuple(Bucket(rule.kind, name) for name in chain)
        """The buckets that refuse the call together, in the order in which they would be charged."""
        self.rule = rule
        """The rule of the first bucket in `chain`."""
        self.balance = balance
        """The sum of the balances at the refusal. It is above 0 if calls in flight have reserved all of it."""
        self.retry_after = retry_after
        """Estimated number of seconds, at least 1, until a call may begin."""
        self.short = short
        """The amount that must be requested from the bank (`leases.py`) so that the call may begin. It is None if the
        refusal is final.
        """

    @property
    def bucket(self) -> str:
        """The name of the first bucket in `chain`."""
        return self.chain[0].name


def split(chain: Links, amount: int, *, unreserved: bool = False) -> Sequence[tuple[str, LiveBucket, int]]:
    """Return the buckets of a chain as triples: name, bucket, and the part of the amount that the bucket pays.

    The buckets pay in their order. Each pays as much of the amount as it has (`LiveBucket.own`). The first bucket that
    never refuses a call (`notify`) pays the rest. Without such a bucket, the last bucket pays the rest.

    If `unreserved` is true, amounts that calls in flight have reserved do not count as what a bucket has.
    """
    if len(chain) == 1:  # nearly all chains
        ((name, bucket),) = chain
        return ((name, bucket, amount),)
    left = amount
    parts = []
    for place, (name, bucket) in enumerate(chain, 1):
        covered = max(0, bucket.own - (bucket.reserved if unreserved else 0))
        part = left if place == len(chain) or bucket.rule.notify else min(left, covered)
        left -= part
        parts.append((name, bucket, part))
    return parts


def may_begin(chain: Links, amount: int) -> bool:
    """Return whether a call of this amount may begin.

    It may begin if the unreserved amounts of all buckets together are enough, or if one bucket never refuses a call.
    """
    least = max([bucket.least(amount) for _, bucket in chain])
    return sum([bucket.own - bucket.reserved for _, bucket in chain]) >= least or any(
        bucket.rule.notify for _, bucket in chain
    )


def _unreserved(chain: Links) -> int:
    return sum([bucket.balance - bucket.reserved for _, bucket in chain])


def _short(chain: Links, amount: int) -> Short | None:
    """Return the amount that must be requested from the bank so that a refused call can begin.

    The bank keeps the balances of shared buckets (`leases.py`). The amount is requested for the first bucket of the
    chain for which the bank may be asked now (`can_ask`). Return None if there is no such bucket.
    """
    asked = [(name, bucket) for name, bucket in chain if bucket.can_ask]
    if not asked:
        return None
    name, bucket = asked[0]
    others = sum(max(0, other.own - other.reserved) for _, other in chain if other is not bucket)
    return Short(name, max(1, amount), others, is_partial=len(asked) > 1)


def exceeded(chain: Links, now: int, amount: int) -> Exceeded:
    """Return the exception for a call that a chain of buckets refuses. It states how long the client should wait.

    If the balance is above 0, all of it is reserved by calls in flight. A retry may succeed when one of these calls
    ends, so the wait is at most `RETRY_AFTER_BUSY` seconds.
    """
    balance = sum(bucket.balance for _, bucket in chain)
    if balance > 0:
        wait = _wait(chain, 1 - _unreserved(chain), now)
        seconds = RETRY_AFTER_BUSY if wait is None else min(RETRY_AFTER_BUSY, _seconds(wait))
    else:
        wait = _wait(chain, 1 - balance, now)
        exact = wait is not None and any(bucket.rule.window for _, bucket in chain)
        seconds = MAX_RETRY_AFTER if wait is None else _seconds(wait) if exact else min(MAX_RETRY_AFTER, _seconds(wait))
    return Exceeded([name for name, _ in chain], chain[0][1].rule, balance, seconds, _short(chain, amount))


def _wait(chain: Links, missing: int, now: int) -> int | None:
    """Return the nanoseconds until the buckets of a chain have gained `missing` units in total, or None if they never
    do.

    The buckets refill at different rates, so the time is found by bisection, to within a second. Its upper bound is the
    time until one bucket alone has gained `missing` units, or until all buckets are full, whichever comes first.
    """
    buckets = [bucket for _, bucket in chain]
    alone = [(bucket, bucket.reaches(bucket.balance + missing)) for bucket in buckets]
    bounds = [bucket.at - now + wait for bucket, wait in alone if wait is not None]
    if (full := _until_full(buckets, missing, now)) is not None:
        bounds.append(full)
    if len(buckets) == 1 or not bounds:
        return min(bounds, default=None)
    target = sum(bucket.balance for bucket in buckets) + missing
    low, high = 0, min(bounds)
    while high - low > SECOND:
        middle = (low + high) // 2
        enough = sum(bucket.state(now + middle)[0] for bucket in buckets) >= target
        low, high = (low, middle) if enough else (middle, high)
    return high


def _until_full(buckets: Sequence[LiveBucket], missing: int, now: int) -> int | None:
    """Return the nanoseconds until all buckets are full, without regard to buckets that never refill.

    Return None if no bucket refills, or if all buckets together gain fewer than `missing` units until then.
    """
    full = [(bucket, wait) for bucket in buckets if (wait := bucket.reaches(bucket.rule.capacity)) is not None]
    gained = sum(bucket.rule.capacity - bucket.balance for bucket, _ in full)
    return max(bucket.at - now + wait for bucket, wait in full) if full and gained >= missing else None


def _seconds(nanoseconds: int) -> int:
    return max(1, -(-nanoseconds // SECOND))
