"""Leases: several gateways spend from one bucket, and the bucket is never overspent.

A bank keeps the balance of each bucket. A gateway holds a slice of the balance, from which its calls reserve and spend
without a question to the bank. The protocol has one request, `Ask`, and one reply, `Answer`.

- The bank has two counters for each gateway and bucket (`Lease`). `granted` is what the gateway was ever given, and
  `spent` is what the records of its calls say. The difference is the slice. It is leased, and nobody else gets it.
- The balance falls only when a call's record reaches the bank. So a call is counted once, whatever else is lost.
- An `Ask` names the total that the gateway knows to be granted. So a reply that was lost is made good by the next ask.
- A gateway must be heard of from time to time. If it is not, the bank takes its slices back: `granted` becomes `spent`.
  Records that come later are still counted.
- A call begins if the bank has anything left for it, even if the call may cost more. One gateway alone has the same
  rule (`ledger.py`). So the overdraft of a bucket is at most the cost of one call, however many gateways there are.

This module is the bank's arithmetic. `slices.py` is the gateway's side. Neither does I/O or reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from gateway.money.quotas.buckets import SECOND, Charge, LiveBucket, Rule

SHARE: Final = 2
"""Part of a bucket's free balance that all gateways together may take ahead of their calls: one half. Each gateway may
take its share of this half, so slices get smaller as a bucket gets emptier."""


class NotOpen(Exception):
    """The error of a bank that does not know the gateway, or knows a newer process of it. The gateway opens again."""


class Need(NamedTuple):
    """An amount that one waiting call lacks in a bucket."""

    amount: int
    beside: int = 0
    """Amount that the call has from its gateway's slices already."""
    is_partial: bool = False
    """True if a smaller amount is useful too, because another bucket of the chain pays the rest."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """The request of a gateway about one bucket."""

    bucket: str
    rule: Rule
    since: float = 0.0
    """Unix time in seconds at which the gateway began to use `rule`. The newest rule of all gateways is used."""
    known: int
    """The sum of all grants that the gateway knows of, less what it gives back."""
    spent: int
    """The sum of all charges to the bucket in the gateway."""
    owed: int = 0
    """Amount that calls in the gateway have reserved or spent beyond `known`. It is granted in any case."""
    needs: Sequence[Need] = ()
    """The amounts that waiting calls lack, in their order."""
    ahead: int = 0
    """An amount for later calls. The bank grants as much of it as it can spare."""
    is_last: bool = False
    """True if the gateway has no use for the bucket any more, so that the bank may forget the lease."""


class Lease(NamedTuple):
    """The two counters of one gateway in one bucket."""

    granted: int = 0
    spent: int = 0

    @property
    def held(self) -> int:
        """The amount that nobody else can have."""
        return max(0, self.granted - self.spent)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The bank's reply about one bucket."""

    bucket: str
    granted: int
    """The sum of all grants to the gateway."""
    spent: int
    """The sum of the gateway's charges that have reached the bank."""
    amount: int
    """The balance of the bucket, with everything that gateways hold and have not spent."""
    remainder: int
    at: float
    is_refused: bool = False
    """Whether a waiting call got less than it needs."""
    elsewhere: int = 0
    """Amount that other gateways hold."""
    is_closed: bool = False
    """Whether the bank has forgotten the lease. `granted` and `spent` then count from 0 again."""


class Standing(msgspec.Struct, frozen=True):
    """The balance of a bucket at the bank, for a page."""

    bucket: str
    amount: int
    remainder: int
    at: float
    terms: str
    spent: int
    """The sum of the gateway's charges that have reached the bank."""


class Bank(Protocol):
    """The keeper of the balances, as a gateway sees it. Each method fails if the bank cannot be reached."""

    async def open(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Begin anew. What an earlier process of the gateway held and has not spent is free before `asks` are
        answered.
        """

    async def exchange(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Answer `asks`, and renew all leases of the gateway. Raises `NotOpen` if the gateway must open first."""

    async def leave(self) -> None:
        """Give everything back that is not spent."""

    async def standings(self) -> Sequence[Standing]:
        """Return the buckets that have changed since the last call of this method, and some others."""

    async def refill(self, bucket: str, rule: Rule, amount: int) -> Charge:
        """Add an amount to a bucket, up to its capacity, and tell all gateways."""


def answered(ask: Ask, balance: int, own: Lease, elsewhere: int, gateways: int) -> tuple[Lease, bool]:
    """Return the new lease of the gateway that asks, and whether one of its calls is refused.

    `balance` is the present balance of the bucket, `own` the lease so far, `elsewhere` what other gateways hold, and
    `gateways` the number of gateways.
    """
    granted = min(ask.known, own.granted) + ask.owed
    free = balance - elsewhere - Lease(granted, own.spent).held
    is_refused = False
    for need in ask.needs:
        most = max(0, free) if need.is_partial else need.amount if free + need.beside > 0 else 0
        part = min(need.amount, most)
        granted += part
        free -= part
        is_refused = is_refused or part < need.amount
    if not is_refused:
        granted += min(ask.ahead, max(0, free) // (SHARE * max(1, gateways)))
    return Lease(granted, own.spent), is_refused


def answer_to(ask: Ask, bucket: LiveBucket, own: Lease, elsewhere: int, gateways: int) -> tuple[Lease | None, Answer]:
    """Return the new lease of the gateway that asks, and the bank's reply. The lease is None if the bank forgets it.

    `bucket` is the bucket at the present time. The other arguments are those of `answered`.
    """
    lease, is_refused = answered(ask, bucket.balance, own, elsewhere, gateways)
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
