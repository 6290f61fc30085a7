"""The slices of shared buckets that this gateway holds. A slice is the part of a balance that only this gateway may
spend. `leases.py` explains how several gateways share buckets.

- A `SlicedBucket` is a bucket of the ledger. Its `balance` is the bank's last known balance, and is usually only for
  display. Calls reserve and spend from the slice, which is `granted` minus `spent`.
- A call begins only if the slice covers it. Otherwise the ledger raises `Exceeded` with `short`, and
  `gateway/call/leases.py` asks the bank.
- A slice is valid until `Slices.until`. The bank gives it to nobody else for some time after that.
- A gateway may lend parts of its slice to its workers, the processes that serve its calls (`lending.py`). These parts
  are not free for other calls of the gateway.
- If the bank cannot be reached and `Slices.goes_on` is true, calls may use the last known balances instead of the
  slices, as in a single gateway.

This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Final, NamedTuple

from gateway.money.quotas.buckets import SECOND, Bucket, Charge, Kind, LiveBucket, nanoseconds
from gateway.money.quotas.leases import Answer, Ask, Need, Standing

DRY_SECONDS: Final = 2.0
"""Maximum wait in seconds before a gateway asks the quota bank for more of a bucket again, after the bank has refused a
call.

The wait is shorter if the bucket is refilled sooner, or if other gateways hold parts of its balance (`HELD_SECONDS`).
"""
HELD_SECONDS: Final = 0.1
"""Maximum number of seconds for which a gateway does not ask the quota bank for more of a bucket, after the bank has
refused a call and other gateways hold slices (parts) of the bucket's balance.

It is shorter than `DRY_SECONDS`, which applies in all other cases, because the other gateways may give their slices
back.
"""
SCARCE_SECONDS: Final = 2.0
"""Seconds for which a gateway requests nothing for later calls, after the quota bank has refused a call. In this time,
the gateway requests only the amounts that waiting calls need.
"""
QUICK_SECONDS: Final = 1.0
"""Seconds after the grant of a slice (a part of a shared balance). If calls use the slice up in this time, the next
slice is twice as large.
"""
IDLE_SECONDS: Final = 10.0
"""Seconds without a call after which a gateway gives its slice (its part of a shared balance) back."""
FIRST_CALLS: Final = 4
"""The first slice (part of a shared balance) that a gateway requests has this many times the amount of the first call.
"""


class Want(NamedTuple):
    """An amount that a waiting call needs from one bucket."""

    amount: int
    others: int
    """Amount of the call that the other buckets of its chain can pay."""
    is_partial: bool


@dataclass(slots=True)
class Slices:
    """The state that all `SlicedBucket` objects of a gateway share."""

    clock: Callable[[], float] = monotonic
    """A clock in seconds that never goes back."""
    until: float = 0.0
    """The time, by `clock`, until which calls may spend the slices (parts of shared balances) that the bank has
    granted. Each renewal by the bank sets a later time.
    """
    money_until: float = inf
    """The time, by `clock`, until which the calls of a worker may spend the worker's slices of money.

    The parent process lends these slices (parts of balances) to the worker. At this time, the leases of the parent
    process end. The value is infinite if the parent process has no leases, or if calls may use the last known balances.
    """
    goes_on: bool = False
    """True while the quota bank cannot be reached and calls may use the last known balances of all buckets."""
    limits_go_on: bool = False
    """True while the quota bank cannot be reached and calls may use the last known balances of rate limits."""
    is_leaving: bool = False
    """True in a worker whose gateway has been replaced. The worker keeps nothing for later calls, because the new
    process cannot ask it to give amounts back.
    """
    since: float = 0.0
    """Unix time in seconds at which the present quotas were loaded."""
    low: Callable[[Bucket], None] = field(default=lambda _bucket: None)
    """A function that is called with a bucket when the gateway should soon send the bank a request about this bucket.

    The request asks for more balance if the slice is nearly used up. If the bucket is scarce
    (`SlicedBucket.is_scarce`), the request gives back the unreserved part of the slice, because another gateway may
    need it.
    """
    charged: Callable[[Bucket], None] = field(default=lambda _bucket: None)
    """A function that is called for each charge to a bucket."""
    active: dict[Bucket, SlicedBucket] = field(default_factory=dict)
    """The buckets of which the quota bank may have granted a part to this gateway."""

    def is_valid(self, kind: Kind) -> bool:
        """Return whether calls may spend the slices (parts of balances) in buckets of this kind now.

        They may not after the leases of these slices have ended.
        """
        now = self.clock()
        return now < self.until and (kind != "money" or now < self.money_until)

    def ask(self, name: str, bucket: SlicedBucket, wants: Sequence[Want] = ()) -> Ask:
        """Return the request about a bucket that is to be sent to the bank, which keeps the balances (`leases.py`).

        `wants` are the amounts that waiting calls need.
        """
        now, free = self.clock(), bucket.free
        is_unwanted = not wants and not bucket.waiting
        is_idle = is_unwanted and now - bucket.used_at >= IDLE_SECONDS
        if is_idle or (is_unwanted and bucket.is_scarce):
            # given back before the bank knows it, so that no call begins with it meanwhile
            bucket.granted -= max(0, free)
            ahead = 0
        else:
            ahead = self._ahead(bucket, free, wants, now)
        return Ask(
            bucket=name,
            rule=bucket.rule,
            since=self.since,
            known=bucket.granted,
            spent=bucket.spent,
            owed=0 if bucket.rule.notify else max(0, -free),
            needs=_needs(max(0, free), wants),
            ahead=ahead,
            is_last=is_idle and not bucket.calls and not bucket.leased,
        )

    def _ahead(self, bucket: SlicedBucket, free: int, wants: Sequence[Want], now: float) -> int:
        largest = max((want.amount for want in wants), default=0)
        if bucket.is_scarce or bucket.rule.notify:
            return 0
        if not bucket.size:
            bucket.size = FIRST_CALLS * largest
        elif now - bucket.granted_at < QUICK_SECONDS:
            bucket.size = min(2 * bucket.size, bucket.rule.capacity)
        elif now - bucket.granted_at > IDLE_SECONDS:
            bucket.size = max(bucket.size // 2, FIRST_CALLS * largest, 1)
        return max(0, bucket.size - max(0, free))

    def apply(self, ask: Ask, answer: Answer, bucket: SlicedBucket) -> None:
        """Update a bucket after the bank, which keeps the balances, has replied to `ask` with `answer`."""
        now = self.clock()
        bucket.show(answer)
        if answer.is_closed:
            # charges since the ask are counted on
            bucket.granted, bucket.spent = bucket.granted - ask.known, bucket.spent - ask.spent
            if not bucket.spent:
                self.active.pop(ask.key, None)
        else:
            if answer.granted >= ask.known + ask.owed + sum(need.amount for need in ask.needs) + ask.ahead > ask.known:
                # only a slice that was as large as requested can have been too small
                bucket.granted_at = now
            bucket.granted = answer.granted
            self.active[ask.key] = bucket
        bucket.elsewhere = answer.elsewhere
        if answer.is_refused and not answer.away:
            wait = bucket.reaches(bucket.balance + 1)
            most = HELD_SECONDS if answer.elsewhere else DRY_SECONDS
            bucket.dry_until = now + (most if wait is None else min(most, wait / SECOND))
            bucket.scarce_until = now + SCARCE_SECONDS
        elif ask.needs:
            bucket.dry_until = 0.0

    def charged_amounts(self) -> Mapping[Bucket, int]:
        """Return the sum of this gateway's charges to each active bucket."""
        return {key: bucket.spent for key, bucket in self.active.items()}

    def begin(self, recorded: Mapping[Bucket, int]) -> None:
        """Begin the counters anew, because the bank has forgotten what it has granted to this gateway.

        - `granted` becomes 0 for each bucket. Amounts that calls have reserved stay reserved.
        - `recorded` maps each bucket to the sum of the charges whose records have reached the bank. This sum is
          subtracted from `spent`, so that only later charges count as spent.
        """
        for key, bucket in self.active.items():
            bucket.granted = 0
            bucket.spent -= recorded.get(key, 0)


def _needs(free: int, wants: Sequence[Want]) -> Sequence[Need]:
    """Return the amounts that the bank, which keeps the balances, must grant so that all waiting calls can begin.

    `free` is the amount that this gateway was granted and has not reserved. `wants` are the needs of the waiting calls.
    """
    needs = []
    for want in wants:
        have = free + want.others
        if (missing := want.amount - have) > 0:
            needs.append(Need(missing, have, want.is_partial))
            free = 0
        else:
            free -= max(0, want.amount - want.others)
    return needs


@dataclass(slots=True)
class SlicedBucket(LiveBucket):
    """A bucket that several gateways share. This gateway may spend only a slice (a part) of the bucket's balance."""

    slices: Slices = field(default_factory=Slices)
    granted: int = 0
    """The sum of all amounts of this bucket that the quota bank has granted to this gateway."""
    spent: int = 0
    """The sum of this gateway's charges to the bucket."""
    size: int = 0
    """The amount of the balance that the gateway requests as its slice. It is 0 before the first call."""
    granted_at: float = 0.0
    used_at: float = 0.0
    waiting: int = 0
    """Number of calls that wait for the quota bank's answer about this bucket, or that have the answer and are about to
    reserve the granted amount. While there are such calls, nothing is given back.
    """
    dry_until: float = 0.0
    """Time, by `Slices.clock`, until which the gateway does not ask the quota bank for more of this bucket. It is set
    when the bank refuses a call.
    """
    scarce_until: float = 0.0
    """Time, by `Slices.clock`, until which the gateway requests only the amounts that waiting calls need. It is set
    when the quota bank refuses a call.
    """

    @property
    def goes_on(self) -> bool:
        """Whether calls may use the last known balance, because the quota bank cannot be reached."""
        return self.slices.goes_on or (self.slices.limits_go_on and self.rule.kind != "money")

    @property
    def own(self) -> int:
        """The amount that calls of this gateway may use, including the part that they have already reserved."""
        if self.goes_on:
            return self.balance - self.leased
        part = self.granted - self.spent - self.leased
        return part if self.slices.is_valid(self.rule.kind) else min(part, self.reserved)

    @property
    def free(self) -> int:
        """The part of the granted amount that no call has spent or reserved and no worker holds.

        It is negative if more was spent, reserved and lent to workers than was granted.
        """
        return self.granted - self.spent - self.reserved - self.leased

    @property
    def is_low(self) -> bool:
        """Whether the gateway should ask for a larger part of the bucket's balance before a call needs it."""
        return 2 * self.free < self.size and not self.is_scarce and not self.rule.notify

    @property
    def is_scarce(self) -> bool:
        """Whether this gateway requests only the amounts that waiting calls need, and gives back everything that it has
        not reserved.
        """
        return self.slices.is_leaving or self.slices.clock() < self.scarce_until

    @property
    def is_wanted(self) -> bool:
        """Whether this gateway must give back the unreserved part of its slice, because another gateway may need it."""
        return self.free > 0 and self.is_scarce

    @property
    def can_ask(self) -> bool:
        return not self.goes_on and self.slices.clock() >= self.dry_until

    @property
    def is_expired(self) -> bool:
        return not self.goes_on and not self.slices.is_valid(self.rule.kind)

    def least(self, amount: int) -> int:
        """Return the minimum unreserved amount with which a call of `amount` may begin.

        It is `amount`, but at least 1. If calls may use the last known balance, it is 1 for every call.
        """
        return 1 if self.goes_on else max(1, amount)

    def reserve(self, name: str, amount: int) -> None:
        LiveBucket.reserve(self, name, amount)
        self.used_at = self.slices.clock()
        if self.is_low:
            self.slices.low(Bucket(self.rule.kind, name))

    def release(self, name: str, amount: int) -> None:
        LiveBucket.release(self, name, amount)
        if self.is_wanted:
            self.slices.low(Bucket(self.rule.kind, name))

    def lend(self, name: str, leased: int) -> None:
        if leased > self.leased:
            self.used_at = self.slices.clock()
        LiveBucket.lend(self, name, leased)
        if self.is_low or self.is_wanted:
            self.slices.low(Bucket(self.rule.kind, name))

    def is_full(self, now: int) -> bool:
        """Return whether the bucket may be forgotten: it is full, this gateway holds no part of its balance, and no
        call waits for a part.
        """
        return not self.granted and not self.spent and not self.waiting and LiveBucket.is_full(self, now)

    def charge(self, name: str, amount: int, now: int, *, estimated: bool = False) -> Charge:
        self.spent += amount
        key = Bucket(self.rule.kind, name)
        self.slices.active[key] = self
        self.slices.charged(key)
        return LiveBucket.charge(self, name, amount, now, estimated=estimated)

    def show(self, there: Answer | Standing) -> None:
        """Set the balance to the bank's balance (`there`), minus this gateway's charges that the bank has not got yet.

        The bank is the service that keeps the balances for all gateways.
        """
        self.balance = there.amount - (self.spent - there.spent)
        self.remainder = there.remainder if 0 <= there.remainder < self.rule.period else 0
        self.at = nanoseconds(there.at)
        self.accrue(self.at)
