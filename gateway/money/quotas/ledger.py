"""A ledger has all buckets of one kind: of money, of requests or of tokens.

Calls reserve an estimated amount in the buckets, and are charged the amount that they have used.

- The current time is an argument of each function. Nothing here reads a clock.
- A call may begin if the balance without the reserved amounts is above zero, even if the call will cost more. Otherwise
  a large call could be refused for ever. So a bucket can be overdrawn by up to the cost of one call (if no call costs
  more than it reserved).
- A claim is an amount that a call reserves in one bucket or in a chain of buckets. In a chain, each bucket pays what
  the buckets before it cannot pay. Only the last bucket can be overdrawn.
- If several claims of one call are for the same bucket, the highest of their amounts is reserved there.

`buckets.py` has the arithmetic of a bucket, and `bucket_chains.py` the arithmetic of a chain. Other modules decide the
names of buckets, who owns them, and what calls cost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from gateway.money.quotas.bucket_chains import RETRY_AFTER_BUSY, Exceeded, Links, exceeded, may_begin, split
from gateway.money.quotas.buckets import (
    NOTICE_PERCENT,
    SECOND,
    Charge,
    Level,
    LiveBucket,
    Rule,
    merged,
    nanoseconds,
    spent_percent,
)
from gateway.money.quotas.reservations import Claim, Part, Reservation

MAX_BUCKETS: Final = 100_000
"""Maximum number of buckets in memory. Even a large tailnet has fewer active callers.

Full buckets are removed when new ones come. A full bucket has no spent amount, so nothing is lost."""
EVICTION_PROBES: Final = 4
"""Number of least recently used buckets that are examined for each new bucket. Those of them that are full are removed
from memory.

There are several, so that the number of buckets can decrease even if some of them are not full.
"""
CROWDED_EVICTION_PROBES: Final = 64
"""Number of least recently used buckets that are examined for each new bucket, in place of `EVICTION_PROBES`, if memory
has no room for the new buckets.
"""
MAX_AHEAD: Final = 86_400 * SECOND
"""Maximum number of nanoseconds by which the time of a stored balance may be ahead of the clock.

A bucket does not refill until its time is reached. Without this limit, a clock that was once wrong by years would stop
the refill for years."""


NewBucket = Callable[[Rule, int, int, int], LiveBucket]
"""A function that makes a bucket. The arguments are its rule, balance, remainder and time, as in `LiveBucket`."""


class Ledger:
    """The buckets of one kind, by name. A bucket that is not in memory is full.

    Methods that change buckets must all be called from the same thread. `levels` and `used` may be called from any
    thread.
    """

    def __init__(
        self,
        max_buckets: int = MAX_BUCKETS,
        *,
        nearly_used: Callable[[Level], None] = lambda _level: None,
        new: NewBucket = LiveBucket,
    ) -> None:
        self._max = max_buckets
        self._new = new
        self._nearly_used = nearly_used
        self._live: OrderedDict[str, LiveBucket] = OrderedDict()
        self._gone: dict[str, LiveBucket] = {}
        """Buckets whose quota is no longer defined. They keep their balance in case the quota is defined again."""

    def __len__(self) -> int:
        return len(self._live)

    def reserve(self, claims: Sequence[Claim], now: int) -> Reservation:
        """Reserve the amounts of a call. A claim is an amount for one bucket, or for a chain of buckets.

        Raises `Exceeded`, and reserves nothing, if a claim is refused. If several are refused, the exception is for the
        one with the longest `retry_after`.
        """
        if not claims:
            return Reservation(())
        self._make_room([name for claim in claims for name in claim.chain], now)
        chains = [self._links(claim, now) for claim in claims]
        asked = list(zip(claims, chains, strict=True))
        refused = [exceeded(chain, now, claim.amount) for claim, chain in asked if not may_begin(chain, claim.amount)]
        if refused:
            raise max(refused, key=lambda exceeded: exceeded.retry_after)
        parts: dict[str, tuple[LiveBucket, int]] = {}
        for claim, chain in asked:
            for name, bucket, amount in split(chain, claim.amount, unreserved=True):
                parts[name] = bucket, max(amount, parts.get(name, (bucket, 0))[1])
        notices = [(name, bucket.used_percent()) for name, (bucket, _) in parts.items() if bucket.rule.capacity]
        for name, (bucket, amount) in parts.items():
            bucket.reserve(name, amount)
        held = [(name, bucket, amount) for name, (bucket, amount) in parts.items()]
        return Reservation(held, chains, tuple(notice for notice in notices if notice[1] >= NOTICE_PERCENT))

    def charge(
        self,
        reservation: Reservation,
        amount: int,
        now: int,
        *,
        only: Container[tuple[str, ...]] | None = None,
        estimated: bool = False,
    ) -> tuple[Charge, ...]:
        """Charge the used amount to each chain of buckets in a reservation, and release the whole reservation.

        - A single bucket is a chain of one.
        - `only` has the chains to charge, each as a tuple of bucket names. If `only` is None, all chains are charged.
        - `estimated` is true if the amount is partly estimated.
        - A bucket is also charged if its quota is no longer configured.
        - If the reservation was charged or released before, nothing changes, and the earlier charges are returned.
        """
        if reservation.charges is None:
            _end(reservation)
            chains = _chosen(reservation, only)
            reservation.charges = tuple(self._charges(chains, amount, now, estimated=estimated))
        return reservation.charges

    def charge_parts(self, reservation: Reservation, parts: Sequence[Part], now: int) -> tuple[Charge, ...]:
        """Charge several amounts, each to its own chains of buckets in a reservation, and release the reservation. A
        single bucket is a chain of one.

        A bucket gets one charge with the sum of its amounts. If the reservation was charged or released before, nothing
        changes, and the earlier charges are returned.
        """
        if reservation.charges is None:
            _end(reservation)
            reservation.charges = merged(
                charge
                for part in parts
                for charge in self._charges(_chosen(reservation, part.only), part.amount, now, estimated=part.estimated)
            )
        return reservation.charges

    def release(self, reservation: Reservation, now: int) -> None:
        """Release the reservation of a call, and charge nothing."""
        self.charge(reservation, 0, now)

    def _charges(self, chains: Iterable[Links], amount: int, now: int, *, estimated: bool) -> Iterator[Charge]:
        parts: dict[str, tuple[LiveBucket, int]] = {}
        for chain in chains:
            known = [(name, bucket) for name, bucket in chain if self._knows(name, bucket)]
            for _, bucket in known:
                bucket.accrue(now)
            for name, bucket, part in split(known, amount):
                parts[name] = bucket, max(part, parts.get(name, (bucket, 0))[1])
        for name, (bucket, part) in parts.items():
            if part:
                yield bucket.charge(name, part, now, estimated=estimated)
                if bucket.report():
                    self._nearly_used(bucket.level(name, now))

    def _knows(self, name: str, bucket: LiveBucket) -> bool:
        return bucket is self._live.get(name) or bucket is self._gone.get(name)

    def charge_unreserved(
        self, chains: Sequence[Sequence[tuple[str, Rule]]], amount: int, now: int
    ) -> tuple[Charge, ...]:
        """Charge a call without a reservation to chains of buckets, even if memory has no room for new buckets.

        Each chain has the names and rules of its buckets, in the order in which they pay. The charges are marked as
        estimated.
        """
        links = [[(name, self.present(name, rule, now)) for name, rule in chain] for chain in chains]
        return tuple(self._charges(links, amount, now, estimated=True))

    def buckets(self) -> Iterable[tuple[str, LiveBucket]]:
        return self._live.items()

    def get(self, name: str) -> LiveBucket | None:
        return self._live.get(name) or self._gone.get(name)

    def present(self, name: str, rule: Rule, now: int) -> LiveBucket:
        bucket = self._live.get(name) or self._gone.get(name)
        return bucket or self._live.setdefault(name, self._new(rule, rule.capacity, 0, now))

    def shared(self, name: str, rule: Rule, now: int) -> LiveBucket:
        """Return a bucket whose balance is shared with workers, refilled up to `now`. A new bucket is full."""
        self._make_room([name], now)
        bucket = self.present(name, rule, now)
        bucket.accrue(now)
        return bucket

    def take(self, name: str, rule: Rule, amount: int, now: int, *, estimated: bool = False) -> Charge:
        """Take an amount from a bucket, and return the charge. A bucket that is not in memory is added, even if memory
        already has the maximum number of buckets.
        """
        bucket = self.present(name, rule, now)
        charge = bucket.charge(name, amount, now, estimated=estimated)
        if bucket.report():
            self._nearly_used(bucket.level(name, now))
        return charge

    def set_aside(self, rule: Rule, name: str, stored: Charge | None, now: int) -> None:
        """Keep the stored balance of a bucket whose quota is not defined, in case the quota is defined again.

        If `stored` is None, no balance is stored, and the bucket is full.
        """
        full = self._new(rule, rule.capacity, 0, now)
        self._gone.setdefault(name, full if stored is None else self._stored(rule, stored, now))

    def refill(self, name: str, rule: Rule, amount: int, now: int) -> Charge:
        """Add units to a bucket, up to its capacity, and return the refill as a charge with a negative amount."""
        self._make_room([name], now)
        bucket = self._bucket(name, rule, now)
        charge = bucket.charge(name, -min(amount, bucket.rule.capacity - bucket.balance), now)
        bucket.accrue(now)
        return charge

    def reload(self, rule_of: Callable[[str], Rule | None], now: int) -> list[Charge]:
        """Apply the rules of a new configuration, and return the changed balances, which the caller must store.

        `rule_of` returns the new rule of a bucket by the bucket's name. If it returns None, the bucket is out of use,
        and its balance is kept until a later configuration has a rule for it.
        """
        changed: list[Charge] = []
        for name, bucket in (self._gone | self._live).items():
            rule = rule_of(name)
            if rule is None:
                self._set_aside(name, bucket, now)
                continue
            self._live[name] = bucket
            self._gone.pop(name, None)
            if bucket.change(rule, now):
                changed.append(bucket.as_charge(name))
        return changed

    def _set_aside(self, name: str, bucket: LiveBucket, now: int) -> None:
        """Take a bucket out of use, because its quota is no longer defined.

        The balance is kept in case the quota is defined again. A full bucket without a reservation is forgotten,
        because a new bucket would be full too.
        """
        self._live.pop(name, None)
        self._gone.pop(name, None)
        if bucket.calls or not bucket.is_full(now):
            bucket.accrue(now)
            self._gone[name] = bucket
        if len(self._gone) > self._max:
            del self._gone[next(iter(self._gone))]

    def restore(self, rule: Rule, stored: Charge, now: int) -> Charge | None:
        """Add a bucket to memory with its stored balance, refilled up to now by the stored rule.

        If the rule has changed since then, return the new balance, which the caller must store. Do nothing if the
        bucket is in memory already.
        """
        if stored.bucket in self._live:
            return None
        bucket = self._stored(rule, stored, now)
        bucket.reported = bucket.used_percent() >= NOTICE_PERCENT
        if bucket.is_full(now):
            return None
        self._live[stored.bucket] = bucket
        return bucket.as_charge(stored.bucket) if bucket.change(rule, now) else None

    def levels(self, now: int) -> list[Level]:
        """Return the state of each bucket in use. No bucket is changed.

        A bucket is in use if it is not full, or if a call has a reservation in it.
        """
        buckets = list(self._live.items())
        return [bucket.level(name, now) for name, bucket in buckets if bucket.reserved or not bucket.is_full(now)]

    def level(self, name: str, rule: Rule, now: int) -> Level:
        """Return the state of one bucket. A bucket that is not in memory is full."""
        bucket = self._live.get(name)
        return Level(name, rule, rule.capacity, 0, None) if bucket is None else bucket.level(name, now)

    def used(self, now: int, by_workers: Mapping[str, int]) -> dict[str, float]:
        """Return how much of each quota is used, as the highest used fraction of all its buckets. An overdrawn bucket
        has a fraction above 1.

        Reserved amounts count as used. `by_workers` has what calls of workers have reserved, by the bucket's name. A
        bucket with a capacity of 0 has the fraction 1. No bucket is changed.
        """
        percents: dict[str, int] = {}
        for name, bucket in list(self._live.items()):
            rule = bucket.rule
            reserved = bucket.reserved + by_workers.get(name, 0)
            percent = spent_percent(rule.capacity, bucket.state(now)[0] - reserved)
            percents[rule.name] = max(percents.get(rule.name, 0), percent)
        return {name: percent / 100 for name, percent in percents.items()}

    def _links(self, claim: Claim, now: int) -> Links:
        rules = ((claim.bucket, claim.rule), *claim.overdraft)
        return [(name, self._bucket(name, rule, now)) for name, rule in rules]

    def _bucket(self, name: str, rule: Rule, now: int) -> LiveBucket:
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
            raise Exceeded([name], rule, 0, RETRY_AFTER_BUSY)
        bucket = self._live[name] = self._new(rule, rule.capacity, 0, now)
        return bucket

    def _stored(self, rule: Rule, stored: Charge, now: int) -> LiveBucket:
        """Return a bucket in its stored state: with the balance, the capacity and the refill of that time.

        All other properties come from `rule`, the present rule of the bucket's quota.
        """
        former = rule.with_terms(stored.terms)
        remainder = stored.remainder if 0 <= stored.remainder < former.period else 0
        at = min(nanoseconds(stored.at), now + MAX_AHEAD)
        return self._new(former, stored.balance, remainder, at)

    def _make_room(self, names: Sequence[str], now: int) -> None:
        """Make room in memory for those of the buckets in `names` that are not in memory yet.

        Buckets that are full and have no reservation may be removed. Call this before the new buckets are made, because
        they are full too, and could be removed at once.
        """
        new = sum([name not in self._live for name in names])
        if new:
            crowded = len(self._live) + new > self._max
            self._evict(new * (CROWDED_EVICTION_PROBES if crowded else EVICTION_PROBES), now)

    def _evict(self, count: int, now: int) -> None:
        """Examine the `count` least recently used buckets, and remove those that are full and have no reservation.

        The examined buckets that stay count as recently used, so that the next eviction examines other buckets.
        """
        for name in list(islice(self._live, count)):
            bucket = self._live[name]
            if not bucket.calls and bucket.is_full(now):
                del self._live[name]
            else:
                self._live.move_to_end(name)


def _end(reservation: Reservation) -> None:
    """Release the reserved amounts."""
    for name, bucket, held in reservation.parts:
        bucket.release(name, held)


def _chosen(reservation: Reservation, only: Container[tuple[str, ...]] | None) -> Sequence[Links]:
    """Return the chains of buckets in a reservation that are in `only`, or all of them if `only` is None. In `only`, a
    chain is a tuple of bucket names.
    """
    return [chain for chain in reservation.chains if only is None or tuple(name for name, _ in chain) in only]
