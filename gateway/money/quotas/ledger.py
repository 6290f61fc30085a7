"""Buckets that calls take from and that refill: reserve an estimate first, settle what it was.

The arithmetic of quotas and of rate limits, exact and pure: amounts are integers (nanodollars, tokens or requests),
times are integer nanoseconds of Unix time, and the clock is an argument. A bucket's balance is an integer and a
remainder below one unit, so that nothing is lost or gained however often it is looked at. What a bucket is called, who
is charged and what a call may cost are not decided here.

A call may begin when what is not reserved by others is above zero, whatever it may cost itself: so a large call is not
refused for ever, and the balance ends no lower than minus the dearest single call, as long as no call costs more than
it reserved.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

SECOND: Final = 1_000_000_000
"""Nanoseconds."""
MAX_BUCKETS: Final = 100_000
"""That are not full; more than a large tailnet has callers and models at work."""
EVICTION_PROBES: Final = 4
"""Buckets that are looked at for each new one, and forgotten if they are full: two would hold the number."""
CROWDED_EVICTION_PROBES: Final = 64
BUSY: Final = 5
"""Seconds to wait where only calls in flight stand in the way: most have ended by then."""
MAX_RETRY_AFTER: Final = 86_400
"""Seconds to wait for what does not come by itself."""
NOTICED: Final = 80
"""Hundredths of the capacity from which on a bucket that only notifies is spoken of."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a definition says of each of its buckets."""

    name: str
    capacity: int
    """Units that it holds at most, and holds at first."""
    amount: int = 0
    """Units that flow in, evenly over a period; 0: none."""
    period: int = SECOND
    """Nanoseconds."""
    notify: bool = False
    """Calls are let through when it is empty, and told."""


class Claim(NamedTuple):
    """What a call wants of one bucket."""

    bucket: str
    rule: Rule
    """For a bucket that is not known yet; one that is keeps its own until a reload."""
    amount: int


class Charge(NamedTuple):
    """What a bucket was charged, and what was left in it: enough to go on from after a crash."""

    bucket: str
    amount: int
    """Below 0 for a refill."""
    balance: int
    remainder: int
    """What has flowed in beyond the balance, in units of amount per `Rule.period`; below the period."""
    at: float
    """Unix time in seconds."""
    estimated: bool = False
    """Nobody said what the call used."""

    @property
    def left(self) -> tuple[str, int, int, float]:
        """What is to be kept of it: bucket, balance, remainder and time."""
        return self.bucket, self.balance, self.remainder, self.at


@dataclass(slots=True)
class _Bucket:
    rule: Rule
    balance: int
    remainder: int
    at: int
    reserved: int = 0
    calls: int = 0
    """That hold something of it, be it nothing."""

    def state(self, now: int) -> tuple[int, int]:
        """Balance and remainder at a time; a clock that was set back adds nothing."""
        rule = self.rule
        if self.balance >= rule.capacity:
            return rule.capacity, 0
        if now <= self.at or not rule.amount:
            return self.balance, self.remainder
        gained, remainder = divmod(rule.amount * (now - self.at) + self.remainder, rule.period)
        return (rule.capacity, 0) if self.balance + gained >= rule.capacity else (self.balance + gained, remainder)

    def accrue(self, now: int) -> None:
        self.balance, self.remainder = self.state(now)
        self.at = now

    def charge(self, name: str, amount: int, now: int, *, estimated: bool = False) -> Charge:
        self.accrue(now)
        self.balance -= amount
        return Charge(name, amount, self.balance, self.remainder, now / SECOND, estimated)

    def reaches(self, balance: int) -> int | None:
        """Nanoseconds from the last accrual until the balance is there; None if it never is."""
        rule = self.rule
        if self.balance >= balance:
            return 0
        if not rule.amount or balance > rule.capacity:
            return None
        return max(0, -((self.remainder - (balance - self.balance) * rule.period) // rule.amount))


class Exceeded(Exception):
    """A bucket has nothing left for a call."""

    def __init__(self, bucket: str, rule: Rule, balance: int, retry_after: int) -> None:
        super().__init__(bucket)
        self.bucket = bucket
        self.rule = rule
        self.balance = balance
        """Above 0 where what is left is reserved by calls in flight."""
        self.retry_after = retry_after
        """Seconds until a call may begin, as far as can be told; from 1 to `MAX_RETRY_AFTER`."""


@dataclass(slots=True)
class Reservation:
    """What one call holds of its buckets until it is settled."""

    parts: Sequence[tuple[str, _Bucket, int]] = field(repr=False)
    notices: tuple[tuple[str, int], ...] = ()
    """Buckets that only notify, with the hundredths of their capacity that were used when the call began."""
    charges: tuple[Charge, ...] | None = None
    """None until it is settled."""


class Level(NamedTuple):
    """A bucket as it is shown."""

    bucket: str
    rule: Rule
    balance: int
    reserved: int
    full_at: float | None
    """Unix time in seconds at which it is full again if nothing is taken; None if it is full, or never will be."""


class Ledger:
    """All buckets that are not full, by name. Used on one thread; `levels` and `used` may be asked from another."""

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._max = max_buckets
        self._live: OrderedDict[str, _Bucket] = OrderedDict()
        self._gone: dict[str, _Bucket] = {}
        """Those whose definition is gone: should it come back, they go on with what was left."""

    def __len__(self) -> int:
        return len(self._live)

    def reserve(self, claims: Sequence[Claim], now: int) -> Reservation:
        """Hold what a call may cost at most in all its buckets.

        Raises `Exceeded` for the bucket that takes longest to have something again; then nothing is held.
        """
        self._make_room([claim.bucket for claim in claims], now)
        parts = [(claim.bucket, self._bucket(claim.bucket, claim.rule, now), claim.amount) for claim in claims]
        refused = [
            _exceeded(name, bucket)
            for name, bucket, _ in parts
            if bucket.balance - bucket.reserved <= 0 and not bucket.rule.notify
        ]
        if refused:
            raise max(refused, key=lambda exceeded: exceeded.retry_after)
        notices = [(name, _used(bucket, bucket.balance)) for name, bucket, _ in parts if bucket.rule.notify]
        for _, bucket, amount in parts:
            bucket.reserved += amount
            bucket.calls += 1
        return Reservation(parts, tuple(notice for notice in notices if notice[1] >= NOTICED))

    def settle(
        self,
        reservation: Reservation,
        amount: int,
        now: int,
        *,
        only: Container[str] | None = None,
        estimated: bool = False,
    ) -> tuple[Charge, ...]:
        """Take what the call cost, from all its buckets or `only` some, and free what it held.

        The first settlement counts; a second one gives the same charges. Buckets whose definition has gone meanwhile
        are charged too.
        """
        if reservation.charges is None:
            reservation.charges = tuple(self._settled(reservation, amount, now, only, estimated))
        return reservation.charges

    def _settled(
        self, reservation: Reservation, amount: int, now: int, only: Container[str] | None, estimated: bool
    ) -> Iterator[Charge]:
        for name, bucket, held in reservation.parts:
            bucket.reserved -= held
            bucket.calls -= 1
            known = bucket is self._live.get(name) or bucket is self._gone.get(name)
            if amount and known and (only is None or name in only):
                yield bucket.charge(name, amount, now, estimated=estimated)

    def refill(self, name: str, rule: Rule, amount: int, now: int) -> Charge:
        """Put units in, up to the capacity."""
        self._make_room([name], now)
        bucket = self._bucket(name, rule, now)
        return bucket.charge(name, -min(amount, bucket.rule.capacity - bucket.balance), now)

    def reload(self, rules: Mapping[str, Rule], now: int) -> None:
        """Definitions have changed: buckets of those that are gone are put away until they come back, as they are;
        balances are capped.
        """
        for name, bucket in (self._gone | self._live).items():
            rule = rules.get(bucket.rule.name)
            if rule is None:
                self._put_away(name, bucket, now)
                continue
            self._live[name] = bucket
            self._gone.pop(name, None)
            if rule != bucket.rule:
                bucket.accrue(now)
                # a part of a unit, in the old period's unit
                bucket.remainder = bucket.remainder if rule.period == bucket.rule.period else 0
                bucket.rule = rule
                bucket.balance, bucket.remainder = bucket.state(now)

    def _put_away(self, name: str, bucket: _Bucket, now: int) -> None:
        """One that is full, and held by no call, is as good as new."""
        self._live.pop(name, None)
        self._gone.pop(name, None)
        if bucket.calls or bucket.state(now)[0] < bucket.rule.capacity:
            bucket.accrue(now)
            self._gone[name] = bucket
        if len(self._gone) > self._max:
            del self._gone[next(iter(self._gone))]

    def restore(self, name: str, rule: Rule, balance: int, remainder: int, at: float) -> None:
        """A bucket as its last charge left it, before the process was started; one that is at work stays as it is."""
        if balance < rule.capacity and name not in self._live:
            sound = remainder if 0 <= remainder < rule.period else 0
            self._live[name] = _Bucket(rule, balance, sound, round(at * SECOND))

    def levels(self, now: int) -> list[Level]:
        """Every bucket that is not full, or is held by a call. Changes nothing."""
        return [_level(name, bucket, now) for name, bucket in list(self._live.items())]

    def level(self, name: str, rule: Rule, now: int) -> Level:
        """One bucket, also one that is full."""
        bucket = self._live.get(name)
        return Level(name, rule, rule.capacity, 0, None) if bucket is None else _level(name, bucket, now)

    def used(self, now: int) -> dict[str, float]:
        """The used part of the emptiest bucket of each definition, above 1 where more was spent. Changes nothing."""
        found: dict[str, int] = {}
        for bucket in list(self._live.values()):
            name = bucket.rule.name
            found[name] = max(found.get(name, 0), _used(bucket, bucket.state(now)[0]))
        return {name: hundredths / 100 for name, hundredths in found.items()}

    def _bucket(self, name: str, rule: Rule, now: int) -> _Bucket:
        """A bucket as it is now; a new one is full. Raises `Exceeded` when there are too many."""
        bucket = self._live.get(name) or self._gone.pop(name, None)
        if bucket is not None:
            self._live[name] = bucket
            self._live.move_to_end(name)
            bucket.accrue(now)
            return bucket
        if len(self._live) >= self._max:
            raise Exceeded(name, rule, 0, BUSY)
        bucket = self._live[name] = _Bucket(rule, rule.capacity, 0, now)
        return bucket

    def _make_room(self, names: Sequence[str], now: int) -> None:
        """For those of the buckets that are new; before any of them is made, so that none is forgotten at once."""
        new = sum(name not in self._live for name in names)
        if new:
            crowded = len(self._live) + new > self._max
            self._forget(new * (CROWDED_EVICTION_PROBES if crowded else EVICTION_PROBES), now)

    def _forget(self, count: int, now: int) -> None:
        """Of the buckets that were not touched for longest, those that are full; others get to the end of the line."""
        for name in list(islice(self._live, count)):
            bucket = self._live[name]
            if not bucket.calls and bucket.state(now)[0] >= bucket.rule.capacity:
                del self._live[name]
            else:
                self._live.move_to_end(name)


def _level(name: str, bucket: _Bucket, now: int) -> Level:
    balance, remainder = bucket.state(now)
    then = _Bucket(bucket.rule, balance, remainder, now)
    wait = then.reaches(bucket.rule.capacity)
    return Level(name, bucket.rule, balance, bucket.reserved, (now + wait) / SECOND if wait else None)


def _exceeded(name: str, bucket: _Bucket) -> Exceeded:
    """A balance above zero is reserved by calls in flight; otherwise the refill has to bring it there."""
    if bucket.balance > 0:
        wait = bucket.reaches(bucket.reserved + 1)
        seconds = BUSY if wait is None else min(BUSY, _seconds(wait))
    else:
        wait = bucket.reaches(1)
        seconds = MAX_RETRY_AFTER if wait is None else min(MAX_RETRY_AFTER, _seconds(wait))
    return Exceeded(name, bucket.rule, bucket.balance, seconds)


def _seconds(nanoseconds: int) -> int:
    return max(1, -(-nanoseconds // SECOND))


def _used(bucket: _Bucket, balance: int) -> int:
    """Hundredths of the capacity that are gone or reserved."""
    capacity = bucket.rule.capacity
    return (capacity - balance + bucket.reserved) * 100 // capacity if capacity else 100
