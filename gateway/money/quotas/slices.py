"""The slices of shared buckets that this gateway holds. A slice is the part of a balance that only this gateway may
spend. `leases.py` explains how several gateways share buckets.

- A `SlicedBucket` is a shared bucket of the ledger. Calls reserve and spend from its slice, which is `granted` minus
  `spent`. Its `balance` is the bank's last known balance, and is usually only displayed.
- A call begins only if the slice is large enough. Otherwise the ledger raises `Exceeded` with `short`, and
  `gateway/call/leases.py` asks the bank for more.
- A slice is valid until `Slices.until`. The bank waits for some time after that before it gives the slice to others.
- A gateway may lend parts of its slice to its workers, the processes that serve its calls (`lending.py`). Its own calls
  cannot use these parts.
- If the bank cannot be reached and `Slices.goes_on` is true, calls may use the last known balances in place of the
  slices.

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
"""Maximum number of seconds for which a gateway does not ask the quota bank for more of a bucket, after the bank has
refused a call.

The time is shorter if the bucket is refilled sooner, or if other gateways hold parts of its balance (`HELD_SECONDS`).
"""
HELD_SECONDS: Final = 0.1
"""Takes the place of `DRY_SECONDS` if other gateways hold slices (parts) of the bucket's balance.

It is shorter, because these gateways may soon give parts of their slices back.
"""
LEAST_DRY_SECONDS: Final = 0.005
"""Minimum number of seconds for which a gateway does not ask the quota bank for more of a bucket, after the bank has
refused a call.

It applies to buckets that refill by tiny amounts at every moment. In this time, the next bucket of the chain is asked.
"""
SCARCE_SECONDS: Final = 2.0
"""Seconds for which a gateway requests nothing for later calls, after the quota bank has refused a call. Only the
amounts that waiting calls need are requested.
"""
QUICK_SECONDS: Final = 1.0
"""Number of seconds. A slice (a part of a shared balance) that calls use up within this time was too small: the gateway
next requests one of twice the size.
"""
IDLE_SECONDS: Final = 10.0
"""Seconds without a call after which a gateway gives its slice (its part of a shared balance) back."""
FIRST_CALLS: Final = 4
"""The first slice (part of a shared balance) that a gateway requests is this many times the amount that the first call
needs.
"""


class Want(NamedTuple):
    """An amount that a waiting call needs from one bucket."""

    amount: int
    others: int
    """Amount that the other buckets of the call's chain can pay."""
    is_partial: bool


@dataclass(slots=True)
class Slices:
    """The state that all shared buckets (`SlicedBucket`) of a gateway have in common, such as the time until which
    their slices are valid. A slice is the part of a balance that only this gateway may spend.
    """

    clock: Callable[[], float] = monotonic
    """A clock in seconds that never goes back."""
    until: float = 0.0
    """The time, by `clock`, until which calls may spend the slices (parts of shared balances) of this gateway. Each
    answer of the bank sets a later time.
    """
    money_until: float = inf
    """The time, by `clock`, until which the calls of a worker may spend the worker's slices (parts of balances) of
    money.

    The parent process lends these slices to the worker, so they end with the leases of the parent process. Infinite if
    the parent process has no leases, or if calls may use the last known balances.
    """
    goes_on: bool = False
    """True while the quota bank cannot be reached and calls may use the last known balances of all buckets."""
    limits_go_on: bool = False
    """True while the quota bank cannot be reached and calls may use the last known balances of rate limits."""
    is_leaving: bool = False
    """True in a worker whose gateway has been replaced. Such a worker gives back everything that no call has reserved,
    because the new gateway process cannot ask it to.
    """
    since: float = 0.0
    """Unix time in seconds at which the present quotas were loaded."""
    low: Callable[[Bucket], None] = field(default=lambda _bucket: None)
    """A function that is called with a bucket if the gateway should soon send the bank a request about it.

    The request asks for more if the slice (the gateway's part of the balance) is nearly used up. If another gateway may
    need the balance (`SlicedBucket.is_scarce`), the request gives back what is not reserved.
    """
    charged: Callable[[Bucket], None] = field(default=lambda _bucket: None)
    """A function that is called for each charge to a bucket."""
    active: dict[Bucket, SlicedBucket] = field(default_factory=dict)
    """The buckets of which the gateway may hold a slice, a part of the balance that the quota bank has granted."""

    def is_valid(self, kind: Kind) -> bool:
        """Return whether calls may now spend the slices (parts of balances) of buckets of this kind. They may until the
        leases of the slices end.
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
            bucket.dry_until = now + (most if wait is None else min(most, max(LEAST_DRY_SECONDS, wait / SECOND)))
            bucket.scarce_until = now + SCARCE_SECONDS
        elif ask.needs:
            bucket.dry_until = 0.0

    def charged_amounts(self) -> Mapping[Bucket, int]:
        """Return the sum of this gateway's charges to each active bucket."""
        return {key: bucket.spent for key, bucket in self.active.items()}

    def begin(self, recorded: Mapping[Bucket, int]) -> None:
        """Reset the counters, because the bank has forgotten what it has granted to this gateway.

        - `granted` becomes 0 for each bucket. What calls have reserved stays reserved.
        - `recorded` maps a bucket to the sum of those charges that the bank already knows from the records of calls.
          They are subtracted from `spent`, which then has only the charges that the bank does not know.
        """
        for key, bucket in self.active.items():
            bucket.granted = 0
            bucket.spent -= recorded.get(key, 0)


def _needs(free: int, wants: Sequence[Want]) -> Sequence[Need]:
    """Return the amounts that the bank (which keeps the balances) must grant so that all waiting calls can begin.

    `wants` are the amounts that the waiting calls need. `free` is what this gateway was granted and has not reserved.
    The calls use it up in their order.
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
    """The size of the slice that the gateway wants to hold, as an amount. It adapts to the calls, and is 0 before the
    first one.
    """
    granted_at: float = 0.0
    used_at: float = 0.0
    waiting: int = 0
    """Number of calls that have asked the quota bank for an amount of this bucket and have not reserved it yet. While
    there are any, nothing is given back.
    """
    dry_until: float = 0.0
    """Time, by `Slices.clock`, until which the gateway does not ask the quota bank for more of this bucket. It is set
    when the bank refuses a call.
    """
    scarce_until: float = 0.0
    """Time, by `Slices.clock`, until which the gateway requests only the amounts that waiting calls need. Set when the
    quota bank refuses a call, or asks for amounts back.
    """

    @property
    def goes_on(self) -> bool:
        """Whether calls may use the last known balance, because the quota bank cannot be reached."""
        return self.slices.goes_on or (self.slices.limits_go_on and self.rule.kind != "money")

    @property
    def own(self) -> int:
        """The amount that the calls of this process may use, including what they have already reserved.

        It is the slice without the parts lent to workers. When the lease has ended, it is at most the reserved amount.
        If calls may use the last known balance, it is that balance.
        """
        if self.goes_on:
            return self.balance - self.leased
        part = self.granted - self.spent - self.leased
        return part if self.slices.is_valid(self.rule.kind) else min(part, self.reserved)

    @property
    def free(self) -> int:
        """The granted amount that is neither spent, nor reserved by a call, nor lent to a worker. It is negative if
        more was spent, reserved and lent than was granted.
        """
        return self.granted - self.spent - self.reserved - self.leased

    @property
    def is_low(self) -> bool:
        """Whether the gateway should request more of the bucket's balance now, before a call lacks it."""
        return 2 * self.free < self.size and not self.is_scarce and not self.rule.notify

    @property
    def is_scarce(self) -> bool:
        """Whether this gateway keeps nothing for later calls: it requests only what waiting calls need, and gives back
        what it has not reserved.
        """
        return self.slices.is_leaving or self.slices.clock() < self.scarce_until

    @property
    def is_wanted(self) -> bool:
        """Whether this gateway has something to give back to the bank, because another gateway may need it."""
        return self.free > 0 and self.is_scarce

    @property
    def can_ask(self) -> bool:
        return not self.goes_on and self.slices.clock() >= self.dry_until

    @property
    def is_expired(self) -> bool:
        return not self.goes_on and not self.slices.is_valid(self.rule.kind)

    def least(self, amount: int) -> int:
        """Return the unreserved amount that must be there so that a call of `amount` may begin: `amount` itself, but at
        least 1.

        If calls may use the last known balance, it is 1 for every call.
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
        """Set the balance to the one that the bank reports in `there`, minus those charges of this gateway that the
        bank does not know yet.

        The bank is the service that keeps the balances for all gateways.
        """
        self.balance = there.amount - (self.spent - there.spent)
        self.remainder = there.remainder if 0 <= there.remainder < self.rule.period else 0
        self.at = nanoseconds(there.at)
        self.accrue(self.at)
