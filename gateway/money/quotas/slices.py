"""The slices of buckets that this gateway holds, when several gateways share the buckets (`leases.py`).

- A `SlicedBucket` is a bucket of the ledger. Its `balance` is what the bank said last. It is shown, and nothing more.
  Calls reserve and spend from its slice, which is `granted` minus `spent`.
- A call begins only if the slice covers it. Otherwise the ledger raises `Exceeded` with `short`, and the caller asks
  the bank.
- A slice is valid until `Slices.until`. The bank keeps it for longer.
- If the bank cannot be reached and `Slices.goes_on` is true, the last known balances decide, as in a single gateway.

This module does no I/O. `gateway.call.leases` asks the bank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, NamedTuple

from gateway.money.quotas.buckets import SECOND, Charge, LiveBucket, nanoseconds
from gateway.money.quotas.leases import Answer, Ask, Need, Standing

DRY_SECONDS: Final = 2.0
"""Maximum number of seconds for which a gateway asks nothing for a bucket after the bank has refused a call.

A refill by an administrator, and the next refill over time, end this earlier."""
HELD_SECONDS: Final = 0.1
"""The same maximum while other gateways hold slices of the bucket, because they may give them back."""
SCARCE_SECONDS: Final = 2.0
"""Seconds for which a gateway takes nothing ahead from a bucket in which another gateway has too little."""
QUICK_SECONDS: Final = 1.0
"""Seconds after a grant. If a slice gets low within this time, the next one is twice as large."""
IDLE_SECONDS: Final = 10.0
"""Seconds without a call after which a gateway gives its slice back."""
FIRST_CALLS: Final = 4
"""Size of a gateway's first slice, in units of the first call's reservation."""


class Want(NamedTuple):
    """An amount that a waiting call needs from one bucket."""

    amount: int
    others: int
    """Amount that the other buckets of the chain have for the call."""
    is_partial: bool


@dataclass(slots=True)
class Slices:
    """The state that all sliced buckets of a gateway have in common."""

    clock: Callable[[], float] = monotonic
    """A clock in seconds that never goes back."""
    until: float = 0.0
    """Time of `clock` at which the slices end, unless the bank renews them."""
    goes_on: bool = False
    """True while the bank is away and calls may begin by the last known balances."""
    since: float = 0.0
    """Unix time in seconds at which the present quotas were loaded."""
    low: Callable[[str], None] = field(default=lambda _bucket: None)
    """A function that is called with the name of a bucket for which the bank should be asked soon: its slice gets low,
    or another gateway needs it more."""
    active: dict[str, SlicedBucket] = field(default_factory=dict)
    """The buckets for which the bank may have a lease of this gateway."""

    def ask(self, name: str, bucket: SlicedBucket, wants: Sequence[Want] = ()) -> Ask:
        """Return what to ask for a bucket in which calls wait for `wants`."""
        now, free = self.clock(), bucket.free
        is_idle = not wants and now - bucket.used_at >= IDLE_SECONDS
        if is_idle or (not wants and bucket.scarce_until > now):
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
            is_last=is_idle and not bucket.calls,
        )

    def _ahead(self, bucket: SlicedBucket, free: int, wants: Sequence[Want], now: float) -> int:
        largest = max((want.amount for want in wants), default=0)
        if bucket.scarce_until > now or bucket.rule.notify:
            return 0
        if not bucket.size:
            bucket.size = FIRST_CALLS * max(1, largest)
        elif now - bucket.granted_at < QUICK_SECONDS:
            bucket.size = min(2 * bucket.size, bucket.rule.capacity)
        elif now - bucket.granted_at > IDLE_SECONDS:
            bucket.size = max(bucket.size // 2, FIRST_CALLS * largest, 1)
        return max(0, bucket.size - max(0, free))

    def apply(self, ask: Ask, answer: Answer, bucket: SlicedBucket) -> None:
        """Take over the bank's answer to an ask about a bucket."""
        now = self.clock()
        bucket.show(answer)
        if answer.is_closed:
            # charges since the ask are counted on
            bucket.granted, bucket.spent = bucket.granted - ask.known, bucket.spent - ask.spent
            if not bucket.spent:
                self.active.pop(answer.bucket, None)
        else:
            if answer.granted > bucket.granted:
                bucket.granted_at = now
            bucket.granted = answer.granted
            self.active[answer.bucket] = bucket
        if answer.is_refused:
            wait = bucket.reaches(bucket.balance + 1)
            most = HELD_SECONDS if answer.elsewhere else DRY_SECONDS
            bucket.dry_until = now + (most if wait is None else min(most, wait / SECOND))
            bucket.scarce_until = now + SCARCE_SECONDS

    def begin(self) -> None:
        """Forget all grants, for a bank that has forgotten them too. Reserved amounts stay."""
        for bucket in self.active.values():
            bucket.granted = bucket.spent = 0


def _needs(free: int, wants: Sequence[Want]) -> Sequence[Need]:
    """Return what the bank must add to `free` so that all `wants` are covered."""
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
    """A bucket of which this gateway holds a slice."""

    slices: Slices = field(default_factory=Slices)
    granted: int = 0
    """The sum of the bank's grants."""
    spent: int = 0
    """The sum of the charges."""
    size: int = 0
    """The amount that the gateway would like to hold; 0 before the first call."""
    granted_at: float = 0.0
    used_at: float = 0.0
    dry_until: float = 0.0
    """Time until which the bank is not asked, because it has just refused a call."""
    scarce_until: float = 0.0
    """Time until which nothing is taken ahead, because a gateway has too little."""

    @property
    def own(self) -> int:
        """The amount that calls of this gateway may use up, with what they have reserved."""
        if self.slices.goes_on:
            return self.balance
        is_valid = self.slices.clock() < self.slices.until
        return self.granted - self.spent if is_valid else min(self.granted - self.spent, self.reserved)

    @property
    def free(self) -> int:
        """The part of the slice that no call has reserved. It is negative if calls have more than was granted."""
        return self.granted - self.spent - self.reserved

    @property
    def is_low(self) -> bool:
        """Whether the gateway should ask for more before a call needs it."""
        is_scarce = self.slices.clock() < self.scarce_until
        return 2 * self.free < self.size and not is_scarce and not self.rule.notify

    @property
    def is_wanted(self) -> bool:
        """Whether the gateway has something that another one needs."""
        return self.free > 0 and self.slices.clock() < self.scarce_until

    @property
    def can_ask(self) -> bool:
        return not self.slices.goes_on and self.slices.clock() >= self.dry_until

    def least(self, amount: int) -> int:
        """Return the unreserved amount that a call of this amount needs to begin."""
        return 1 if self.slices.goes_on else max(1, amount)

    def reserve(self, name: str, amount: int) -> None:
        LiveBucket.reserve(self, name, amount)
        self.used_at = self.slices.clock()
        if self.is_low:
            self.slices.low(name)

    def release(self, name: str, amount: int) -> None:
        LiveBucket.release(self, name, amount)
        if self.is_wanted:
            self.slices.low(name)

    def is_full(self, now: int) -> bool:
        """Return whether the bucket may be forgotten: it is full, and the bank has no lease on it."""
        return not self.granted and not self.spent and LiveBucket.is_full(self, now)

    def charge(self, name: str, amount: int, now: int, *, estimated: bool = False) -> Charge:
        self.spent += amount
        self.slices.active[name] = self
        return LiveBucket.charge(self, name, amount, now, estimated=estimated)

    def show(self, there: Answer | Standing) -> None:
        """Take over the bank's balance, less what was spent here and has not reached the bank."""
        self.balance = there.amount - (self.spent - there.spent)
        self.remainder = there.remainder if 0 <= there.remainder < self.rule.period else 0
        self.at = nanoseconds(there.at)
        self.accrue(self.at)
