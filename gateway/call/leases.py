"""Asks for slices of the quota balances that several processes share.

The bank is the service that keeps the balances. A slice is the part of a balance that only one process may spend. The
bank grants a slice for a limited time, its lease, which the process renews (`money/quotas/leases.py`). There are two
kinds of banks:

- For several gateways, the bank is the database (`store/postgres/bank.py`).
- For the worker processes of one gateway, the bank is their parent process, the keeper (`money/quotas/lending.py`). If
  several gateways have workers, each keeper gets slices from the database, and lends parts of them to its workers.

A process uses its slice of a balance as follows:

- The slice covers most calls, so they need no request to the bank. When a slice gets low, the process asks for more in
  the background.
- A call that the slice does not cover waits for the bank. One request serves all waiting calls.
- If the bank has too little, the other processes give back the parts of their slices that they do not need.
- If the bank cannot be reached, calls are served from the slices until the slices are used up or the leases end. Then
  `storage.on_outage` decides: calls are refused, or they use the last known balances.

`bank_rounds.py` sends the requests, and `money/quotas/slices.py` has the state of the slices.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Final, TypeVar

from gateway.call.bank_rounds import BankRounds, Records, Stopped
from gateway.call.bank_waits import Returns
from gateway.contract.errors import UNAVAILABLE, Problem, Refused
from gateway.money.quotas.book import Quotas, UnknownBucket
from gateway.money.quotas.bucket_chains import Exceeded, Short
from gateway.money.quotas.buckets import Bucket, Charge, Kind
from gateway.money.quotas.leases import Answer, Bank
from gateway.money.quotas.slices import SCARCE_SECONDS, Want
from gateway.store.base import StoreFailed
from gateway.telemetry.log import Logger

T = TypeVar("T")

ASK_SECONDS: Final = 5.0
"""Maximum number of seconds for which a call waits for the quota bank. A bank that takes longer counts as unreachable.
"""
COVER_SECONDS: Final = 4.0
"""Maximum number of seconds for which this process waits for the quota bank while it answers a request of a worker. It
is less than `ASK_SECONDS`, for which the worker waits.
"""
RECALL_SECONDS: Final = (0.02, 0.08)
"""Pauses in seconds before a request that the quota bank refused is repeated: the first pause, the second pause.

The bank may have refused the request because other gateways hold parts of the balance. In a pause, they give back what
they do not need.
"""
REFUSALS: Final = 8
"""Number of refusals by the quota bank after which a call is refused. A call may be refused an amount of one bucket and
be granted an amount of the next bucket of the chain.
"""
RESERVE_SECONDS: Final = 5.0
"""Maximum number of seconds for which a call asks the quota bank again for amounts that the bank grants.

A call asks several times if several buckets lack an amount, or if calls that have come later use what it was granted.
"""
LOOK_SECONDS: Final = 1.0
"""Minimum number of seconds between two reads of all balances for pages and metrics."""
READ_SECONDS: Final = 2.0
"""Maximum number of seconds for which a page, or a request for metrics, waits for a read of all balances."""


class Leases(BankRounds):
    """Requests slices (parts of shared balances) from the quota bank when calls need them, and gives slices back.

    `recall_seconds` are the pauses before a refused request is repeated, if other processes hold slices of the bucket.
    A pause ends early if the bank reports that other processes have given amounts back (`refilled`). `BankRounds`
    explains the other arguments.
    """

    def __init__(
        self,
        bank: Bank,
        quotas: Quotas,
        records: Records | None,
        log: Logger,
        *,
        seconds: float,
        goes_on: bool,
        recall_seconds: Sequence[float] = RECALL_SECONDS,
    ) -> None:
        super().__init__(bank, quotas, records, log, seconds=seconds, goes_on=goes_on)
        self.recall_workers: Callable[[Bucket], None] = lambda _bucket: None
        """A function that asks the workers of this process to give back what they do not need of a bucket."""
        self.free_workers: Callable[[Bucket], None] = lambda _bucket: None
        """A function that tells the workers of this process that they may ask for a bucket again."""
        self._recall_seconds = recall_seconds
        self._returns = Returns()
        self._look_at = 0.0

    async def reserve(self, attempt: Callable[[], T]) -> T:
        """Return the result of `attempt`, which reserves amounts in quota buckets.

        If this process's slice of a bucket (its part of the balance) is too small, ask the quota bank for more, and
        call `attempt` again. Raises `Exceeded` if a balance is too small, `Refused` if the bank cannot be reached, and
        `Stopped` if `stop` was called.
        """
        try:
            return attempt()
        except Exceeded as exceeded:
            refusal = exceeded
        until, refusals = self._slices.clock() + RESERVE_SECONDS, 0
        with ExitStack() as kept:
            while refusal.short is not None and refusals < REFUSALS and self._slices.clock() < until:
                refusals += not await self._obtain(refusal.rule.kind, refusal.short, kept)
                try:
                    return attempt()
                except Exceeded as exceeded:
                    refusal = exceeded
        raise refusal

    @asynccontextmanager
    async def covering(self, lacking: Iterable[tuple[Bucket, Want]]) -> AsyncIterator[frozenset[Bucket]]:
        """Return a context manager that requests the amounts `lacking` from the quota bank, for calls of this gateway's
        workers. It waits for the answers.

        Its value is a set of buckets: those about which the bank has not answered, so that their calls must be refused.
        What the bank grants is not given back during the `async with` block. Raises `Stopped` if `stop` was called.
        """
        with ExitStack() as stack:
            asked = [(key, stack.enter_context(self._asking(key, want))) for key, want in lacking]
            answers = [self._answer_to(key, future, COVER_SECONDS) for key, future in asked]
            outcomes = await asyncio.gather(*answers, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException) and not isinstance(outcome, Refused):
                    raise outcome
            refused = [isinstance(outcome, Refused) for outcome in outcomes]
            yield frozenset(key for (key, _), is_refused in zip(asked, refused, strict=True) if is_refused)

    @property
    def bank(self) -> str:
        """The name of the quota bank in messages to callers."""
        return self._bank.name

    async def refill(self, bucket: str, amount: int) -> Charge:
        """Add an amount to a bucket of money.

        Raises `UnknownBucket` if the bucket belongs to no defined quota, and `StoreFailed` if the quota bank cannot be
        reached.
        """
        rule = self._quotas.rule_of(bucket)
        if rule is None:
            raise UnknownBucket(bucket)
        charge = await self._bank.refill(bucket, rule, amount)
        self.refilled(Bucket("money", bucket))
        self._look_at = 0.0
        await self.look()
        return charge

    async def look(self) -> None:
        """Update the balances that pages and metrics show.

        If the quota bank does not answer within `READ_SECONDS`, the balances stay as they are.
        """
        now = self._slices.clock()
        if now >= self._look_at and not self._is_away:
            self._look_at = now + LOOK_SECONDS
            with suppress(StoreFailed, TimeoutError):
                async with asyncio.timeout(READ_SECONDS):
                    self._quotas.show(await self._bank.standings())

    def recalled(self, bucket: Bucket | None, *, is_awaited: bool = False) -> None:
        """Give back what this process does not need of its slice of a quota bucket, because another process has too
        little. The slice is this process's part of the balance.

        `bucket` is None for all buckets. `is_awaited` is true if the quota bank waits for an answer. Then a request is
        sent even if there is nothing to give back.
        """
        for key in list(self._slices.active) if bucket is None else [bucket]:
            found = self._bucket(key)
            if found is not None and (is_awaited or found.free > 0 or found.leased):
                found.scarce_until = self._slices.clock() + SCARCE_SECONDS
                self._soon(key)
                self.recall_workers(key)

    def give_back(self) -> None:
        """Give everything that no call has reserved back to the quota bank. From now on, also give back at once what a
        call leaves when it ends.
        """
        self._slices.is_leaving = True
        self.recalled(None)

    def refilled(self, bucket: Bucket | None) -> None:
        """Let calls ask the quota bank for a bucket again, because the bucket was refilled or other processes have
        given back parts of its balance.

        `bucket` is None for all buckets.
        """
        for key in list(self._slices.active) if bucket is None else [bucket]:
            if (found := self._bucket(key)) is not None:
                found.dry_until = 0.0
                self.free_workers(key)
            self._returns.came(key)

    async def _obtain(self, kind: Kind, short: Short, kept: ExitStack) -> bool:
        """Ask the quota bank for the amount that a call lacks in one bucket (`short`). If the bank refuses, repeat the
        request after pauses. Return whether the bank has granted the amount.

        Until `kept` is closed, granted amounts are not given back, so that the call can reserve them. `kept` is closed
        before each pause, because other processes may be waiting for these amounts.

        Raises `Refused` if the bank cannot be reached and calls may not use the last known balances. Raises `Stopped`
        if `stop` was called.
        """
        key, want = Bucket(kind, short.bucket), Want(short.amount, short.others, short.is_partial)
        for seconds in (*self._recall_seconds, 0.0):
            # the event is there before the bank is asked, because its word may come right after the answer
            with self._returns.waiting_for(key) as freed:
                asked = kept.enter_context(self._asking(key, want))
                answer = await self._answer_to(key, asked, ASK_SECONDS)
                if answer is None or not (answer.is_refused and answer.elsewhere) or not seconds:
                    break
                kept.close()
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await freed.wait()
        if answer is not None and answer.away:
            raise _unknown(key, answer.away)
        return answer is not None and not answer.is_refused

    @contextmanager
    def _asking(self, key: Bucket, want: Want) -> Iterator[asyncio.Future[Answer | None]]:
        """Return a context manager that asks the quota bank for the amount `want` of a bucket. Its value is a future
        for the bank's answer.

        What the bank grants is not given back during the `with` block, so that the call can reserve it there. The
        future's result is None if the bucket is removed from memory. Its exception is `StoreFailed` if the bank cannot
        be reached, and `Stopped` if `stop` is called. Raises `Stopped` if `stop` was called before.
        """
        asked = self._ask(key, want)
        if (bucket := self._bucket(key)) is None:
            yield asked
            return
        bucket.waiting += 1
        try:
            yield asked
        finally:
            bucket.waiting -= 1
            if bucket.is_wanted:
                self._soon(key)

    def _ask(self, key: Bucket, want: Want) -> asyncio.Future[Answer | None]:
        if self.has_stopped:
            raise Stopped
        if self._is_away:
            away: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
            away.set_exception(StoreFailed(f"{self._bank.name} is away"))
            return away
        future = self._questions.add(key, want)
        self._wake.set()
        return future

    async def _answer_to(self, bucket: Bucket, asked: asyncio.Future[Answer | None], seconds: float) -> Answer | None:
        """Wait for the quota bank's answer to a request, and return the answer. `asked` is the future from `_asking`.

        Return None if the bucket was removed from memory. If the bank does not answer, return None if calls may use the
        last known balances, and raise `Refused` otherwise. Raises `Stopped` if `stop` was called.
        """
        try:
            async with asyncio.timeout(seconds):
                return await asked
        except TimeoutError:
            self._lose("it did not answer in time")
        except StoreFailed:
            pass
        if self._may_go_on or (self._bank.needs_reports and bucket.kind != "money"):
            return None
        raise _unknown(bucket, self._bank.name)


def _unknown(bucket: Bucket, bank: str) -> Refused:
    """Return the refusal of a call, because the quota bank with the name `bank` cannot be asked about a bucket."""
    why = f"because {bank} is away; try again later"
    message = f'what quota "{bucket.name}" has left cannot be asked now, {why}'
    return Refused(Problem(UNAVAILABLE, message, retry_after=5, retryable=True))
