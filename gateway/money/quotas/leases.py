"""Leases: several gateways spend from one bucket, and overdraw it by at most the cost of one call.

A bank (`Bank`) keeps the balance of each bucket. A gateway holds a slice of this balance. Its calls reserve and spend
from the slice without asking the bank. A gateway sends requests (`Ask`), and the bank replies (`Answer`).

- For each gateway and bucket, the bank has two counters (`Lease`). `granted` is the sum of all amounts that the gateway
  was given. `spent` is the sum of the charges in the records of its calls. The difference is the slice, which no other
  gateway gets.
- The balance falls only when a call's record reaches the bank. So a call is counted once, even if requests or replies
  are lost.
- A request states the total that the gateway knows to be granted. After a lost reply, this total is lower than the
  bank's, and the bank lowers its own.
- If a gateway sends nothing for some time, the bank takes the gateway's slices back: `granted` is lowered to `spent`.
  Records that come later are still counted.
- If a slice is too small for a call, the bank grants the missing amount, even if it has less. It does so only while the
  free part of the slice plus the free balance at the bank is above 0. So all gateways together can overdraw a bucket by
  less than the cost of one call. A single gateway has the same limit (`ledger.py`).

This module has the arithmetic of the bank, and `slices.py` that of a gateway. Neither does I/O or reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from gateway.money.quotas.buckets import SECOND, Bucket, Charge, LiveBucket, Rule

SHARE: Final = 2
"""Divisor of the free balance of a bucket: 1 / `SHARE` of it may be granted for later calls, in equal parts to all
gateways.

For example, each of four gateways may get an eighth of the free balance. So the grants get smaller as the bucket gets
emptier.
"""


class NotOpen(Exception):
    """The error for a gateway that is not registered at the bank, which keeps the balances. The gateway must call
    `Bank.open`.

    A gateway is also not registered any more if a newer process of the same gateway has registered.
    """


class Need(NamedTuple):
    """An amount that one waiting call lacks in a bucket."""

    amount: int
    beside: int = 0
    """Amount that the call has without this request: the free part of the gateway's slice (its part of the bucket's
    balance), and what the other buckets of the call's chain can pay.
    """
    is_partial: bool = False
    """True if the gateway can use less than `amount`, because it can request the rest for another bucket of the call's
    chain.
    """


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's request about one bucket, sent to the bank (the service that keeps the balances)."""

    bucket: str
    rule: Rule
    since: float = 0.0
    """Unix time in seconds since which the gateway has used `rule`. If gateways send different rules for a bucket, the
    bank uses the one with the latest time.
    """
    known: int
    """The amount that the bank has granted in total, as far as the gateway knows, minus what the gateway gives back
    with this request.
    """
    spent: int
    """The sum of all amounts that the gateway has charged to the bucket."""
    owed: int = 0
    """The amount by which the gateway has already used more than `known`. Charges, reservations and the slices of its
    workers count as used.

    The bank grants this amount in any case, even from an empty bucket.
    """
    needs: Sequence[Need] = ()
    """The amounts that waiting calls lack, in the order of the calls."""
    ahead: int = 0
    """An amount that the gateway wants for later calls. The bank grants as much of it as it can spare."""
    is_last: bool = False
    """True if the gateway does not need the bucket any more. The bank then ends the lease."""

    @property
    def key(self) -> Bucket:
        """The kind and the name of the bucket."""
        return Bucket(self.rule.kind, self.bucket)


class Lease(NamedTuple):
    """The bank's two counters for one gateway and one bucket: the sum of the amounts that it has granted to the
    gateway, and the sum of the gateway's charges.
    """

    granted: int = 0
    spent: int = 0

    @property
    def held(self) -> int:
        """The gateway's slice: the part of the bucket's balance that no other gateway may spend."""
        return max(0, self.granted - self.spent)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of the bank, which keeps the balances, to a gateway's `Ask` about one bucket."""

    bucket: str
    granted: int
    """The amount of the bucket that the bank has granted to the gateway in total."""
    spent: int
    """The sum of the gateway's charges to the bucket, as far as the bank knows them."""
    amount: int
    """The balance of the bucket. It includes the parts that gateways hold (slices)."""
    remainder: int
    at: float
    is_refused: bool = False
    """Whether a waiting call got less than it needs."""
    elsewhere: int = 0
    """The amount that others hold in slices (parts of the balance): other gateways, and other workers of the same
    gateway.
    """
    away: str = ""
    """The name of the bank if it could not be reached and has therefore granted nothing. Otherwise "".

    Only an answer of a parent process to its worker can have this name. The parent process lends parts of its own
    slices to workers (`lending.py`), and asks the bank for more.
    """
    is_closed: bool = False
    """True if the bank has ended the gateway's lease of the bucket. The counters `granted` and `spent` of a later lease
    begin at 0.
    """


class Standing(msgspec.Struct, frozen=True):
    """The balance of a shared bucket for display, as reported by the bank (the service that keeps the balances)."""

    bucket: str
    amount: int
    remainder: int
    at: float
    terms: str
    spent: int
    """The sum of the gateway's charges to the bucket that are already subtracted from `amount`."""


class Bank(Protocol):
    """The service that keeps the balances of buckets, and grants gateways slices (parts) of the balances.

    A gateway calls these methods. Each method fails if the bank cannot be reached.
    """

    @property
    def name(self) -> str:
        """The name of the bank in messages to callers."""

    @property
    def needs_reports(self) -> bool:
        """True if only requests (`Ask.spent`) tell the bank how much of a rate limit was used. False if it also reads
        the records of calls.

        While a bank that needs reports cannot be reached, calls use the last known balances of rate limits.
        """

    async def open(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Register the gateway, take back the slices (parts of balances) of the gateway's earlier process, and answer
        the requests `asks`.
        """

    async def exchange(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Return the answers to the requests `asks`. Also renew the leases of everything that was granted to the
        gateway.

        Raises `NotOpen` if the gateway must first call `open`.
        """

    async def leave(self) -> None:
        """Give back all slices, the parts of balances that only this gateway may spend."""

    async def standings(self) -> Sequence[Standing]:
        """Return the balances that have changed since the last call of this method, and perhaps unchanged ones too."""

    async def refill(self, bucket: str, rule: Rule, amount: int) -> Charge:
        """Add an amount to a bucket, up to the bucket's capacity, and tell all gateways."""


def answered(ask: Ask, bucket: LiveBucket, own: Lease, elsewhere: int, gateways: int) -> tuple[Lease, bool]:
    """Return the gateway's new lease after the request `ask`, and whether one of its waiting calls gets less than it
    needs.

    `bucket` must be refilled up to now. `own` is the gateway's lease before the request. `elsewhere` is the amount of
    the balance that other gateways hold. `gateways` is the number of gateways.
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
    """Return the gateway's new lease after the request `ask`, and the bank's answer. If the lease has ended, None is
    returned in its place.

    `bucket` must be refilled up to now. `own` is the lease before the request. `elsewhere` is the amount of the balance
    that other gateways hold. `gateways` is the number of gateways.
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
