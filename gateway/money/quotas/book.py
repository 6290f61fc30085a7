"""All buckets of the gateway's process, in three ledgers: one of requests, one of tokens and one of money.

- A call makes reservations in all three ledgers, or in none.
- A call reserves amounts for each offer (model of a provider) that may serve it. It is charged in the buckets of the
  offer that served it. The other reservations are released.
- Only balances of money are stored. So the methods return only the charges of money.

The arithmetic is in `ledger.py`. `gateway.call.settlement` decides in which buckets a call is charged, and how much.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec

from gateway.money.quotas.bucket_chains import Exceeded
from gateway.money.quotas.buckets import SECOND, Bucket, Charge, Kind, Level, LiveBucket, Rule
from gateway.money.quotas.clock import SteadyClock
from gateway.money.quotas.definitions import Quota, template_of
from gateway.money.quotas.estimate import Estimate
from gateway.money.quotas.leases import Standing
from gateway.money.quotas.ledger import Ledger
from gateway.money.quotas.reservations import Claim, Part, Reservation
from gateway.money.quotas.settlements import BucketChain, ChainTerms, MoneyTerms, Settlement, bucket_names
from gateway.money.quotas.slices import SlicedBucket, Slices
from gateway.money.quotas.stored_balances import StoredBalance, as_charge
from gateway.money.quotas.transfer import BucketState, Hold, Holds

ORDER: Final[tuple[Kind, ...]] = ("requests", "tokens", "money")
"""Kinds of ledgers, in the order in which a call makes its reservations. If one ledger refuses, nothing is reserved in
the ledgers after it.
"""

Clock = Callable[[], int]
"""A function that returns the Unix time in nanoseconds, rounded to whole microseconds."""
MAX_KEPT: Final = 1_000
"""Maximum number of balances in one entry of the journal. An entry is one line, which must not become too long."""


class UnknownBucket(LookupError):
    """The error for a bucket whose name belongs to no defined quota."""


class CallReservation(msgspec.Struct, frozen=True):
    """The amounts that one call has reserved in all ledgers, until they are charged or released."""

    quotas: Quotas
    estimate: Estimate
    held: Mapping[Kind, Reservation]
    chains: Mapping[str, Collection[BucketChain]]
    """The chains of buckets to charge (`BucketChain`), by the name of the offer (model of a provider) that may serve
    the call.
    """
    costs: Mapping[str, int] = msgspec.field(default_factory=dict)
    """The maximum cost of the call in nanodollars, by the name of the offer (model of a provider). Offers without a
    known price are left out.
    """

    @property
    def notice(self) -> str:
        """The value of the response header that warns of nearly used quotas, such as `daily:alice@example.com;
        used=0.83`.

        It is "" if there is nothing to report.
        """
        notices = self.held["money"].notices
        return ", ".join(f"{name}; used={used // 100}.{used % 100:02}" for name, used in notices)

    def terms(self, offer: str) -> ChainTerms:
        """Return the chains of buckets that are charged if `offer` (a model of a provider) serves the call, in the form
        in which the journal stores them.

        A bucket pays what the buckets before it in the chain cannot pay. If this process is killed during the call, the
        next process reads the chains from the journal, and charges those of money.
        """
        rules = {(kind, name): bucket.rule for kind, held in self.held.items() for name, bucket, _ in held.parts}
        chains = self.chains.get(offer, ())
        return tuple(tuple((*bucket, rules[bucket].terms) for bucket in chain) for chain in chains)

    def charge(self, offer: str, settlement: Settlement) -> tuple[Charge, ...]:
        """Charge a call to the buckets of `offer`, the model of a provider that has served it. Release all its
        reservations.
        """
        return self.quotas.charge(self.held, self.chains[offer], settlement)

    def charge_each(self, parts: Sequence[tuple[str, Settlement]]) -> tuple[Charge, ...]:
        """Charge a call that used several offers (models of providers), and release the reservations.

        `parts` are pairs of an offer's name and the amounts to charge to the buckets of this offer.
        """
        return self.quotas.charge_each(self.held, [(self.chains[offer], settlement) for offer, settlement in parts])

    def release(self) -> tuple[Charge, ...]:
        """Release the reservations, and charge nothing."""
        return self.quotas.charge(self.held, (), Settlement())


@dataclass(slots=True)
class Quotas:
    """All buckets of the gateway's process, by kind and name."""

    clock: Clock = field(default_factory=SteadyClock)
    slices: Slices | None = None
    """The state of this process's slices, the parts of shared balances that only this process may spend. It is None if
    no other process uses the buckets.
    """
    sliced_kinds: tuple[Kind, ...] = ("money",)
    """The kinds of buckets whose balances are shared with other processes if `slices` is set. If `slices` is None, no
    bucket is shared.
    """
    keep: Callable[[Sequence[Charge]], None] = field(default=lambda _charges: None)
    """The function that stores the new balances after a refill by an administrator, and after a change of quotas.

    It is not used after a call, because the call's record contains the new balances.
    """
    nearly_used: Callable[[Level], None] = field(default=lambda _level: None)
    """The function that is called as soon as calls have used `NOTICE_PERCENT` of a bucket's capacity. For the same
    bucket it is called again only after a refill.
    """
    reserved_by_workers: Mapping[str, int] = field(default_factory=dict, init=False)
    """The amounts that calls of workers have reserved in buckets of money, by the bucket's name, according to the last
    reports of the workers (`process/workers/states.py`).

    They are included in the results of `levels`, `level` and `used`.
    """
    rules: Mapping[str, Rule] = field(default_factory=dict, init=False)
    """Capacity and refill of the buckets of money, by the name of the quota's definition."""
    _prefixes: Mapping[str, Rule] = field(default_factory=dict, init=False)
    """The rules of quotas with a template. The key is the quota's name without the template: `daily:` for the quota
    `daily:<user>`."""
    definitions: Mapping[str, Quota] = field(default_factory=dict, init=False)
    _unclaimed: dict[str, StoredBalance] = field(default_factory=dict, init=False)
    """Stored balances, by the bucket's name, of quotas that are not defined now. They are kept in case the quota is
    defined again.
    """
    _ledgers: Mapping[Kind, Ledger] = field(init=False)

    def __post_init__(self) -> None:
        self._ledgers = {kind: self._ledger(kind) for kind in ORDER}

    def _ledger(self, kind: Kind) -> Ledger:
        slices = self.slices if kind in self.sliced_kinds else None
        new = LiveBucket if slices is None else partial(SlicedBucket, slices=slices)
        return Ledger(nearly_used=self._report, new=new) if kind == "money" else Ledger(new=new)

    def _report(self, level: Level) -> None:
        self.nearly_used(level)

    @property
    def _money(self) -> Ledger:
        return self._ledgers["money"]

    def configured(self, quotas: Mapping[str, Quota]) -> None:
        """Apply the quotas of a configuration.

        - Buckets keep their balances, after a last refill by the old rule. A balance above the new capacity is lowered
          to the new capacity. A full bucket stays full.
        - A bucket whose quota is not defined any more keeps its balance until the quota is defined again. Otherwise one
          could fill buckets by removing their quota for a short time.
        """
        self.definitions = quotas
        if self.slices is not None:
            self.slices.since = self.clock() / SECOND
        self.rules = {name: quota.rule for name, quota in quotas.items()}
        self._prefixes = {
            name.removesuffix(template): rule for name, rule in self.rules.items() if (template := template_of(name))
        }
        self._keep(self._money.reload(self.rule_of, self.clock()))
        self.restore(self._unclaimed.values())

    def restore(self, balances: Iterable[StoredBalance]) -> None:
        """Set buckets to balances that an earlier process stored. A balance whose quota is not defined is kept until
        the quota is defined.
        """
        waiting, self._unclaimed = tuple(balances), {}
        now = self.clock()
        changed: list[Charge] = []
        for balance in waiting:
            rule = self.rule_of(balance.bucket)
            if rule is None:
                self._unclaimed[balance.bucket] = balance
                continue
            charge = self._money.restore(rule, as_charge(balance), now)
            changed += [charge] if charge else []
        self._keep(changed)

    def sliced(self, name: str, kind: Kind = "money") -> SlicedBucket | None:
        """Return a shared bucket, or None if it is not in memory. This process may hold a slice (a part) of its
        balance.
        """
        found = self._ledgers[kind].get(name)
        return found if isinstance(found, SlicedBucket) else None

    def all_sliced(self) -> dict[Bucket, SlicedBucket]:
        """Return all buckets in memory that this process shares with other processes, by kind and name."""
        return {
            Bucket(kind, name): bucket
            for kind, ledger in self._ledgers.items()
            for name, bucket in ledger.buckets()
            if isinstance(bucket, SlicedBucket)
        }

    def show(self, standings: Iterable[Standing]) -> None:
        """Set the displayed balances of shared buckets to those that the bank reports.

        The bank is the service that keeps the balances for several gateways or workers (`leases.py`).
        """
        new: list[StoredBalance] = []
        for standing in standings:
            if (bucket := self.sliced(standing.bucket)) is not None:
                bucket.show(standing)
            else:
                new.append(standing)
        if new:
            self.restore([*self._unclaimed.values(), *new])

    def _keep(self, changed: Sequence[Charge]) -> None:
        for start in range(0, len(changed), MAX_KEPT):
            self.keep(changed[start : start + MAX_KEPT])

    def reserve(self, claims: Sequence[Claim]) -> Mapping[Kind, Reservation]:
        """Reserve the amounts of a call, and return the reservations by kind.

        A claim is an amount to reserve in a bucket or in a chain of buckets. Raises `Exceeded`, and reserves nothing,
        if a bucket or a chain refuses its claim.
        """
        now = self.clock()
        held: dict[Kind, Reservation] = {}
        try:
            for kind in ORDER:
                held[kind] = self._ledgers[kind].reserve([claim for claim in claims if claim.rule.kind == kind], now)
        except Exceeded:
            for kind, reservation in held.items():
                self._ledgers[kind].release(reservation, now)
            raise
        return held

    def charge(
        self, held: Mapping[Kind, Reservation], chains: Collection[BucketChain], settlement: Settlement
    ) -> tuple[Charge, ...]:
        """Charge the amounts in `settlement` to the chains of buckets in `chains`, and release all reservations
        (`held`). Chains without a reservation are not charged.

        Return the charges to buckets of money.
        """
        now = self.clock()
        used: dict[Kind, int] = {"requests": settlement.requests, "tokens": settlement.tokens}
        for kind, amount in used.items():
            if held[kind].chains:
                self._ledgers[kind].charge(held[kind], amount, now, only=bucket_names(chains, kind))
        only = bucket_names(chains, "money")
        return self._money.charge(held["money"], settlement.money, now, only=only, estimated=settlement.estimated)

    def charge_each(
        self, held: Mapping[Kind, Reservation], parts: Sequence[tuple[Collection[BucketChain], Settlement]]
    ) -> tuple[Charge, ...]:
        """Charge several attempts of one call, each to its own chains of buckets. Release all reservations (`held`).

        A bucket that pays for several attempts gets one charge with the sum of their tokens or money. The call counts
        as one request, however many attempts it took. Return the charges to buckets of money.
        """
        now = self.clock()
        asked = [chain for chains, settlement in parts if settlement.requests for chain in chains]
        self._ledgers["requests"].charge(held["requests"], 1, now, only=bucket_names(asked, "requests"))
        tokens = [Part(settlement.tokens, bucket_names(chains, "tokens")) for chains, settlement in parts]
        self._ledgers["tokens"].charge_parts(held["tokens"], tokens, now)
        money = [Part(due.money, bucket_names(chains, "money"), due.estimated) for chains, due in parts]
        return self._money.charge_parts(held["money"], money, now)

    def charge_unreserved(self, chains: MoneyTerms, amount: int) -> tuple[Charge, ...]:
        """Charge a call to chains of money buckets, and return the charges.

        The call has no reservation, because its process was killed. If the quota of a bucket is no longer defined, the
        bucket is charged too, in case the quota is defined again.
        """
        now = self.clock()
        self._set_undefined_aside((bucket for chain in chains for bucket in chain), now)
        rules = [[(name, self.rule_of(name) or Rule(name, 0)) for name, _ in chain] for chain in chains]
        return self._money.charge_unreserved(rules, amount, now)

    def _set_undefined_aside(self, buckets: Iterable[tuple[str, str]], now: int) -> None:
        """Take buckets out of use, and keep their balances in memory. Buckets whose quota is defined are not changed.

        `buckets` are pairs of a bucket's name and its rule as text (`Rule.terms`).
        """
        for name, terms in buckets:
            if self.rule_of(name) is None:
                stored = self._unclaimed.pop(name, None)
                charge = None if stored is None else as_charge(stored)
                self._money.set_aside(Rule(name, 0).with_terms(terms), name, charge, now)

    def bucket(self, key: Bucket) -> LiveBucket | None:
        """Return a bucket, or None if it is not in memory."""
        return self._ledgers[key.kind].get(key.name)

    def shared_bucket(self, key: Bucket, rule: Rule) -> LiveBucket:
        """Return a bucket, refilled up to now, from whose balance workers get slices (parts).

        If the bucket is not in memory, it is added with the rule of its quota. `rule` is used if this process has no
        such quota.
        """
        defined = self.rule_of(key.name) if key.kind == "money" else None
        return self._ledgers[key.kind].shared(key.name, defined or rule, self.clock())

    def take(self, bucket: Bucket, terms: str, amount: int, *, estimated: bool = False) -> Charge:
        """Charge a bucket for a call that a worker has served, and return the charge.

        `terms` is the rule by which the worker charged the call, as text (`Rule.terms`). It is used if the quota is not
        defined in this process.
        """
        now = self.clock()
        if bucket.kind == "money":
            self._set_undefined_aside([(bucket.name, terms)], now)
        defined = self.rule_of(bucket.name) if bucket.kind == "money" else None
        rule = defined or Rule(bucket.name, 0, kind=bucket.kind).with_terms(terms)
        return self._ledgers[bucket.kind].take(bucket.name, rule, amount, now, estimated=estimated)

    def limits(self) -> list[BucketState]:
        """Return the buckets of rate limits, for the process that replaces this one."""
        limits = [self._ledgers[kind] for kind in ORDER if kind != "money"]
        return [BucketState.of(name, bucket) for ledger in limits for name, bucket in ledger.buckets()]

    def adopt_limits(self, states: Iterable[BucketState]) -> None:
        """Set the buckets of rate limits to the states that the replaced process handed over."""
        for state in states:
            state.apply(self._ledgers[state.rule.kind])

    def adopt(self, holds: Holds) -> Mapping[Kind, Reservation]:
        """Repeat in this process the reservations that a call has in the replaced process. No bucket refuses them."""
        now = self.clock()
        held = {kind: holds.get(kind, Hold((), ())) for kind in ORDER}
        self._set_undefined_aside(((name, rule.terms) for name, rule, _ in held["money"].parts), now)
        rules = {name: known for name, _, _ in held["money"].parts if (known := self.rule_of(name)) is not None}
        return {
            kind: hold.reserve(self._ledgers[kind], rules if kind == "money" else {}, now)
            for kind, hold in held.items()
        }

    def refill(self, bucket: str, amount: int) -> Charge:
        """Add nanodollars to a bucket, up to the bucket's capacity.

        Raises `UnknownBucket` if the bucket belongs to no defined quota.
        """
        rule = self.rule_of(bucket)
        if rule is None:
            raise UnknownBucket(bucket)
        charge = self._money.refill(bucket, rule, amount, self.clock())
        self.keep([charge])
        return charge

    def used(self) -> Mapping[str, float]:
        """Return the used fraction of each quota's emptiest bucket, for metrics.

        Amounts that calls of this process or of its workers have reserved count as used. A quota of $0 counts as
        completely used. This method may be called from any thread.
        """
        untouched = {name: 0.0 if rule.capacity else 1.0 for name, rule in self.rules.items()}
        return untouched | self._money.used(self.clock(), self.reserved_by_workers)

    def levels(self) -> Sequence[Level]:
        """Return the state of each bucket of money, except idle buckets, which are full and have no reservation.

        This method may be called from any thread.
        """
        return [self._with_workers(level) for level in self._money.levels(self.clock())]

    def _with_workers(self, level: Level) -> Level:
        """Return `level`, with `reserved` increased by the amount that calls of workers have reserved in the bucket."""
        by_workers = self.reserved_by_workers.get(level.bucket, 0)
        return level._replace(reserved=level.reserved + by_workers) if by_workers else level

    def reserved(self) -> Mapping[str, int]:
        """Return the amount that calls of this process have reserved in each bucket of money, by the bucket's name."""
        return {name: bucket.reserved for name, bucket in list(self._money.buckets()) if bucket.reserved}

    def shared(self) -> list[str]:
        """Return the names of the buckets that all callers share."""
        return [name for name in self.rules if not template_of(name)]

    def level(self, bucket: str) -> Level:
        """Return the state of one bucket. A bucket that is not in memory is full.

        Raises `UnknownBucket` if the bucket belongs to no defined quota.
        """
        rule = self.rule_of(bucket)
        if rule is None:
            raise UnknownBucket(bucket)
        return self._with_workers(self._money.level(bucket, rule, self.clock()))

    def rule_of(self, bucket: str) -> Rule | None:
        """Return the rule of the quota to which a bucket belongs, or None if there is no such quota.

        - A quota without a template has one bucket with the quota's name.
        - A bucket of the quota `team:eu:<user>` has a name that begins with `team:eu:`. If the names of several quotas
          fit, the quota with the longest name is used.
        """
        if bucket in self.rules and not template_of(bucket):
            return self.rules[bucket]
        fitting = [prefix for prefix in self._prefixes if bucket.startswith(prefix) and bucket != prefix]
        return self._prefixes[max(fitting, key=len)] if fitting else None
