"""Which buckets a call is charged to: what the grants say, turned into claims on two ledgers, and settled at the end.

Money is charged to the quotas that the configuration defines; requests and tokens to the rate limits of capabilities,
which need no definition. A call that an alias or several providers could send to more than one model reserves in the
buckets of all of them, and is charged in those of the one that served it. The arithmetic is `ledger.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic, time_ns
from typing import Final, Protocol

from gateway.access.identity.caller import Identity
from gateway.call.chain import Call, Candidate
from gateway.config.model import Quota, RateLimit
from gateway.contract.errors import QUOTA, RATE_LIMIT, Problem, Refused
from gateway.contract.flag import Usage
from gateway.money.prices.rates import Priced
from gateway.money.quotas.estimate import Estimate, estimate, probable, rated
from gateway.money.quotas.ledger import (
    MAX_RETRY_AFTER,
    SECOND,
    Charge,
    Claim,
    Exceeded,
    Ledger,
    Level,
    Reservation,
    Rule,
)
from gateway.upstream.catalog import Offer

UNBILLED_OPERATIONS: Final = frozenset({"count_tokens"})
"""Operations that cost neither money nor tokens."""
NANODOLLARS: Final = 1_000_000_000
_LEAST: Final = Usage(input=1, output=1)

Clock = Callable[[], int]
"""Unix time in nanoseconds."""


class StoredBalance(Protocol):
    """A bucket's last balance, as a store gives it back (`store.entries.Balance`)."""

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
class CallReservation:
    """What one call holds: of both ledgers, with what it takes to settle it."""

    book: Quotas
    estimate: Estimate
    money: Reservation
    requests: Reservation
    tokens: Reservation

    @property
    def notice(self) -> str:
        """For the reply's header: `daily:alice@example.com; used=0.83`; "" if there is nothing to tell."""
        return ", ".join(f"{name}; used={used // 100}.{used % 100:02}" for name, used in self.money.notices)


@dataclass(slots=True)
class Quotas:
    """The buckets of a process. `refilled` is told of every change that no call makes, so that it can be kept."""

    clock: Clock = time_ns
    refilled: Callable[[Charge], None] = field(default=lambda _charge: None)
    rules: Mapping[str, Rule] = field(default_factory=dict, init=False)
    """By definition."""
    definitions: Mapping[str, Quota] = field(default_factory=dict, init=False)
    _unclaimed: dict[str, StoredBalance] = field(default_factory=dict, init=False)
    """What was kept of buckets whose definition is gone, should it come back."""
    _money: Ledger = field(default_factory=Ledger, init=False)
    _limits: Ledger = field(default_factory=Ledger, init=False)

    def configured(self, quotas: Mapping[str, Quota]) -> None:
        """Take over definitions: balances stay and are capped. Buckets of definitions that are gone are put away, and
        go on with what was left when those come back: a quota is not renewed by taking it out for a moment.
        """
        self.definitions = quotas
        self.rules = {name: _rule(quota) for name, quota in quotas.items()}
        self._money.reload(self.rules, self.clock())
        self.restore(self._unclaimed.values())

    def restore(self, balances: Iterable[StoredBalance]) -> None:
        """Go on from what was kept before the process started; buckets of definitions that are gone wait for them."""
        waiting, self._unclaimed = tuple(balances), {}
        for kept in waiting:
            rule = self.rule_of(kept.bucket)
            if rule is None:
                self._unclaimed[kept.bucket] = kept
            else:
                self._money.restore(kept.bucket, rule, kept.amount, kept.remainder, kept.at)

    def reserve(self, call: Call) -> CallReservation:
        """Hold what the call may use at most. Its candidates are then those that can be charged for it.

        Raises `Exceeded`, and `Refused` where a quota cannot be charged: it fails closed.
        """
        if call.operation not in UNBILLED_OPERATIONS:
            call.candidates = self._chargeable(call)
        while True:
            try:
                return self._held(call)
            except Exceeded as exceeded:
                left = [candidate for candidate in call.candidates if exceeded.bucket not in _buckets(call, candidate)]
                if not left:
                    raise
                call.candidates = left

    def _held(self, call: Call) -> CallReservation:
        offers = [candidate.offer for candidate in call.candidates]
        prices = [price for offer in offers if (price := call.runtime.prices.of(offer)) is not None]
        ask = call.require_request()
        estimated = estimate(ask, call.flag.limit(ask), offers)
        requests, tokens, money = _limits(call, offers, "requests"), _limits(call, offers, "tokens"), {}
        if call.operation in UNBILLED_OPERATIONS:
            tokens = {}
        else:
            money = {name: rule for offer in offers for name, rule in self._quotas(call, offer).items()}
        cost = estimated.cost(prices)
        reserved = self._reserved(
            [Claim(name, rule, 1) for name, rule in requests.items()],
            [Claim(name, rule, estimated.tokens) for name, rule in tokens.items()],
            [Claim(name, rule, cost) for name, rule in money.items()],
        )
        return CallReservation(self, estimated, *reserved)

    def refill(self, bucket: str, amount: int) -> Charge:
        """Put nanodollars into a bucket, up to its capacity. Raises `UnknownBucket`."""
        rule = self.rule_of(bucket)
        if rule is None:
            raise UnknownBucket(bucket)
        charge = self._money.refill(bucket, rule, amount, self.clock())
        self.refilled(charge)
        return charge

    def used(self) -> Mapping[str, float]:
        """The used part of the emptiest bucket of each definition; for metrics, from any thread."""
        return dict.fromkeys(self.rules, 0.0) | self._money.used(self.clock())

    def levels(self) -> Sequence[Level]:
        """Every bucket of money that is not full; from any thread."""
        return self._money.levels(self.clock())

    def shared(self) -> list[str]:
        """The buckets that belong to nobody: definitions without a template."""
        return [name for name in self.rules if not _template(name)]

    def level(self, bucket: str) -> Level:
        """One bucket, also one that is full. Raises `UnknownBucket`."""
        rule = self.rule_of(bucket)
        if rule is None:
            raise UnknownBucket(bucket)
        return self._money.level(bucket, rule, self.clock())

    def rule_of(self, bucket: str) -> Rule | None:
        """The rule of a bucket's name: that of the definition of this name, or of the longest template that it begins
        with, since `team:eu:<user>` begins as `team:<user>` does.
        """
        if bucket in self.rules and not _template(bucket):
            return self.rules[bucket]
        prefixes = {
            name.removesuffix(template): rule for name, rule in self.rules.items() if (template := _template(name))
        }
        fitting = [prefix for prefix in prefixes if bucket.startswith(prefix) and bucket != prefix]
        return prefixes[max(fitting, key=len)] if fitting else None

    def _quotas(self, call: Call, offer: Offer) -> dict[str, Rule]:
        """The buckets of money of an offer, with their rules. Raises `Refused` for a quota that is not defined."""
        found: dict[str, Rule] = {}
        identity = call.require_identity()
        for name in call.runtime.grants.quotas(identity, offer.provider_id, offer.model):
            quota = call.runtime.config.quotas.get(name)
            if quota is None:
                raise _unusable(f'quota "{name}" is granted and not defined; define it in "quotas"')
            found[bucket_of(name, identity)] = self.rules.get(name) or _rule(quota)
        return found

    def _chargeable(self, call: Call) -> Sequence[Candidate]:
        """The candidates whose price is known, or whose quotas refuse nobody. Raises `Refused` when there is none."""
        refused: list[tuple[Offer, str]] = []
        found: list[Candidate] = []
        for candidate in call.candidates:
            offer = candidate.offer
            strict = next((name for name, rule in self._quotas(call, offer).items() if not rule.notify), None)
            if strict is None or _is_priced(call.runtime.prices.of(offer)):
                found.append(candidate)
            else:
                refused.append((offer, strict))
        if not found:
            raise _unpriced(*refused[0])
        return found

    def _reserved(
        self, requests: list[Claim], tokens: list[Claim], money: list[Claim]
    ) -> tuple[Reservation, Reservation, Reservation]:
        """Money, requests and tokens: all of it, or nothing. Raises `Exceeded`."""
        now = self.clock()
        asked = self._limits.reserve(requests, now)
        try:
            written = self._limits.reserve(tokens, now)
            try:
                return self._money.reserve(money, now), asked, written
            except Exceeded:
                self._limits.settle(written, 0, now)
                raise
        except Exceeded:
            self._limits.settle(asked, 0, now)
            raise

    def settle(self, held: CallReservation, spent: Settlement) -> tuple[Charge, ...]:
        """Charge what a call used; only what it took of quotas is told."""
        now = self.clock()
        self._limits.settle(held.requests, spent.requests, now, only=spent.buckets)
        self._limits.settle(held.tokens, spent.tokens, now, only=spent.buckets)
        return self._money.settle(held.money, spent.cost, now, only=spent.buckets, estimated=spent.estimated)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a call used, and in which buckets it counts."""

    buckets: Container[str] = ()
    requests: int = 0
    tokens: int = 0
    cost: int = 0
    """Nanodollars."""
    estimated: bool = False


def settle(call: Call, outcome: str, cost: int | None, estimated: bool) -> tuple[Charge, ...]:
    """Charge a call that is over, and free what it held; the second time, say the same.

    `cost` is the record's, in nanodollars, None where nobody knows; `estimated` says that it is not what the provider
    reported, or not all of it; `outcome` is the record's too. A call that was never sent costs nothing. One that was
    cut, or of which nothing is known, is charged what it has probably used: or else leaving just before the end would
    make the output free, or the thinking that nobody is shown.
    """
    held = call.reservation
    if held is None:
        return ()
    cut = estimated and outcome != "ok"
    spent = _spent(call, held, None if cut else cost, floor=cost or 0, cut=cut)
    return held.book.settle(held, replace(spent, estimated=True) if estimated else spent)


def _spent(call: Call, held: CallReservation, cost: int | None, *, floor: int, cut: bool) -> Settlement:
    """What the call used; at least `floor` nanodollars where its cost is not known."""
    attempt = call.attempt
    if attempt is None or not attempt.sent:
        return Settlement()
    counted = _buckets(call, attempt.candidate)
    facts = call.facts
    if cost is not None and (cost == 0 or (facts is not None and facts.reported)):
        return Settlement(counted, 1, rated(facts.usage) if facts else 0, cost)
    told = facts is not None and facts.reported and not cut
    usage = facts.usage if facts and told else probable(facts, held.estimate, monotonic() - call.started)
    if cost is not None:
        return Settlement(counted, 1, rated(usage), cost, estimated=True)
    price = call.runtime.prices.of(attempt.candidate.offer)
    guess = 0 if price is None else _guess(price, usage, facts.tier if facts else "")
    return Settlement(counted, 1, rated(usage), max(floor, guess), estimated=True)


def _guess(price: Priced, usage: Usage, tier: str) -> int:
    """Nanodollars of a usage: a tier without a price counts as the standard one, a kind of input as plain input."""
    plain = Usage(input=rated(usage) - usage.output + usage.cache_read, output=usage.output)
    tries = (price.cost(usage, tier=tier), price.cost(usage), price.cost(plain))
    return next((found for found in tries if found is not None), 0)


def bucket_of(name: str, identity: Identity) -> str:
    """A definition's bucket for a caller. Where no node is known, the login stands for it."""
    subjects = {"<user>": identity.login, "<node>": identity.node or identity.login}
    template = _template(name)
    return name.removesuffix(template) + subjects[template] if template else name


def _template(name: str) -> str:
    return next((template for template in ("<user>", "<node>") if name.endswith(f":{template}")), "")


def _rule(quota: Quota) -> Rule:
    notify = quota.on_exceed == "notify"
    return Rule(quota.name, quota.capacity, quota.amount, quota.period_seconds * SECOND, notify)


def _buckets(call: Call, candidate: Candidate) -> set[str]:
    """Every bucket in which a call counts that this candidate serves."""
    offer, identity = candidate.offer, call.require_identity()
    quotas = call.runtime.grants.quotas(identity, offer.provider_id, offer.model)
    limits = (*_limits(call, [offer], "requests"), *_limits(call, [offer], "tokens"))
    return {*limits, *(bucket_of(name, identity) for name in quotas)}


def _limits(call: Call, offers: Iterable[Offer], kind: str) -> dict[str, Rule]:
    """Buckets of rate limits with their rules. Their names hold a line end, as no name of a quota's bucket does."""
    found: dict[str, Rule] = {}
    identity = call.require_identity()
    for offer in offers:
        for limit, models in call.runtime.grants.rate_limits(identity, offer.provider_id, offer.model):
            if limit.kind == kind:
                scope = offer.model if limit.by_model else " ".join(models)
                bucket = "\n".join((kind, limit.rate, identity.login, str(limit.by_model), scope))
                found[bucket] = _limit_rule(limit)
    return found


def _limit_rule(limit: RateLimit) -> Rule:
    return Rule(f"{limit.kind} {limit.rate}", limit.amount, limit.amount, limit.period_seconds * SECOND)


def _is_priced(price: Priced | None) -> bool:
    """What a call costs can be told: a row of an operator may say only a part of it."""
    return price is not None and price.cost(_LEAST) is not None


def _unpriced(offer: Offer, bucket: str) -> Refused:
    return _unusable(
        f'the price of model "{offer.model}" is not known, so quota "{bucket}" cannot be charged for it; set '
        f'"cost_basis" of provider "{offer.provider_id}" to a price list that has it'
    )


def _unusable(message: str) -> Refused:
    return Refused(Problem(QUOTA, message, retry_after=MAX_RETRY_AFTER))


def problem_for(exceeded: Exceeded) -> Problem:
    """What a client is told whose call a bucket refused."""
    rule, seconds = exceeded.rule, exceeded.retry_after
    again = f"try again in {seconds} s" if seconds < MAX_RETRY_AFTER else "an admin can refill it"
    if exceeded.bucket.startswith(("requests\n", "tokens\n")):
        return Problem(RATE_LIMIT, f"rate limit of {rule.name} reached; {again}", retry_after=seconds, retryable=True)
    left = "what is left is held by calls in flight" if exceeded.balance > 0 else "nothing is left"
    message = f'quota "{exceeded.bucket}" exceeded: {left} of {usd(rule.capacity)}; {again}'
    return Problem(QUOTA, message, retry_after=seconds)


def usd(nanodollars: int) -> str:
    """As people read it, rounded down to a cent: $10.00."""
    return f"${nanodollars // NANODOLLARS}.{nanodollars % NANODOLLARS * 100 // NANODOLLARS:02}"
