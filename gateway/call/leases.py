"""Asks the bank for slices of the quotas that several gateways share (`money/quotas/leases.py`).

- Most calls are covered by the slice, and ask nothing. When a slice gets low, the gateway asks ahead, in the
  background.
- A call that the slice does not cover waits for the bank. Waiting calls are asked for together.
- If the bank has too little while other gateways hold slices, they are told, and give back what they do not need.
- If the bank cannot be reached, calls are served from the slices until these end. Then calls are refused, or go on by
  the last known balances, as `storage.on_outage` says.

`money/quotas/slices.py` has the slices. The bank is in the database (`store/postgres/bank.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from gateway.contract.errors import UNAVAILABLE, Problem, Refused
from gateway.money.quotas.book import Quotas, UnknownBucket
from gateway.money.quotas.bucket_chains import Exceeded, Short
from gateway.money.quotas.buckets import Charge
from gateway.money.quotas.leases import Answer, Ask, Bank, NotOpen
from gateway.money.quotas.slices import IDLE_SECONDS, SCARCE_SECONDS, SlicedBucket, Slices, Want
from gateway.store.base import StoreFailed
from gateway.store.follower import JournalFollower
from gateway.telemetry.log import Logger

T = TypeVar("T")

ASK_SECONDS: Final = 5.0
"""Maximum number of seconds for which a call waits for the bank. A bank that takes longer counts as away."""
RETRY_SECONDS: Final = 0.5
"""Seconds between two questions to a bank that is away."""
RECALL_SECONDS: Final = (0.02, 0.08)
"""Seconds for which a refused call waits, before it asks again, until other gateways have given back what they do not
need."""
ROUNDS: Final = 8
"""Maximum number of questions for one call. Several are needed if the call is charged to several buckets, or if other
calls take what was granted."""
LOOK_SECONDS: Final = 1.0
"""Minimum number of seconds between two reads of all balances, for pages."""

_Waiting = tuple[Want, "asyncio.Future[Answer]"]


class _Stopped(StoreFailed):
    """The answer to calls that wait for the bank while the process stops."""


class Leases:
    """The slices of this gateway, kept up to date with the bank. Leases last for `seconds`.

    `goes_on` is true if calls may go on while the bank is away and the slices are used up.
    """

    def __init__(
        self,
        bank: Bank,
        quotas: Quotas,
        follower: JournalFollower,
        log: Logger,
        *,
        seconds: float,
        goes_on: bool,
    ) -> None:
        assert quotas.slices is not None, "the quotas of a gateway with leases have slices"
        self._bank, self._quotas, self._follower, self._log = bank, quotas, follower, log
        self._slices: Slices = quotas.slices
        self._slices.low = self._soon
        self._seconds = seconds
        self._may_go_on = goes_on
        self._is_away = False
        self._low: set[str] = set()
        self._waiting: dict[str, list[_Waiting]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._renew_at = self._look_at = 0.0

    async def start(self) -> None:
        """Begin anew at the bank. Calls that this process has taken over are covered first.

        All records of earlier calls must be in the store. Raises `StoreFailed` if the bank cannot be reached.
        """
        await self._open()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ask and spend no more, because another process takes the leases over."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._slices.until = 0.0
        self._fail(self._take_waiting(), _Stopped())

    async def resume(self) -> None:
        """Undo `stop`. Raises `StoreFailed` if the bank cannot be reached."""
        if self._task is None:
            await self._follower.flush()
            await self.start()

    async def close(self) -> None:
        """Give everything back. The bank takes back by itself what cannot be given back now."""
        if self._task is not None:
            await self.stop()
            with suppress(StoreFailed):
                await self._bank.leave()

    async def reserve(self, attempt: Callable[[], T]) -> T:
        """Return the result of `attempt`, which reserves amounts, after asking the bank for what is missing.

        Raises `Exceeded` if a bucket has too little, and `Refused` if the bank cannot be asked.
        """
        for _ in range(ROUNDS - 1):
            try:
                return attempt()
            except Exceeded as exceeded:
                if exceeded.short is None:
                    raise
                await self._obtain(exceeded.short)
        return attempt()

    async def refill(self, bucket: str, amount: int) -> Charge:
        """Add an amount to a bucket. Raises `UnknownBucket` or `StoreFailed`."""
        rule = self._quotas.rule_of(bucket)
        if rule is None:
            raise UnknownBucket(bucket)
        charge = await self._bank.refill(bucket, rule, amount)
        self.refilled(bucket)
        self._look_at = 0.0
        await self.look()
        return charge

    async def look(self) -> None:
        """Bring the balances that pages show up to date. If the bank cannot be reached, they stay as they are."""
        now = self._slices.clock()
        if now >= self._look_at and not self._is_away:
            self._look_at = now + LOOK_SECONDS
            with suppress(StoreFailed):
                self._quotas.show(await self._bank.standings())

    def recalled(self, bucket: str) -> None:
        """Give back what no call needs of a bucket, or of all buckets for "". Another gateway has too little."""
        for name in [bucket] if bucket else list(self._slices.active):
            found = self._bucket(name)
            if found is not None and found.free > 0:
                found.scarce_until = self._slices.clock() + SCARCE_SECONDS
                self._soon(name)

    def refilled(self, bucket: str) -> None:
        """Ask the bank again for a bucket that was refilled, or for all buckets for ""."""
        for one in [self._bucket(bucket)] if bucket else self._slices.active.values():
            if one is not None:
                one.dry_until = 0.0

    def _soon(self, bucket: str) -> None:
        self._low.add(bucket)
        self._wake.set()

    def _bucket(self, name: str) -> SlicedBucket | None:
        return self._quotas.sliced(name) or self._slices.active.get(name)

    async def _obtain(self, short: Short) -> None:
        """Ask the bank for what a call lacks. Raises `Refused` if the bank cannot be asked."""
        want = Want(short.amount, short.others, short.is_partial)
        for seconds in (*RECALL_SECONDS, 0.0):
            answer = await self._asked(short.bucket, want)
            if answer is None or not (answer.is_refused and answer.elsewhere) or not seconds:
                return
            await asyncio.sleep(seconds)

    async def _asked(self, bucket: str, want: Want) -> Answer | None:
        """Return the answer of the bank; None if calls go on without it. Raises `Refused` if they do not."""
        if not self._is_away:
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(bucket, []).append((want, future))
            self._wake.set()
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    return await future
            except TimeoutError:
                self._lose("it did not answer in time")
            except StoreFailed:
                pass
        if self._may_go_on:
            return None
        message = f'what quota "{bucket}" has left cannot be asked now, because the database is away; try again later'
        raise Refused(Problem(UNAVAILABLE, message, retry_after=5, retryable=True))

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS if self._is_away else self._seconds / 3):
                    await self._wake.wait()
            self._wake.clear()
            await self._round()
            if self._is_away:
                await asyncio.sleep(RETRY_SECONDS)

    async def _round(self) -> None:
        """Ask the bank once, about all buckets that need it."""
        waiting = self._take_waiting()
        low, self._low = self._low, set()
        now = self._slices.clock()
        is_due = now >= self._renew_at
        names = {*waiting, *low, *(self._due(now) if is_due else ())}
        if not names and not (is_due and self._slices.active) and not self._is_away:
            return
        buckets = {name: bucket for name in names if (bucket := self._bucket(name)) is not None}
        asks = [
            self._slices.ask(name, bucket, [want for want, _ in waiting.get(name, ())])
            for name, bucket in buckets.items()
        ]
        try:
            answers = await self._bank.exchange(asks)
        except NotOpen:
            await self._open_again(waiting)
        except StoreFailed as error:
            self._lose(str(error))
            self._fail(waiting, error)
        else:
            self._renewed(now)
            self._apply(asks, answers, buckets)
            _resolve(waiting, answers)

    def _due(self, now: float) -> Sequence[str]:
        """Return the buckets about which the bank must be told something when the leases are renewed."""
        active = self._slices.active.items()
        return [name for name, one in active if one.free < 0 or now - one.used_at >= IDLE_SECONDS]

    def _apply(self, asks: Sequence[Ask], answers: Sequence[Answer], buckets: Mapping[str, SlicedBucket]) -> None:
        for ask, answer in zip(asks, answers, strict=True):
            bucket = buckets[answer.bucket]
            self._slices.apply(ask, answer, bucket)
            if bucket.free < 0 and not bucket.rule.notify:
                # the bank had taken the slice back, and calls in flight must be covered again
                self._soon(answer.bucket)

    async def _open(self) -> None:
        slices = self._slices
        slices.begin()
        buckets = {name: one for name, one in self._quotas.all_sliced() if one.calls} | slices.active
        asks = [slices.ask(name, bucket) for name, bucket in buckets.items()]
        now = slices.clock()
        answers = await self._bank.open(asks)
        self._renewed(now)
        self._apply(asks, answers, buckets)

    async def _open_again(self, waiting: Mapping[str, list[_Waiting]]) -> None:
        """Begin anew, because the bank has forgotten this gateway."""
        try:
            await self._follower.flush()
            await self._open()
        except StoreFailed as error:
            self._lose(str(error))
            self._fail(waiting, error)
        else:
            for name, calls in waiting.items():
                self._waiting.setdefault(name, []).extend(calls)
            self._wake.set()

    def _renewed(self, now: float) -> None:
        """Count the leases from `now`, a time before the bank was asked. So they end here before they end there."""
        self._slices.until, self._renew_at = now + self._seconds, now + self._seconds / 3
        self._slices.goes_on = False
        if self._is_away:
            self._is_away = False
            self._log.info("leases.bank_is_back")

    def _lose(self, reason: str) -> None:
        """Remember that the bank cannot be reached, and log it if it could be reached before."""
        self._slices.goes_on = self._may_go_on
        if not self._is_away:
            self._is_away = True
            then = "calls go on by the last known balances" if self._may_go_on else "calls are refused"
            self._log.error("leases.bank_is_away", reason=reason, when_the_slices_are_used_up=then)

    def _take_waiting(self) -> dict[str, list[_Waiting]]:
        waiting, self._waiting = self._waiting, {}
        return waiting

    def _fail(self, waiting: Mapping[str, list[_Waiting]], error: StoreFailed) -> None:
        for calls in waiting.values():
            for _, future in calls:
                if not future.done():
                    future.set_exception(error)


def _resolve(waiting: Mapping[str, list[_Waiting]], answers: Sequence[Answer]) -> None:
    by_name = {answer.bucket: answer for answer in answers}
    for name, calls in waiting.items():
        for _, future in calls:
            if future.done():
                continue
            if (answer := by_name.get(name)) is not None:
                future.set_result(answer)
            else:
                future.cancel()
