"""All buckets of the gateway's process, in three ledgers: one of requests, one of tokens and one of money.

- A call makes reservations in all three ledgers, or in none.
- An offer is a model of a provider. A call is charged in the buckets of the offer that served it. Its reservations in
  other buckets are released.
- Only balances of money are stored and survive a restart. So the methods return only the charges of money.

The arithmetic is in `ledger.py`. `gateway.call.settlement` decides in which buckets a call counts and how much it has
used. This module does not use calls, grants or models.
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
"""Kinds of ledgers, in the order in which a call makes reservations. If one ledger refuses, the next ones are not
used."""

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
        """Return the chains of buckets that are charged if `offer` (a model of a provider) serves the call, as the
        journal stores them.

        A chain is charged in order: what its first bucket cannot pay, the next one pays. If this process is killed
        during the call, the next process reads the chains from the journal, and charges the chains of money buckets.
        """
        rules = {(kind, name): bucket.rule for kind, held in self.held.items() for name, bucket, _ in held.parts}
        chains = self.chains.get(offer, ())
        return tuple(tuple((*bucket, rules[bucket].terms) for bucket in chain) for chain in chains)

    def charge(self, offer: str, settlement: Settlement) -> tuple[Charge, ...]:
        """Charge the buckets of `offer`, the model of a provider that served the call, and release the reservations."""
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
    """The kinds of buckets whose balances this process shares with other processes. It has no effect if `slices` is
    None.
    """
    keep: Callable[[Sequence[Charge]], None] = field(default=lambda _charges: None)
    """The function that stores new balances after an administrator's refill, and after a change of quotas.

    After a call, the new balances are stored with the record of the call."""
    nearly_used: Callable[[Level], None] = field(default=lambda _level: None)
    """A function that is called when calls have used `NOTICE_PERCENT` of a bucket's capacity. It is called again for
    the same bucket only after a refill."""
    reserved_by_workers: Mapping[str, int] = field(default_factory=dict, init=False)
    """The amount that calls of workers have reserved in each bucket of money, by the bucket's name, as the workers last
    reported it (`process/workers/states.py`). The results of `levels`, `level` and `used` include these amounts.
    """
    rules: Mapping[str, Rule] = field(default_factory=dict, init=False)
    """Capacity and refill of the buckets of money, by the name of the quota's definition."""
    _prefixes: Mapping[str, Rule] = field(default_factory=dict, init=False)
    """The rules of quotas with a template. The key is the quota's name without the template: `daily:` for the quota
    `daily:<user>`."""
    definitions: Mapping[str, Quota] = field(default_factory=dict, init=False)
    _unclaimed: dict[str, StoredBalance] = field(default_factory=dict, init=False)
    """Stored balances of buckets whose quota is not defined at present. They are used if the quota is defined again."""
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

        Buckets are first refilled at the old rates. They keep their balances. A balance above the new capacity is
        lowered to it, and a full bucket stays full.

        A bucket whose quota is no longer defined keeps its balance until the quota is defined again. Otherwise,
        removing a quota for a short time would fill its buckets.
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
        """Set buckets to the balances that an earlier process stored.

        If the quota of a balance is not defined, the balance is kept until the quota is defined.
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
        """Set shared buckets to the balances that the bank reports.

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
        """Charge the amounts in `settlement` to the reserved chains of buckets that are in `chains`, and release all
        reservations (`held`).

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
        """Charge several attempts of one call, each to its own chains of buckets, and release the reservations.

        A bucket that several attempts share is charged the sum of their tokens or money. The call counts as one
        request, however many attempts it took.
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
        """Take a bucket out of use if its quota is not defined, but keep its balance. Do this for all `buckets`.

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
        """Return a bucket, refilled up to now, so that workers can get slices (parts) of its balance.

        A new bucket has the rule of its quota, or `rule` if the quota is not defined in this process.
        """
        defined = self.rule_of(key.name) if key.kind == "money" else None
        return self._ledgers[key.kind].shared(key.name, defined or rule, self.clock())

    def take(self, bucket: Bucket, terms: str, amount: int, *, estimated: bool = False) -> Charge:
        """Charge a bucket for a call of a worker, and return the charge.

        `terms` is the rule of the bucket in the worker, as text (`Rule.terms`).
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
        """Repeat in this process the reservations that a call had in the replaced process. None of them is refused."""
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
        """Return `level`, with the amount that calls of workers have reserved in the bucket added to `reserved`."""
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
