"""Buckets that calls are charged to and that refill: a call reserves an estimate first, and is charged what it used.

The arithmetic of quotas and of rate limits, exact and pure.

- Amounts are integers: nanodollars, tokens or requests. Times are integer nanoseconds of Unix time.
- The clock is an argument.
- A balance is an integer and a remainder below one unit, so looking at a bucket never changes what is in it.
- A call may begin when the unreserved balance is above zero, whatever the call itself may cost. So no large call is
  refused for ever, and a balance ends no lower than minus the cost of the most expensive single call, as long as no
  call costs more than it reserved.

Names of buckets, their owners and the costs of calls are decided elsewhere.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal, NamedTuple

SECOND: Final = 1_000_000_000
"""Nanoseconds of a second."""
MAX_BUCKETS: Final = 100_000
"""Most buckets held in memory. Only buckets that are not full are held: a large tailnet has fewer active callers."""
EVICTION_PROBES: Final = 4
"""Buckets that are examined for each new one, and forgotten if they are full: two would keep their number constant."""
CROWDED_EVICTION_PROBES: Final = 64
"""Buckets that are examined for each new one when there are `MAX_BUCKETS`."""
RETRY_AFTER_BUSY: Final = 5
"""Seconds to wait where only reservations of calls in flight refuse a call: most of them have ended by then."""
MAX_RETRY_AFTER: Final = 86_400
"""Seconds to wait where no refill comes by itself."""
NOTICE_PERCENT: Final = 80
"""Used percentage of the capacity from which a bucket that only notifies is reported to the client."""

Kind = Literal["money", "requests", "tokens"]
"""The unit of a bucket: nanodollars of a quota, requests or tokens of a rate limit."""


class Bucket(NamedTuple):
    """One bucket among those of all kinds. Names of different kinds may be equal."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Rule:
    """The part of a definition that each of its buckets follows."""

    name: str
    capacity: int
    """Most units that a bucket holds; a new bucket holds them all."""
    amount: int = 0
    """Units that flow in, evenly over a period; 0: none."""
    period: int = SECOND
    """Nanoseconds."""
    notify: bool = False
    """An empty bucket lets calls through and is reported to the client."""
    kind: Kind = "money"


class Claim(NamedTuple):
    """Units of one bucket that a call may use at most."""

    bucket: str
    rule: Rule
    """The rule of a new bucket; a bucket that exists keeps its own rule until a reload."""
    amount: int


class Charge(NamedTuple):
    """An amount that a bucket was charged, and the balance after it, from which a bucket continues after a crash."""

    bucket: str
    amount: int
    """Units taken; below 0 for a refill."""
    balance: int
    remainder: int
    """Inflow beyond the balance, in units of amount per `Rule.period`; below the period."""
    at: float
    """Unix time in seconds."""
    estimated: bool = False
    """The provider did not report what the call used."""

    @property
    def left(self) -> tuple[str, int, int, float]:
        """The values to store: bucket, balance, remainder and time."""
        return self.bucket, self.balance, self.remainder, self.at


@dataclass(slots=True)
class _Bucket:
    rule: Rule
    balance: int
    remainder: int
    at: int
    reserved: int = 0
    calls: int = 0
    """Calls in flight with a reservation here, even one of 0."""

    def state(self, now: int) -> tuple[int, int]:
        """Return balance and remainder at a time; a clock that was set back adds nothing."""
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
        """Return the nanoseconds from the last accrual until the balance is reached; None if it never is."""
        rule = self.rule
        if self.balance >= balance:
            return 0
        if not rule.amount or balance > rule.capacity:
            return None
        return max(0, -((self.remainder - (balance - self.balance) * rule.period) // rule.amount))


class Exceeded(Exception):
    """A bucket without an unreserved balance refuses a call."""

    def __init__(self, bucket: str, rule: Rule, balance: int, retry_after: int) -> None:
        super().__init__(bucket)
        self.bucket = bucket
        self.rule = rule
        self.balance = balance
        """Balance when the call was refused; above 0 where calls in flight reserve all of it."""
        self.retry_after = retry_after
        """Estimated seconds until a call may begin, from 1 to `MAX_RETRY_AFTER`."""

    @property
    def key(self) -> Bucket:
        """The refusing bucket among those of all kinds."""
        return Bucket(self.rule.kind, self.bucket)


@dataclass(slots=True)
class Reservation:
    """The units that one call holds in buckets of one ledger until it is charged or released."""

    parts: Sequence[tuple[str, _Bucket, int]] = field(repr=False)
    notices: tuple[tuple[str, int], ...] = ()
    """Buckets that only notify, with the used percentage of their capacity when the call began."""
    charges: tuple[Charge, ...] | None = None
    """Charges of the call; None until it is charged or released."""


class Level(NamedTuple):
    """The state of a bucket at a moment, for the API and metrics."""

    bucket: str
    rule: Rule
    balance: int
    reserved: int
    full_at: float | None
    """Unix time in seconds at which the bucket is full if nothing is taken; None if it is full or never will be."""


class Ledger:
    """All buckets of one kind that are not full, by name. One thread changes them; any may call `levels` and `used`."""

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._max = max_buckets
        self._live: OrderedDict[str, _Bucket] = OrderedDict()
        self._gone: dict[str, _Bucket] = {}
        """Buckets whose definition is gone; they continue with their balance if it comes back."""

    def __len__(self) -> int:
        return len(self._live)

    def reserve(self, claims: Sequence[Claim], now: int) -> Reservation:
        """Hold the most that a call may use in all its buckets.

        Raises `Exceeded` for the bucket that takes longest to let a call begin; then nothing is held.
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
        notices = [(name, _used_percent(bucket, bucket.balance)) for name, bucket, _ in parts if bucket.rule.notify]
        for _, bucket, amount in parts:
            bucket.reserved += amount
            bucket.calls += 1
        return Reservation(parts, tuple(notice for notice in notices if notice[1] >= NOTICE_PERCENT))

    def charge(
        self,
        reservation: Reservation,
        amount: int,
        now: int,
        *,
        only: Container[str] | None = None,
        estimated: bool = False,
    ) -> tuple[Charge, ...]:
        """Charge what the call used to all its buckets, or `only` some, and free what it held.

        The first charge or release counts; a second one returns the same charges. Buckets whose definition has gone
        in the meantime are charged too.
        """
        if reservation.charges is None:
            reservation.charges = tuple(self._charges(reservation, amount, now, only, estimated))
        return reservation.charges

    def release(self, reservation: Reservation, now: int) -> None:
        """Free what a call held, and charge nothing."""
        self.charge(reservation, 0, now)

    def _charges(
        self, reservation: Reservation, amount: int, now: int, only: Container[str] | None, estimated: bool
    ) -> Iterator[Charge]:
        for name, bucket, held in reservation.parts:
            bucket.reserved -= held
            bucket.calls -= 1
            known = bucket is self._live.get(name) or bucket is self._gone.get(name)
            if amount and known and (only is None or name in only):
                yield bucket.charge(name, amount, now, estimated=estimated)

    def refill(self, name: str, rule: Rule, amount: int, now: int) -> Charge:
        """Add units to a bucket, up to its capacity."""
        self._make_room([name], now)
        bucket = self._bucket(name, rule, now)
        return bucket.charge(name, -min(amount, bucket.rule.capacity - bucket.balance), now)

    def reload(self, rules: Mapping[str, Rule], now: int) -> None:
        """Apply changed definitions: balances are capped, and buckets without a definition are set aside unchanged."""
        for name, bucket in (self._gone | self._live).items():
            rule = rules.get(bucket.rule.name)
            if rule is None:
                self._set_aside(name, bucket, now)
                continue
            self._live[name] = bucket
            self._gone.pop(name, None)
            if rule != bucket.rule:
                bucket.accrue(now)
                # a part of a unit, in the old period's unit
                bucket.remainder = bucket.remainder if rule.period == bucket.rule.period else 0
                bucket.rule = rule
                bucket.balance, bucket.remainder = bucket.state(now)

    def _set_aside(self, name: str, bucket: _Bucket, now: int) -> None:
        """Keep the bucket of a definition that is gone, unless it is full and no call holds a reservation in it."""
        self._live.pop(name, None)
        self._gone.pop(name, None)
        if bucket.calls or bucket.state(now)[0] < bucket.rule.capacity:
            bucket.accrue(now)
            self._gone[name] = bucket
        if len(self._gone) > self._max:
            del self._gone[next(iter(self._gone))]

    def restore(self, name: str, rule: Rule, balance: int, remainder: int, at: float) -> None:
        """Continue a bucket from its last stored charge; a bucket that is in use stays as it is."""
        if balance < rule.capacity and name not in self._live:
            checked = remainder if 0 <= remainder < rule.period else 0
            self._live[name] = _Bucket(rule, balance, checked, round(at * SECOND))

    def levels(self, now: int) -> list[Level]:
        """Return every bucket that is not full, or that a call holds a reservation in. Changes nothing."""
        return [_level(name, bucket, now) for name, bucket in list(self._live.items())]

    def level(self, name: str, rule: Rule, now: int) -> Level:
        """Return one bucket, also one that is full."""
        bucket = self._live.get(name)
        return Level(name, rule, rule.capacity, 0, None) if bucket is None else _level(name, bucket, now)

    def used(self, now: int) -> dict[str, float]:
        """Return the used part of the emptiest bucket of each definition, above 1 where it is overdrawn.

        Changes nothing.
        """
        percents: dict[str, int] = {}
        for bucket in list(self._live.values()):
            name = bucket.rule.name
            percents[name] = max(percents.get(name, 0), _used_percent(bucket, bucket.state(now)[0]))
        return {name: percent / 100 for name, percent in percents.items()}

    def _bucket(self, name: str, rule: Rule, now: int) -> _Bucket:
        """Return a bucket with its inflow up to now; a new one is full. Raises `Exceeded` when there are too many."""
        bucket = self._live.get(name) or self._gone.pop(name, None)
        if bucket is not None:
            self._live[name] = bucket
            self._live.move_to_end(name)
            bucket.accrue(now)
            return bucket
        if len(self._live) >= self._max:
            raise Exceeded(name, rule, 0, RETRY_AFTER_BUSY)
        bucket = self._live[name] = _Bucket(rule, rule.capacity, 0, now)
        return bucket

    def _make_room(self, names: Sequence[str], now: int) -> None:
        """Evict full buckets for the new ones among `names`.

        This happens before any of the new ones is made, because a new bucket is full and could be evicted at once.
        """
        new = sum(name not in self._live for name in names)
        if new:
            crowded = len(self._live) + new > self._max
            self._evict(new * (CROWDED_EVICTION_PROBES if crowded else EVICTION_PROBES), now)

    def _evict(self, count: int, now: int) -> None:
        """Forget the full ones among the `count` least recently used buckets; the others become most recently used."""
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
    """Return the refusal of a bucket: all of it is reserved where its balance is above zero, else it needs inflow."""
    if bucket.balance > 0:
        wait = bucket.reaches(bucket.reserved + 1)
        seconds = RETRY_AFTER_BUSY if wait is None else min(RETRY_AFTER_BUSY, _seconds(wait))
    else:
        wait = bucket.reaches(1)
        seconds = MAX_RETRY_AFTER if wait is None else min(MAX_RETRY_AFTER, _seconds(wait))
    return Exceeded(name, bucket.rule, bucket.balance, seconds)


def _seconds(nanoseconds: int) -> int:
    return max(1, -(-nanoseconds // SECOND))


def _used_percent(bucket: _Bucket, balance: int) -> int:
    """Return the percentage of the capacity that is used or reserved."""
    capacity = bucket.rule.capacity
    return (capacity - balance + bucket.reserved) * 100 // capacity if capacity else 100
