"""Leases: several gateways spend from one bucket, and overdraw it by at most the cost of one call.

A bank (`Bank`) keeps the balance of each bucket. A gateway holds a slice of this balance. Its calls reserve and spend
from the slice without asking the bank. The protocol has one request, `Ask`, and one reply, `Answer`.

- For each gateway and bucket, the bank has two counters (`Lease`). `granted` is the sum of everything that the gateway
  was given. `spent` is the sum of the charges in the records of its calls. The difference is the slice, which nobody
  else gets.
- The balance falls only when a call's record reaches the bank. So a call is counted once, even if requests or replies
  are lost.
- An `Ask` names the total that the gateway knows to be granted. If a reply was lost, the total is too low, and the next
  reply corrects it.
- If the bank hears nothing from a gateway for some time, it takes the gateway's slices back: it lowers `granted` to
  `spent`. Records that come later are still counted.
- If a gateway's slice is too small for a call, the gateway asks the bank. If the free part of the slice, plus what is
  left at the bank, is above 0, then the bank grants the whole missing amount. What is left at the bank may become
  negative by this, but by less than the cost of this call. Every grant has this condition. So all gateways together get
  less than the cost of one call too much. A single gateway has the same limit (`ledger.py`).

This module has the arithmetic of the bank, and `slices.py` that of a gateway. Neither does I/O or reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from gateway.money.quotas.buckets import SECOND, Bucket, Charge, LiveBucket, Rule

SHARE: Final = 2
"""Divisor that limits the amounts granted for later calls. Half of a bucket's free balance may be granted for them, in
equal parts to all gateways.

For example, each of four gateways may get an eighth of the free balance. So slices get smaller as the bucket gets
emptier.
"""


class NotOpen(Exception):
    """The error for a gateway that must first call `Bank.open`, because it is not registered at the bank.

    The bank keeps the balances. It also raises this error if a newer process of the same gateway has registered.
    """


class Need(NamedTuple):
    """An amount that one waiting call lacks in a bucket."""

    amount: int
    beside: int = 0
    """Amount that the call can use without this request: what is free in the gateway's slice (its part of the bucket's
    balance), plus what the other buckets of the call's chain can pay.
    """
    is_partial: bool = False
    """True if the bank may grant less than `amount`, because the missing part can be requested for another bucket of
    the call's chain.
    """


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's request about one bucket, sent to the bank (the service that keeps the balances)."""

    bucket: str
    rule: Rule
    since: float = 0.0
    """Unix time in seconds at which the gateway began to use `rule`. If gateways send different rules for the bucket,
    the bank uses the rule with the latest `since`.
    """
    known: int
    """The sum of all grants that the gateway has been told of, less the amounts that it gives back with this request.
    """
    spent: int
    """The sum of the gateway's charges to the bucket."""
    owed: int = 0
    """The amount by which the gateway exceeds `known`: its charges, plus its reservations and the slices of its
    workers, minus `known`, and at least 0. The bank always grants this amount, even from an empty bucket.
    """
    needs: Sequence[Need] = ()
    """The amounts that waiting calls lack, in the order of the calls."""
    ahead: int = 0
    """An amount that the gateway wants for later calls. The bank grants as much of it as it can spare."""
    is_last: bool = False
    """True if the gateway has no use for the bucket any more, so that the bank may forget what it has granted."""

    @property
    def key(self) -> Bucket:
        """The kind and the name of the bucket."""
        return Bucket(self.rule.kind, self.bucket)


class Lease(NamedTuple):
    """The two counters for one gateway and one bucket: the sum of the amounts granted, and the sum of the charges."""

    granted: int = 0
    spent: int = 0

    @property
    def held(self) -> int:
        """The gateway's slice: the part of the bucket's balance that only this gateway may spend."""
        return max(0, self.granted - self.spent)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of the bank, which keeps the balances, to a gateway's `Ask` about one bucket."""

    bucket: str
    granted: int
    """The sum of all grants to the gateway."""
    spent: int
    """The sum of the gateway's charges that have reached the bank."""
    amount: int
    """The balance of the bucket. It includes the parts that gateways hold (slices)."""
    remainder: int
    at: float
    is_refused: bool = False
    """Whether a waiting call got less than it needs."""
    elsewhere: int = 0
    """Sum of the slices (parts of the balance) of all other gateways, and of the other workers of the same gateway."""
    away: str = ""
    """The name of the bank if the bank could not be reached, and therefore has not granted more. It is "" if the bank
    was reached.

    Only a parent process sets this name, in its answers to its workers. It lends parts of its gateway's slices to them
    (`lending.py`).
    """
    is_closed: bool = False
    """Whether the bank has ended the gateway's lease of the bucket. `granted` and `spent` then count from 0 again."""


class Standing(msgspec.Struct, frozen=True):
    """The balance of a shared bucket for display, as reported by the bank (the service that keeps the balances)."""

    bucket: str
    amount: int
    remainder: int
    at: float
    terms: str
    spent: int
    """The sum of the gateway's charges that have reached the bank."""


class Bank(Protocol):
    """The service that keeps the balances of buckets, and grants gateways slices (parts) of the balances.

    A gateway calls these methods. Each method fails if the bank cannot be reached.
    """

    @property
    def name(self) -> str:
        """The name of the bank in messages to callers."""

    @property
    def needs_reports(self) -> bool:
        """Whether the bank learns only from `Ask.spent` how much of a rate limit was used.

        Other banks learn it from the records of calls. If a bank that needs reports cannot be reached, calls use the
        last known balances of rate limits.
        """

    async def open(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Register the gateway, take back the slices (parts of balances) of the gateway's earlier process, and answer
        the requests `asks`.
        """

    async def exchange(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Answer the requests `asks`, and renew the leases of all amounts that were granted to the gateway.

        Raises `NotOpen` if the gateway must first call `open`.
        """

    async def leave(self) -> None:
        """Give back all slices, the parts of balances that only this gateway may spend."""

    async def standings(self) -> Sequence[Standing]:
        """Return the balances that have changed since the last call of this method, and perhaps unchanged ones too."""

    async def refill(self, bucket: str, rule: Rule, amount: int) -> Charge:
        """Add an amount to a bucket, up to the bucket's capacity, and tell all gateways."""


def answered(ask: Ask, bucket: LiveBucket, own: Lease, elsewhere: int, gateways: int) -> tuple[Lease, bool]:
    """Return two values: the new lease of the gateway that sent `ask`, and whether a waiting call of this gateway gets
    less than it needs.

    `bucket` must be refilled up to now. `own` is the gateway's lease before `ask`. `elsewhere` is the sum of the parts
    of the balance that other gateways hold. `gateways` is the number of gateways.
    """
    balance = bucket.own + bucket.leased
    granted = min(ask.known, own.granted) + ask.owed
    free = balance - elsewhere - Lease(granted, own.spent).held
    is_refused = False
    for need in ask.needs:
        may_begin = free + need.beside >= bucket.least(need.amount + need.beside)
        most = max(0, free) if need.is_partial else need.amount if may_begin else 0
        part = min(need.amount, most)
        granted += part
        free -= part
        is_refused = is_refused or part < need.amount
    if not is_refused:
        granted += min(ask.ahead, max(0, free) // (SHARE * max(1, gateways)))
    return Lease(granted, own.spent), is_refused


def answer_to(ask: Ask, bucket: LiveBucket, own: Lease, elsewhere: int, gateways: int) -> tuple[Lease | None, Answer]:
    """Return the reply to `ask`, and the new lease of the gateway that sent it. If the lease ends, None is returned in
    its place.

    `bucket` has the present balance, and `own` is the gateway's lease so far. `elsewhere` is the sum of the parts of
    the balance that other gateways hold. `gateways` is the number of gateways.
    """
    lease, is_refused = answered(ask, bucket, own, elsewhere, gateways)
    is_closed = ask.is_last and lease.spent == ask.spent
    answer = Answer(
        bucket=ask.bucket,
        granted=lease.granted,
        spent=lease.spent,
        amount=bucket.balance,
        remainder=bucket.remainder,
        at=bucket.at / SECOND,
        is_refused=is_refused,
        elsewhere=elsewhere,
        is_closed=is_closed,
    )
    return None if is_closed else lease, answer
