"""Reserves the amounts that calls may use of their quotas, in the process that keeps the quota balances (the keeper).

- Usually this process is the keeper. If a new process replaces this one, this process hands the balances over to the
  new process. From then on, this process asks the new process, over a connection, to make its reservations.
- During the hand-over, new calls wait before they reserve anything.
- If several gateways share the balances, each gateway may spend only a part (slice) of each balance. `leases.py`
  requests more when a slice is too small.
- Each worker of this process may also spend only a slice of a balance. If a worker needs more than this process has
  left, this process first requests more for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Final, Protocol, TypeVar

import msgspec

from gateway.call.bank_rounds import Stopped
from gateway.call.candidate import Candidate
from gateway.call.chain import Call
from gateway.call.leases import Leases
from gateway.call.settlement import reserve
from gateway.contract.errors import UNAVAILABLE, Problem, Refused
from gateway.money.quotas.book import CallReservation, Quotas
from gateway.money.quotas.buckets import Bucket, Charge, Kind
from gateway.money.quotas.estimate import Size
from gateway.money.quotas.leases import Ask
from gateway.money.quotas.lending import Lender, Loan
from gateway.money.quotas.reservations import Claim, Reservation
from gateway.money.quotas.slices import HELD_SECONDS
from gateway.store.base import StoreFailed

T = TypeVar("T")

GIVE_BACK_SECONDS: Final = HELD_SECONDS
"""Seconds from the refusal of a worker's request until the worker is told to ask again. In this time, other gateways
give back parts of the bucket's balance that they do not need.
"""
_ENDING: Final = Problem(UNAVAILABLE, "this gateway is ending; try again later", retry_after=5, retryable=True)


class RemoteKeeper(Protocol):
    """The process that has replaced this one and now keeps the quota balances. Each method blocks until that process
    answers.
    """

    def reserve(self, call: str, claims: Sequence[Claim]) -> Mapping[Kind, Reservation]:
        """Reserve amounts for the call with the id `call` in the process that keeps the balances.

        Each claim is an amount in one bucket or in a chain of buckets. Raises `Exceeded` if a balance is too small.
        """

    def lend(self, worker: str, asks: Sequence[Ask]) -> Loan:
        """Send the requests `asks` of a worker of this process to the process that keeps the balances, and return the
        answers.

        The requests are for slices: parts of balances that only this worker may spend. `worker` is the name of the
        worker's spool (its journal). Raises `StoreFailed` if the process that keeps the balances does not answer.
        """


class Keeper:
    """Reserves amounts of quotas for calls, in the process that keeps the quota balances."""

    def __init__(self, leases: Leases | None = None) -> None:
        self.leases = leases
        """Asks for slices of balances that several gateways share. It is None if this gateway does not share its
        balances.
        """
        self.refilled: Callable[[Bucket], None] = lambda _bucket: None
        """A function that tells the workers of this process, if there are any, that a bucket was refilled."""
        self._outcome: asyncio.Future[RemoteKeeper | None] | None = None
        """The result of a hand-over: the other process, or None if the hand-over failed."""

    @property
    def is_here(self) -> bool:
        """Whether this process keeps the quota balances, and no other process is taking them over."""
        return self._outcome is None

    @property
    def is_immediate(self) -> bool:
        """Whether this process can make a reservation at once, without a request to another process."""
        return self._outcome is None and self.leases is None

    @property
    def _is_ending(self) -> bool:
        """Whether this process is ending and no other process takes over the balances. Then no more reservations are
        made.
        """
        return self.is_here and self.leases is not None and self.leases.has_stopped

    def begin(self) -> None:
        """Begin to hand the quota balances over to another process. From now on, new reservations wait until `end` is
        called.
        """
        self._outcome = asyncio.get_running_loop().create_future()

    def end(self, remote: RemoteKeeper | None) -> None:
        """End the hand-over of the quota balances. `remote` is the process that keeps the balances from now on.

        If the hand-over failed, `remote` is None, and this process keeps the balances.
        """
        if self._outcome is not None:
            self._outcome.set_result(remote)
        if remote is None:
            self._outcome = None

    async def elsewhere(self) -> RemoteKeeper | None:
        """Return the process that keeps the quota balances, or None if it is this process.

        While the balances are being handed over to another process, wait for the end of the hand-over.
        """
        return None if self._outcome is None else await asyncio.shield(self._outcome)

    async def covered(self, attempt: Callable[[], T]) -> T:
        """Return the result of `attempt`, which reserves amounts in this process. If a slice (part of a shared balance)
        is too small, request more of the balance, and call `attempt` again.

        Raises `Exceeded` if a balance is too small, `Refused` if the service that keeps the shared balances cannot be
        reached, and `Stopped` if another process takes over the balances or this process is ending. Other exceptions of
        `attempt` are raised too.
        """
        return attempt() if self.leases is None else await self.leases.reserve(attempt)

    async def refill(self, quotas: Quotas, bucket: str, amount: int) -> Charge:
        """Add an amount to a bucket of money.

        Raises `UnknownBucket` if the bucket belongs to no defined quota. Raises `StoreFailed` if the balances are in a
        database that cannot be reached.
        """
        if self.leases is not None:
            return await self.leases.refill(bucket, amount)
        charge = quotas.refill(bucket, amount)
        self.refilled(Bucket("money", bucket))
        return charge

    async def lend(self, lender: Lender, worker: str, asks: Sequence[Ask]) -> Loan:
        """Return the answers to a worker's requests for slices (parts of balances), from the process that keeps the
        balances.

        Raises `NotOpen` if `Lender.open` was not called for the worker. Raises `StoreFailed` if another process keeps
        the balances and does not answer, or if this process is ending.
        """
        while (remote := await self.elsewhere()) is None:
            if self.leases is None:
                return lender.exchange(worker, asks)
            try:
                async with self.leases.covering(lender.lacking(worker, asks)) as away:
                    # otherwise a hand-over has begun meanwhile, and the other process answers
                    if self.is_here:
                        return self._lent(self.leases, lender, lender.exchange(worker, asks), asks, away)
            except Stopped:
                if self._is_ending:
                    raise StoreFailed(_ENDING.message) from None
        return await asyncio.to_thread(remote.lend, worker, asks)

    def _lent(self, leases: Leases, lender: Lender, loan: Loan, asks: Sequence[Ask], away: frozenset[Bucket]) -> Loan:
        """Return `loan`, the answers to the requests `asks` of a worker, with `Answer.away` set where it applies.

        `away` has the buckets about which the quota bank did not answer. For such a bucket, `Answer.away` gets the name
        of the bank if a call of the worker gets less than it needs, or if the worker may no longer spend its slices
        (parts of balances) of money.

        A refused worker is told after `GIVE_BACK_SECONDS` that it may ask again, if other gateways hold parts of the
        bucket.
        """
        answers = []
        is_expired = loan.until is not None and loan.until <= monotonic()
        for ask, answer in zip(asks, loan.answers, strict=True):
            is_away = ask.key in away and (answer.is_refused or is_expired)
            answers.append(msgspec.structs.replace(answer, away=leases.bank) if is_away else answer)
            if answer.is_refused and answer.elsewhere:
                asyncio.get_running_loop().call_later(GIVE_BACK_SECONDS, lender.gateways_answered, ask.key)
        return loan._replace(answers=answers)

    async def look(self) -> None:
        """Update the balances that several gateways share, before a page or a metric shows them."""
        if self.leases is not None:
            await self.leases.look()

    async def reserve(self, call: Call, quotas: Quotas, size: Size) -> tuple[CallReservation, Sequence[Candidate]]:
        """Reserve the maximum that the call may use, in the process that keeps the balances. Return the reservation,
        and the candidates (models of providers) that no quota or rate limit refuses.

        Raises `Exceeded` if all candidates are refused. Raises `Refused` if a quota cannot be charged, or if this
        process is ending.
        """
        while (remote := await self.elsewhere()) is None:
            try:
                return await self.covered(partial(reserve, call, quotas, size))
            except Stopped:
                if self._is_ending:
                    raise Refused(_ENDING) from None
        reserving = asyncio.create_task(
            asyncio.to_thread(reserve, call, quotas, size, partial(remote.reserve, call.id))
        )
        # if the client disconnects, the call ends after this, because the other process would keep a later reservation
        call.stack.push_async_callback(asyncio.wait, {reserving})
        return await asyncio.shield(reserving)
