"""The arithmetic of chains of buckets: which bucket pays what, when a chain refuses a call, and for how long.

A chain is charged in order: what a bucket cannot pay, the next bucket pays. A single bucket is a chain of one.
`ledger.py` has the buckets and the reservations of calls. `buckets.py` has the arithmetic of one bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.money.quotas.buckets import SECOND, Bucket, LiveBucket, Rule

RETRY_AFTER_BUSY: Final = 5
"""Maximum `retry_after` in seconds, if a call is refused only because calls in flight have reserved the balance. Most
of them will have ended by then.

If memory has no room for a new bucket, this number is the `retry_after`.
"""
MAX_RETRY_AFTER: Final = 86_400
"""Maximum `retry_after` in seconds. It is also the `retry_after` of a bucket that is never refilled.

For a bucket with a calendar window (`windows.py`) there is no maximum: its `retry_after` ends exactly at the start of
the next window.
"""

Links = Sequence[tuple[str, LiveBucket]]
"""The buckets of a chain with their names, in the order in which they are charged."""


class Short(NamedTuple):
    """An amount of one bucket that the quota bank must grant so that a refused call may begin.

    The bank is the service that keeps the balances that several gateways share (`leases.py`).
    """

    bucket: str
    amount: int
    """The amount that the call must reserve in the whole chain, at least 1."""
    others: int
    """Amount that the other buckets of the chain can pay for the call."""
    is_partial: bool
    """True if a part of the amount is enough, because the rest can be requested for another bucket of the chain."""


class Exceeded(Exception):
    """The error for a call that a chain of buckets refuses, because its buckets have too little left or memory has no
    room for a new bucket.
    """

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
        """The name of the first bucket in `chain`, the chain that refused the call."""
        return self.chain[0].name


def split(chain: Links, amount: int, *, unreserved: bool = False) -> Sequence[tuple[str, LiveBucket, int]]:
    """Divide an amount among the buckets of a chain. Return triples: the bucket's name, the bucket, and the amount that
    it pays.

    In the order of the chain, each bucket pays as much as it has (`LiveBucket.own`). What is left is paid by the first
    bucket that never refuses a call (`notify`), or else by the last bucket.

    If `unreserved` is true, a bucket has only what calls in flight have not reserved.
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

    It may begin if the unreserved amounts of all buckets of the chain together are large enough (`LiveBucket.least`),
    or if one of the buckets never refuses a call.
    """
    least = max([bucket.least(amount) for _, bucket in chain])
    return sum([bucket.own - bucket.reserved for _, bucket in chain]) >= least or any(
        bucket.rule.notify for _, bucket in chain
    )


def _unreserved(chain: Links) -> int:
    return sum([bucket.balance - bucket.reserved for _, bucket in chain])


def _short(chain: Links, amount: int) -> Short | None:
    """Return what the quota bank must grant so that a refused call may begin. Return None if the bank cannot be asked
    now.

    The bank is the service that keeps shared balances (`leases.py`). The amount is requested for the first bucket of
    the chain about which the bank may be asked (`can_ask`).
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
    """Return the nanoseconds until the buckets of a chain have gained `missing` units in total. Return None if they
    never do.

    The buckets refill at different rates, so the time is searched by bisection, to within a second.
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
    """Return the nanoseconds until every bucket that refills is full. Return None if no bucket refills.

    Also return None if the buckets together gain fewer than `missing` units by then.
    """
    full = [(bucket, wait) for bucket in buckets if (wait := bucket.reaches(bucket.rule.capacity)) is not None]
    gained = sum(bucket.rule.capacity - bucket.balance for bucket, _ in full)
    return max(bucket.at - now + wait for bucket, wait in full) if full and gained >= missing else None


def _seconds(nanoseconds: int) -> int:
    return max(1, -(-nanoseconds // SECOND))
