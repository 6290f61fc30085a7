"""The exact arithmetic of quotas and rate limits: buckets that calls are charged to, and that refill over time.

A call first reserves an estimated amount in its buckets. When it has ended, it is charged the amount that it used.

- Amounts are integers: nanodollars, tokens or requests. Times are integer nanoseconds of Unix time.
- The current time is an argument of each function; no function reads a clock.
- A balance is an integer and an exact remainder of less than one unit. So a refill is never rounded.
- A call may begin if the balance minus all reserved amounts is above zero, even if the call itself costs more. So no
  large call is refused for ever. If no call costs more than it reserved, a bucket is overdrawn by no more than the cost
  of the most expensive call.

Other modules decide the names of buckets, who owns them, and what calls cost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal, NamedTuple

SECOND: Final = 1_000_000_000
"""Number of nanoseconds in a second."""
MAX_BUCKETS: Final = 100_000
"""Maximum number of buckets in memory. Full buckets are removed, and even a large tailnet has fewer active callers."""
EVICTION_PROBES: Final = 4
"""Number of old buckets that are examined for each new bucket, and removed from memory if they are full.

It is more than one, so that the number of buckets can fall although some of the examined buckets are not full."""
CROWDED_EVICTION_PROBES: Final = 64
"""Number of old buckets that are examined for each new bucket when memory has no room for the new buckets."""
RETRY_AFTER_BUSY: Final = 5
"""Maximum `retry_after` in seconds if a call is refused only because of the reservations of calls in flight.

Most of these calls have ended by then. It is also the `retry_after` if memory has no room for a new bucket."""
MAX_RETRY_AFTER: Final = 86_400
"""Maximum `retry_after` in seconds, also used for a bucket that does not refill over time."""
NOTICE_PERCENT: Final = 80
"""Percentage of used capacity from which a bucket with `Rule.notify` is reported to the client."""

Kind = Literal["money", "requests", "tokens"]
"""The unit of a bucket: money (nanodollars) in a quota, requests or tokens in a rate limit."""


class Bucket(NamedTuple):
    """The key of a bucket among the buckets of all kinds. Buckets of different kinds may have equal names."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Rule:
    """The capacity and refill of every bucket of one quota or rate limit."""

    name: str
    capacity: int
    """Maximum number of units in a bucket. A new bucket has this number."""
    amount: int = 0
    """Units that are added to a bucket in each period, evenly over the period; 0: no refill."""
    period: int = SECOND
    """Length of the period in nanoseconds."""
    notify: bool = False
    """True if an empty bucket refuses no call, and a nearly empty bucket is only reported to the client."""
    kind: Kind = "money"


class Claim(NamedTuple):
    """The maximum amount that a call may use of one bucket. This amount is reserved before the call begins."""

    bucket: str
    rule: Rule
    """The rule for a new bucket; an existing bucket keeps its own rule until the next `Ledger.reload`."""
    amount: int


class Charge(NamedTuple):
    """An amount that a bucket was charged, and the balance afterwards, which is restored after a restart."""

    bucket: str
    amount: int
    """Number of units taken from the bucket; negative for a refill."""
    balance: int
    remainder: int
    """Numerator of the fraction of a unit that the bucket has beyond `balance`. The denominator is `Rule.period`."""
    at: float
    """Unix time of the charge in seconds."""
    estimated: bool = False
    """True if the provider did not report everything that the call used, so that the amount is partly estimated."""

    @property
    def left(self) -> tuple[str, int, int, float]:
        """The values to store: name of the bucket, balance, remainder, and Unix time in seconds."""
        return self.bucket, self.balance, self.remainder, self.at


@dataclass(slots=True)
class _Bucket:
    rule: Rule
    balance: int
    remainder: int
    at: int
    reserved: int = 0
    calls: int = 0
    """Number of calls in flight with a reservation in this bucket, including reservations of 0 units."""

    def state(self, now: int) -> tuple[int, int]:
        """Return the balance, and the numerator of the fraction of a unit beyond it, at the time `now`.

        If the clock was set back, nothing is added.
        """
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
        """Return the nanoseconds from the last accrual until the bucket's balance is at least `balance`.

        None if the refill never reaches `balance`.
        """
        rule = self.rule
        if self.balance >= balance:
            return 0
        if not rule.amount or balance > rule.capacity:
            return None
        return max(0, -((self.remainder - (balance - self.balance) * rule.period) // rule.amount))


class Exceeded(Exception):
    """The refusal of a call by a bucket whose whole balance is used or reserved."""

    def __init__(self, bucket: str, rule: Rule, balance: int, retry_after: int) -> None:
        super().__init__(bucket)
        self.bucket = bucket
        self.rule = rule
        self.balance = balance
        """The balance when the call was refused; above 0 if calls in flight had reserved all of it."""
        self.retry_after = retry_after
        """Estimated number of seconds until a call may begin, from 1 to `MAX_RETRY_AFTER`."""

    @property
    def key(self) -> Bucket:
        """The key of the bucket that refuses, among the buckets of all kinds."""
        return Bucket(self.rule.kind, self.bucket)


@dataclass(slots=True)
class Reservation:
    """The amounts that one call has reserved in the buckets of one ledger, until they are charged or released."""

    parts: Sequence[tuple[str, _Bucket, int]] = field(repr=False)
    notices: tuple[tuple[str, int], ...] = ()
    """Nearly empty buckets with `Rule.notify`, as pairs of (name, used percentage when the call began)."""
    charges: tuple[Charge, ...] | None = None
    """The charges of the call; None until the call is charged or its reservation is released."""


class Level(NamedTuple):
    """The state of a bucket at one time, for the API."""

    bucket: str
    rule: Rule
    balance: int
    reserved: int
    full_at: float | None
    """Unix time in seconds at which the bucket will be full if nothing is taken from it.

    None if it is full already, or does not refill over time."""


class Ledger:
    """The buckets of one kind, by name. A bucket that is not in memory is full.

    All methods that change buckets must be called from one thread. `levels` and `used` may be called from any thread.
    """

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._max = max_buckets
        self._live: OrderedDict[str, _Bucket] = OrderedDict()
        self._gone: dict[str, _Bucket] = {}
        """Buckets whose quota is no longer defined. They keep their balance in case the quota is defined again."""

    def __len__(self) -> int:
        return len(self._live)

    def reserve(self, claims: Sequence[Claim], now: int) -> Reservation:
        """Reserve the maximum amount that a call may use in each of its buckets.

        Raises `Exceeded` if a bucket refuses the call. Nothing is reserved then. If several buckets refuse the call,
        the exception names the bucket with the longest `retry_after`.
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
        """Charge the used amount to all buckets of a reservation, or to those in `only`, and release the reservation.

        Only the first charge or release of a reservation has an effect; later ones return the same charges. Buckets
        whose quota has been removed from the configuration in the meantime are charged too.
        """
        if reservation.charges is None:
            reservation.charges = tuple(self._charges(reservation, amount, now, only, estimated))
        return reservation.charges

    def release(self, reservation: Reservation, now: int) -> None:
        """Release the reservation of a call, and charge nothing."""
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
        """Add units to a bucket, up to its capacity, and return the refill as a charge with a negative amount."""
        self._make_room([name], now)
        bucket = self._bucket(name, rule, now)
        return bucket.charge(name, -min(amount, bucket.rule.capacity - bucket.balance), now)

    def reload(self, rules: Mapping[str, Rule], now: int) -> None:
        """Apply the rules of a new configuration, by the name of the quota, and limit balances to the new capacities.

        Buckets without a rule are set aside with their balance. Buckets that were set aside are used again if `rules`
        has a rule for them.
        """
        for name, bucket in (self._gone | self._live).items():
            rule = rules.get(bucket.rule.name)
            if rule is None:
                self._set_aside(name, bucket, now)
                continue
            self._live[name] = bucket
            self._gone.pop(name, None)
            if rule != bucket.rule:
                bucket.accrue(now)
                # the remainder is a numerator over the old period, so it has no meaning for another period
                bucket.remainder = bucket.remainder if rule.period == bucket.rule.period else 0
                bucket.rule = rule
                bucket.balance, bucket.remainder = bucket.state(now)

    def _set_aside(self, name: str, bucket: _Bucket, now: int) -> None:
        """Set aside a bucket whose quota is no longer defined, unless it is full and has no reservation."""
        self._live.pop(name, None)
        self._gone.pop(name, None)
        if bucket.calls or bucket.state(now)[0] < bucket.rule.capacity:
            bucket.accrue(now)
            self._gone[name] = bucket
        if len(self._gone) > self._max:
            del self._gone[next(iter(self._gone))]

    def restore(self, name: str, rule: Rule, balance: int, remainder: int, at: float) -> None:
        """Set a bucket to its last stored balance. A bucket that is in memory already is not changed."""
        if balance < rule.capacity and name not in self._live:
            checked = remainder if 0 <= remainder < rule.period else 0
            self._live[name] = _Bucket(rule, balance, checked, round(at * SECOND))

    def levels(self, now: int) -> list[Level]:
        """Return the state of each bucket in memory. No bucket is changed.

        The result contains each bucket of a defined quota that is not full or has a reservation. It may also contain
        full buckets that are not removed from memory yet.
        """
        return [_level(name, bucket, now) for name, bucket in list(self._live.items())]

    def level(self, name: str, rule: Rule, now: int) -> Level:
        """Return the state of one bucket, even if the bucket is full and not in memory."""
        bucket = self._live.get(name)
        return Level(name, rule, rule.capacity, 0, None) if bucket is None else _level(name, bucket, now)

    def used(self, now: int) -> dict[str, float]:
        """Return the highest used fraction among the buckets of each quota; above 1 if a bucket is overdrawn.

        Reserved amounts count as used. No bucket is changed.
        """
        percents: dict[str, int] = {}
        for bucket in list(self._live.values()):
            name = bucket.rule.name
            percents[name] = max(percents.get(name, 0), _used_percent(bucket, bucket.state(now)[0]))
        return {name: percent / 100 for name, percent in percents.items()}

    def _bucket(self, name: str, rule: Rule, now: int) -> _Bucket:
        """Return the bucket of this name, refilled up to the time `now`. A new bucket is full.

        Raises `Exceeded` if a new bucket has no room in memory.
        """
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
        """Remove full buckets from memory, to make room for those buckets in `names` that are not in memory yet.

        This is done before a new bucket is made, because a new bucket is full and would be removed itself.
        """
        new = sum(name not in self._live for name in names)
        if new:
            crowded = len(self._live) + new > self._max
            self._evict(new * (CROWDED_EVICTION_PROBES if crowded else EVICTION_PROBES), now)

    def _evict(self, count: int, now: int) -> None:
        """Examine the `count` least recently used buckets, and remove those that are full and have no reservation.

        The others are moved to the end, so that other buckets are examined next time.
        """
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
    """Return the refusal of a bucket, with the seconds until its balance suffices.

    If the balance is above 0, calls in flight have reserved all of it. When one of these calls ends, the balance may
    suffice sooner than by the refill, so the seconds are at most `RETRY_AFTER_BUSY`.
    """
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
    """Return the percentage of the bucket's capacity that is used or reserved."""
    capacity = bucket.rule.capacity
    return (capacity - balance + bucket.reserved) * 100 // capacity if capacity else 100
