"""Reserves amounts of quotas for calls, in the process that keeps the quota balances.

- Usually this process keeps the balances. After a hand-over, the new process that replaces it keeps them. From then on,
  this process reserves amounts over a connection to the new process.
- During a hand-over, new calls wait before they reserve anything.
- If several gateways share the balances, each gateway may spend only a part (slice) of each balance. `leases.py` asks
  for more when a slice is too small.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from gateway.call.candidate import Candidate
from gateway.call.chain import Call
from gateway.call.leases import Leases
from gateway.call.settlement import reserve
from gateway.money.quotas.book import CallReservation, Quotas
from gateway.money.quotas.buckets import Charge, Kind
from gateway.money.quotas.estimate import Size
from gateway.money.quotas.leases import Answer, Ask
from gateway.money.quotas.ledger import Claim, Reservation

T = TypeVar("T")


class RemoteKeeper(Protocol):
    """The process that has replaced this one, and keeps the quota balances. Each method blocks until that process
    answers.
    """

    def reserve(self, call: str, claims: Sequence[Claim]) -> Mapping[Kind, Reservation]:
        """Reserve the amounts for the call with the id `call`. Raises `Exceeded` if the other process refuses."""

    def lend(self, worker: str, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Answer a worker of this process that asks for slices (parts of balances that only this worker may spend).

        `worker` is the name of the worker's spool. Raises `StoreFailed` if the other process does not answer.
        """


class Keeper:
    """Reserves amounts of quotas for calls, in the process that keeps the quota balances."""

    def __init__(self, leases: Leases | None = None) -> None:
        self.leases = leases
        """Asks for slices of balances that several gateways share. It is None if this gateway does not share its
        balances.
        """
        self.refilled: Callable[[str], None] = lambda _bucket: None
        """A function that tells the workers, if there are any, that a bucket of money was refilled."""
        self._outcome: asyncio.Future[RemoteKeeper | None] | None = None
        """The result of a hand-over: the other process, or None if the hand-over failed."""

    @property
    def is_here(self) -> bool:
        """Whether this process keeps the quota balances, and no other process is taking them over."""
        return self._outcome is None

    @property
    def is_immediate(self) -> bool:
        """Whether this process can make reservations without asking another one."""
        return self._outcome is None and self.leases is None

    def begin(self) -> None:
        """Begin to hand the quota balances over to another process. New reservations wait until `end` is called."""
        self._outcome = asyncio.get_running_loop().create_future()

    def end(self, remote: RemoteKeeper | None) -> None:
        """End the hand-over of the quota balances. `remote` is the process that keeps them from now on.

        `remote` is None if the hand-over failed and this process still keeps the balances.
        """
        if self._outcome is not None:
            self._outcome.set_result(remote)
        if remote is None:
            self._outcome = None

    async def elsewhere(self) -> RemoteKeeper | None:
        """Wait for the end of a hand-over. Return the process that keeps the balances, or None if it is this
        process.
        """
        return None if self._outcome is None else await asyncio.shield(self._outcome)

    async def covered(self, attempt: Callable[[], T]) -> T:
        """Return the result of `attempt`, which reserves amounts in this process. If a slice (part of a shared balance)
        is too small, get more of the balance and call `attempt` again.

        Raises the exceptions of `attempt`, `Exceeded` if the balance is too small, and `Refused` if no more of the
        balance can be requested.
        """
        return attempt() if self.leases is None else await self.leases.reserve(attempt)

    async def refill(self, quotas: Quotas, bucket: str, amount: int) -> Charge:
        """Add an amount to a bucket of money.

        Raises `UnknownBucket` if the bucket belongs to no defined quota. Raises `StoreFailed` if the balances are in a
        database that cannot be reached.
        """
        charge = quotas.refill(bucket, amount) if self.leases is None else await self.leases.refill(bucket, amount)
        self.refilled(bucket)
        return charge

    async def look(self) -> None:
        """Update the balances that several gateways share, before a page shows them."""
        if self.leases is not None:
            await self.leases.look()

    async def reserve(self, call: Call, quotas: Quotas, size: Size) -> tuple[CallReservation, Sequence[Candidate]]:
        """Reserve the maximum that the call may use, in the process that keeps the balances.

        Raises `Exceeded` if a quota or a rate limit refuses the call on every candidate, and `Refused` if a quota
        cannot be charged.
        """
        remote = await self.elsewhere()
        if remote is None:
            return await self.covered(partial(reserve, call, quotas, size))
        reserving = asyncio.create_task(
            asyncio.to_thread(reserve, call, quotas, size, partial(remote.reserve, call.id))
        )
        # if the client disconnects, the call ends after this, because the other process would keep a later reservation
        call.stack.push_async_callback(asyncio.wait, {reserving})
        return await asyncio.shield(reserving)
