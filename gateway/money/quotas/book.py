"""The buckets of a process: one ledger of money, one of requests and one of tokens.

- A call reserves in all three ledgers, or in none.
- A call is charged in the buckets of the offer that served it; what it holds in other buckets is released.
- Only charges of money are returned, because only balances of money outlive the process.

The arithmetic is in `ledger.py`. Which buckets a call counts in, and what it has used, is decided in
`gateway.call.settlement`: nothing here knows a call, a grant or a model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import time_ns
from typing import Final, Protocol

from gateway.money.quotas.definitions import Quota, template_of
from gateway.money.quotas.estimate import Estimate
from gateway.money.quotas.ledger import Bucket, Charge, Claim, Exceeded, Kind, Ledger, Level, Reservation, Rule

ORDER: Final[tuple[Kind, ...]] = ("requests", "tokens", "money")
"""The ledgers in the order in which a call reserves in them; the first one that refuses names the reason."""

Clock = Callable[[], int]
"""A source of Unix time in nanoseconds."""


class StoredBalance(Protocol):
    """The last balance of a bucket, as a store returns it (`store.entries.Balance`)."""

    @property
    def bucket(self) -> str: ...
    @property
    def amount(self) -> int: ...
    @property
    def remainder(self) -> int: ...
    @property
    def at(self) -> float: ...


class UnknownBucket(LookupError):
    """No definition makes a bucket of this name."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """Amounts that a call has used."""

    requests: int = 0
    tokens: int = 0
    money: int = 0
    """Nanodollars."""
    estimated: bool = False
    """The provider did not report all of it."""


@dataclass(frozen=True, slots=True)
class CallReservation:
    """The units that one call holds in the ledgers until it is charged or released."""

    quotas: Quotas
    estimate: Estimate
    held: Mapping[Kind, Reservation]
    buckets: Mapping[str, Collection[Bucket]]
    """The buckets that the call counts in, by the name of the offer that serves it."""

    @property
    def notice(self) -> str:
        """The value of the response's header: `daily:alice@example.com; used=0.83`; "" if there is none."""
        notices = self.held["money"].notices
        return ", ".join(f"{name}; used={used // 100}.{used % 100:02}" for name, used in notices)

    def charge(self, offer: str, settlement: Settlement) -> tuple[Charge, ...]:
        """Charge the buckets of the offer that served the call, and release everything else that is held."""
        return self.quotas.charge(self, self.buckets[offer], settlement)

    def release(self) -> tuple[Charge, ...]:
        """Release everything that is held, and charge nothing."""
        return self.quotas.charge(self, (), Settlement())


@dataclass(slots=True)
class Quotas:
    """The buckets of a process."""

    clock: Clock = time_ns
    refilled: Callable[[Charge], None] = field(default=lambda _charge: None)
    """The function that stores a refill: the only change of a balance that is not part of a call."""
    rules: Mapping[str, Rule] = field(default_factory=dict, init=False)
    """The rules of buckets of money, by the name of their definition."""
    definitions: Mapping[str, Quota] = field(default_factory=dict, init=False)
    _unclaimed: dict[str, StoredBalance] = field(default_factory=dict, init=False)
    """Stored balances of buckets without a definition, in case the definition comes back."""
    _ledgers: Mapping[Kind, Ledger] = field(default_factory=lambda: {kind: Ledger() for kind in ORDER}, init=False)

    @property
    def _money(self) -> Ledger:
        return self._ledgers["money"]

    def configured(self, quotas: Mapping[str, Quota]) -> None:
        """Apply definitions. Balances stay, and are capped.

        Buckets whose definition is gone are set aside with their balance until the definition comes back: a quota is
        not renewed by removing it for a moment.
        """
        self.definitions = quotas
        self.rules = {name: quota.rule for name, quota in quotas.items()}
        self._money.reload(self.rules, self.clock())
        self.restore(self._unclaimed.values())

    def restore(self, balances: Iterable[StoredBalance]) -> None:
        """Continue with the balances of an earlier process; those without a definition wait for one."""
        waiting, self._unclaimed = tuple(balances), {}
        for balance in waiting:
            rule = self.rule_of(balance.bucket)
            if rule is None:
                self._unclaimed[balance.bucket] = balance
            else:
                self._money.restore(balance.bucket, rule, balance.amount, balance.remainder, balance.at)

    def reserve(self, claims: Sequence[Claim]) -> Mapping[Kind, Reservation]:
        """Reserve all claims, or none of them. Raises `Exceeded`."""
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
        self, reservation: CallReservation, buckets: Collection[Bucket], settlement: Settlement
    ) -> tuple[Charge, ...]:
        """Charge what a call has used to `buckets`, and release what it held; return the charges of money."""
        now = self.clock()
        used: dict[Kind, int] = {"requests": settlement.requests, "tokens": settlement.tokens}
        for kind, amount in used.items():
            self._ledgers[kind].charge(reservation.held[kind], amount, now, only=_names(buckets, kind))
        only = _names(buckets, "money")
        money = reservation.held["money"]
        return self._money.charge(money, settlement.money, now, only=only, estimated=settlement.estimated)

    def refill(self, bucket: str, amount: int) -> Charge:
        """Add nanodollars to a bucket, up to its capacity. Raises `UnknownBucket`."""
        rule = self.rule_of(bucket)
        if rule is None:
            raise UnknownBucket(bucket)
        charge = self._money.refill(bucket, rule, amount, self.clock())
        self.refilled(charge)
        return charge

    def used(self) -> Mapping[str, float]:
        """Return the used part of the emptiest bucket of each definition; for metrics, from any thread."""
        return dict.fromkeys(self.rules, 0.0) | self._money.used(self.clock())

    def levels(self) -> Sequence[Level]:
        """Return every bucket of money that is not full; from any thread."""
        return self._money.levels(self.clock())

    def shared(self) -> list[str]:
        """Return the buckets of definitions without a template, which belong to no single caller."""
        return [name for name in self.rules if not template_of(name)]

    def level(self, bucket: str) -> Level:
        """Return one bucket, also one that is full. Raises `UnknownBucket`."""
        rule = self.rule_of(bucket)
        if rule is None:
            raise UnknownBucket(bucket)
        return self._money.level(bucket, rule, self.clock())

    def rule_of(self, bucket: str) -> Rule | None:
        """Return the rule of the definition that makes a bucket of this name; None if there is none.

        A definition of the same name counts first, then the longest template that the name begins with:
        `team:eu:<user>` begins as `team:<user>` does.
        """
        if bucket in self.rules and not template_of(bucket):
            return self.rules[bucket]
        prefixes = {
            name.removesuffix(template): rule for name, rule in self.rules.items() if (template := template_of(name))
        }
        fitting = [prefix for prefix in prefixes if bucket.startswith(prefix) and bucket != prefix]
        return prefixes[max(fitting, key=len)] if fitting else None


def _names(buckets: Iterable[Bucket], kind: Kind) -> frozenset[str]:
    return frozenset(bucket.name for bucket in buckets if bucket.kind == kind)
