"""One bucket of a quota or rate limit: its rule, its exact balance over time, and its charges.

- Amounts are integers: nanodollars, tokens or requests. Times are integer nanoseconds of Unix time.
- A balance is an integer plus an exact fraction of a unit, so that no refill is rounded.
- The time of a bucket's balance never goes back. If a function is called with an earlier time, nothing is added to the
  balance.
- A bucket refills evenly over time, or is filled at the start of each calendar window.
- If the rule changes, the bucket is first refilled by the old rule. A full bucket stays full.

`ledger.py` has all buckets of one kind, and makes the reservations of calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, get_args

from gateway.money.quotas.windows import Unit, UnknownZone, Window, time_zone

SECOND: Final = 1_000_000_000
"""Number of nanoseconds in a second."""
NOTICE_PERCENT: Final = 80
"""Percentage of a bucket's capacity. A bucket is reported as nearly used up when calls have used this percentage."""
_QUIET_PERCENT: Final = 70
"""Percentage of a bucket's capacity. After a bucket was reported as nearly used up, its used percentage must fall below
this number before it is reported again.

The number is lower than `NOTICE_PERCENT`. Otherwise small calls and a slow refill near that percentage would cause many
reports.
"""

Kind = Literal["money", "requests", "tokens"]
"""The kind of a bucket. It determines the unit of amounts: nanodollars in a quota (`money`), and requests or tokens in
a rate limit."""


class Bucket(NamedTuple):
    """The identity of a bucket. Buckets of different kinds may have the same name."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Rule:
    """The capacity and refill of every bucket of one quota or rate limit."""

    name: str
    capacity: int
    """Maximum number of units in a bucket. A new bucket has this number."""
    amount: int = 0
    """Units that are added to a bucket in each period, evenly over the period. The value is 0 without a refill."""
    period: int = SECOND
    """Length in nanoseconds of the period in which `amount` is added."""
    notify: bool = False
    """True if an empty bucket refuses no calls and is only reported."""
    kind: Kind = "money"
    window: Window | None = None
    """The calendar window at whose start a bucket is filled. It is None if the rule has no window."""

    @property
    def terms(self) -> str:
        """The rule as text, which is stored with a balance.

        Examples are `100 5/86400000000000` and, for a rule with a window, `100 month Europe/Berlin`.
        """
        if self.window is not None:
            return f"{self.capacity} {self.window.unit} {self.window.zone}"
        return f"{self.capacity} {self.amount}/{self.period}"

    def with_terms(self, terms: str) -> Rule:
        """Return this rule, with its capacity and refill replaced by those in `terms`, a stored text (see
        `Rule.terms`).

        Return this rule unchanged if `terms` cannot be read. An older release stored "" as `terms`.
        """
        try:
            capacity, refill, *zone = terms.split(" ", 2)
            if zone:
                return replace(self, capacity=int(capacity), amount=0, period=SECOND, window=_window(refill, *zone))
            amount, period = map(int, refill.split("/"))
            return replace(self, capacity=int(capacity), amount=amount, period=max(1, period), window=None)
        except ValueError:
            return self


def _window(unit: str, zone: str) -> Window:
    """Return the window with a stored unit and zone, such as `month` and `Europe/Berlin`.

    Raises `ValueError` if the unit or the time zone is unknown.
    """
    known: dict[str, Unit] = {name: name for name in get_args(Unit)}
    if unit not in known:
        raise UnknownZone(unit)
    time_zone(zone)
    return Window(known[unit], zone)


class Charge(NamedTuple):
    """An amount that was taken from a bucket, and the balance afterwards.

    A restarted gateway continues with this balance.
    """

    bucket: str
    amount: int
    """Number of units that were taken from the bucket. It is negative for a refill by an administrator, and 0 if the
    charge only stores a balance.
    """
    balance: int
    remainder: int
    """Numerator of the fraction of a unit that the bucket has in addition to `balance`. The denominator is
    `Rule.period`."""
    at: float
    """Unix time of the charge in seconds."""
    estimated: bool = False
    """True if the amount is partly estimated, because the provider did not report everything that the call used."""
    terms: str = ""
    """The rule of the bucket as text (`Rule.terms`)."""

    @property
    def left(self) -> tuple[str, int, int, float, str]:
        """The fields to store as a balance: the bucket's name, balance, remainder, Unix time in seconds, and rule as
        text.
        """
        return self.bucket, self.balance, self.remainder, self.at, self.terms


def merged(charges: Iterable[Charge]) -> tuple[Charge, ...]:
    """Return one charge for each bucket: the sum of its charges, with the balance after the last charge."""
    sums: dict[str, Charge] = {}
    for charge in charges:
        former = sums.get(charge.bucket)
        if former is not None:
            amount, estimated = former.amount + charge.amount, former.estimated or charge.estimated
            sums[charge.bucket] = charge._replace(amount=amount, estimated=estimated)
        else:
            sums[charge.bucket] = charge
    return tuple(sums.values())


class Level(NamedTuple):
    """The state of a bucket at one time, as the API shows it."""

    bucket: str
    rule: Rule
    balance: int
    reserved: int
    full_at: float | None
    """Unix time in seconds at which the bucket will be full if nothing is taken from it.

    The value is None if the bucket is full, or will never be full.
    """

    @property
    def spent(self) -> float:
        """The used fraction of the capacity, without reserved amounts. It is 1 if the capacity is 0."""
        return spent_percent(self.rule.capacity, self.balance) / 100


@dataclass(slots=True)
class LiveBucket:
    """A bucket in memory: its rule, and its balance at the time `at`."""

    rule: Rule
    balance: int
    remainder: int
    at: int
    """Unix time in nanoseconds, which never goes back. The balance includes all refills up to this time."""
    reserved: int = 0
    leased: int = 0
    """Amount that the workers of this process hold in slices (parts of the balance) and have not spent (`slices.py`).
    """
    elsewhere: int = 0
    """The amount of the balance that other gateways hold, according to the last answer of the quota bank (`leases.py`).
    0 if no other gateway shares the bucket.
    """
    calls: int = 0
    """Number of calls in flight with a reservation in this bucket. A reservation of 0 units counts too."""
    reported: bool = False
    """True if the bucket was reported as nearly used up, and its use has not been below `_QUIET_PERCENT` since then."""
    _border: int = 0
    """The next start of a calendar window after `at`, in nanoseconds of Unix time. It is 0 without a window."""

    def __post_init__(self) -> None:
        self._border = self._next_border()

    @property
    def own(self) -> int:
        """The amount that the calls of this process may use, including what they have already reserved.

        It is the balance without the slices, the parts of the balance that only workers may spend. If several gateways
        share the bucket, it is this gateway's slice (`slices.py`).
        """
        return self.balance - self.leased

    @property
    def can_ask(self) -> bool:
        """Whether this gateway may now request more of the bucket's balance from the bank (`leases.py`).

        The bank keeps the balances of buckets that several gateways share. Other buckets have no bank.
        """
        return False

    @property
    def is_expired(self) -> bool:
        """Whether the gateway must not spend from its slice (its part of the bucket's balance) any more.

        This is so if the bank has not renewed the lease, the time for which it granted the slice, and calls may not use
        the last known balances (`leases.py`).
        """
        return False

    def least(self, _amount: int) -> int:
        """Return the minimum unreserved amount with which a call of `_amount` may begin: 1 unit, whatever the call's
        amount is.
        """
        return 1

    def reserve(self, _name: str, amount: int) -> None:
        """Reserve an amount for a call."""
        self.reserved += amount
        self.calls += 1

    def release(self, _name: str, amount: int) -> None:
        """Release an amount that `reserve` has reserved for a call."""
        self.reserved -= amount
        self.calls -= 1

    def lend(self, _name: str, leased: int) -> None:
        """Set `leased`, the amount that workers still hold in slices (parts of the balance)."""
        self.leased = leased

    def _next_border(self) -> int:
        return self.rule.window.after(self.at) if self.rule.window else 0

    def state(self, now: int) -> tuple[int, int]:
        """Return the balance at the time `now`, refilled up to then, and its remainder (see `Charge.remainder`). The
        bucket is not changed.
        """
        rule = self.rule
        if self.balance >= rule.capacity:
            return rule.capacity, 0
        if now <= self.at:
            return self.balance, self.remainder
        if rule.window is not None:
            return (rule.capacity, 0) if now >= self._border else (self.balance, 0)
        gained, remainder = divmod(rule.amount * (now - self.at) + self.remainder, rule.period)
        return (rule.capacity, 0) if self.balance + gained >= rule.capacity else (self.balance + gained, remainder)

    def is_full(self, now: int) -> bool:
        return not self.leased and self.state(now)[0] >= self.rule.capacity

    def accrue(self, now: int) -> None:
        self.balance, self.remainder = self.state(now)
        self.at = max(self.at, now)
        if self.rule.window is not None and self.at >= self._border:
            self._border = self._next_border()
        if self.reported and self.used_percent() < _QUIET_PERCENT:
            self.reported = False

    def charge(self, name: str, amount: int, now: int, *, estimated: bool = False) -> Charge:
        """Take an amount from the bucket. If the bucket has less, its balance becomes negative."""
        self.accrue(now)
        self.balance -= amount
        return self.as_charge(name, amount, estimated=estimated)

    def as_charge(self, name: str, amount: int = 0, *, estimated: bool = False) -> Charge:
        """Return a charge with the bucket's present balance. `amount` is the amount that was taken from the bucket just
        before.
        """
        return Charge(name, amount, self.balance, self.remainder, self.at / SECOND, estimated, self.rule.terms)

    def change(self, rule: Rule, now: int) -> bool:
        """Apply a new rule from `now` on. Return whether the capacity, the refill (an amount for each period) or the
        window has changed.

        A full bucket stays full. If the period of the refill changes, the balance loses its fraction of a unit, because
        the denominator of the fraction is the old period.
        """
        self.accrue(now)
        before, full = self.rule, self.balance >= self.rule.capacity
        self.rule = rule
        if before.terms == rule.terms:
            return False
        self.balance = rule.capacity if full else min(self.balance, rule.capacity)
        if full or before.period != rule.period or rule.window is not None or self.balance >= rule.capacity:
            self.remainder = 0
        self._border = self._next_border()
        return True

    def report(self) -> bool:
        """Return whether the bucket must be reported as nearly used up. If so, remember it as reported, so that the
        next call returns False.
        """
        if self.reported or self.used_percent() < NOTICE_PERCENT:
            return False
        self.reported = True
        return True

    def used_percent(self) -> int:
        """Return the percentage of the capacity that calls have used, without reserved amounts."""
        return spent_percent(self.rule.capacity, self.balance)

    def reaches(self, balance: int) -> int | None:
        """Return the nanoseconds from `self.at` until the bucket has `balance` units, or None if it never will."""
        rule = self.rule
        if self.balance >= balance:
            return 0
        if balance > rule.capacity:
            return None
        if rule.window is not None:
            return self._border - self.at
        if not rule.amount:
            return None
        return max(0, -((self.remainder - (balance - self.balance) * rule.period) // rule.amount))

    def level(self, name: str, now: int) -> Level:
        """Return the state at the time `now`. The bucket itself is not changed."""
        then = copy(self)
        then.accrue(now)
        wait = then.reaches(self.rule.capacity)
        return Level(name, self.rule, then.balance, self.reserved, (then.at + wait) / SECOND if wait else None)


def nanoseconds(seconds: float) -> int:
    """Convert a stored Unix time from seconds to nanoseconds. The result is exact to the microsecond."""
    return round(seconds * 1_000_000) * 1_000


def spent_percent(capacity: int, balance: int) -> int:
    """Return the used percentage of a capacity, rounded down, or 100 for a capacity of 0."""
    return (capacity - balance) * 100 // capacity if capacity else 100
