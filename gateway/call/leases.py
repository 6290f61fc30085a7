"""Asks for slices of the balances that several processes share.

A slice is the part of a balance that only this gateway may spend. The bank keeps the balances and grants the slices
(`money/quotas/leases.py`).

- The slice covers most calls, so they need no request to the bank. When a slice gets low, the gateway asks for more in
  the background.
- A call that the slice does not cover waits for the bank. One request serves all waiting calls.
- If the bank has too little, the other gateways give back the parts of their slices that they do not need.
- If the bank cannot be reached, calls are served from the slices until the slices are used up or the leases end. Then
  `storage.on_outage` decides: calls are refused, or they use the last known balances.

`money/quotas/slices.py` has the slices. The bank of several gateways is in the database (`store/postgres/bank.py`). The
bank of the workers of one gateway is its keeper (`money/quotas/lending.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Protocol, TypeVar

from gateway.contract.errors import UNAVAILABLE, Problem, Refused
from gateway.money.quotas.book import Quotas, UnknownBucket
from gateway.money.quotas.bucket_chains import Exceeded, Short
from gateway.money.quotas.buckets import Bucket, Charge, Kind
from gateway.money.quotas.leases import Answer, Ask, Bank, NotOpen
from gateway.money.quotas.slices import IDLE_SECONDS, SCARCE_SECONDS, SlicedBucket, Slices, Want
from gateway.store.base import StoreFailed
from gateway.telemetry.log import Logger

T = TypeVar("T")

ASK_SECONDS: Final = 5.0
"""Maximum number of seconds for which a call waits for the bank. A bank that takes longer counts as unreachable."""
RETRY_SECONDS: Final = 0.5
"""Seconds between two requests to a bank that cannot be reached."""
RECALL_SECONDS: Final = (0.02, 0.08)
"""Seconds for which a refused call waits before each further request. Meanwhile, other gateways give back what they do
not need.
"""
ROUNDS: Final = 8
"""Maximum number of requests to the bank for one call. Several are needed if the call is charged to several buckets, or
if other calls take the granted amount.
"""
REPORT_SECONDS: Final = 1.0
"""Seconds after which a charge to a rate limit is reported to the bank. Before the report, the bank counts the charged
amount as unspent, and refills the bucket by too little.
"""
LOOK_SECONDS: Final = 1.0
"""Minimum number of seconds between two reads of all balances for pages."""

_Waiting = tuple[Want, "asyncio.Future[Answer]"]


class _Stopped(StoreFailed):
    """The error for calls that wait for the quota bank while another process takes over."""


class Records(Protocol):
    """The records that this process writes."""

    async def flush(self) -> None:
        """Wait until the quota bank has all records that were written so far. Raises `StoreFailed` if this takes too
        long.
        """


class Leases:
    """Keeps the slices of this process up to date, by requests to the bank. A lease lasts for `seconds`.

    A slice is the part of a shared balance that only this process may spend. The bank keeps the balances. `goes_on` is
    true if calls may use the last known balances while the bank cannot be reached.

    If the bank refuses a call, the request is repeated after each of the waits in `recall_seconds`. A wait ends early
    if the bank reports that other processes have given amounts back (`refilled`).
    """

    def __init__(
        self,
        bank: Bank,
        quotas: Quotas,
        records: Records,
        log: Logger,
        *,
        seconds: float,
        goes_on: bool,
        recall_seconds: Sequence[float] = RECALL_SECONDS,
    ) -> None:
        assert quotas.slices is not None, "the quotas of a process with leases have slices"
        self._bank, self._quotas, self._records, self._log = bank, quotas, records, log
        self._slices: Slices = quotas.slices
        self._slices.low = self._soon
        self._seconds = seconds
        self._may_go_on = goes_on
        if bank.needs_reports:
            self._slices.charged = self._charged
        self._unreported: set[Bucket] = set()
        """The rate limits whose latest charges have not been reported to the bank."""
        self._report_timer: asyncio.TimerHandle | None = None
        self._is_away = False
        self._recall_seconds = recall_seconds
        self._low: set[Bucket] = set()
        self._waiting: dict[Bucket, list[_Waiting]] = {}
        self._freed: dict[Bucket, set[asyncio.Event]] = {}
        """Events that are set when other processes have given back parts of a bucket. Refused calls wait for them."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._renew_at = self._look_at = 0.0

    async def start(self) -> None:
        """Register this gateway at the bank, which keeps the shared balances.

        The gateway gets slices for the calls that this process has taken over from another process. All records of
        earlier calls must be in the store. Raises `StoreFailed` if the bank cannot be reached.
        """
        await self._open()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Send no more requests to the quota bank, and spend nothing more, because another process takes over the
        leases.
        """
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await self._report_last()
        self._slices.until = 0.0
        self._fail(self._take_waiting(), _Stopped())

    async def resume(self) -> None:
        """Undo `stop`. Raises `StoreFailed` if the quota bank cannot be reached."""
        if self._task is None:
            await self._records.flush()
            await self.start()

    async def close(self) -> None:
        """Give all slices of balances back to the quota bank. If the bank cannot be reached, it takes them back when
        the leases end.
        """
        if self._task is not None:
            await self.stop()
            with suppress(StoreFailed):
                await self._bank.leave()

    async def reserve(self, attempt: Callable[[], T]) -> T:
        """Return the result of `attempt`, which reserves amounts in quota buckets.

        If this process's slice of a bucket is too small, ask the quota bank for more, and call `attempt` again. Raises
        `Exceeded` if a bucket has too little, and `Refused` if the bank cannot be asked.
        """
        for _ in range(ROUNDS - 1):
            try:
                return attempt()
            except Exceeded as exceeded:
                if exceeded.short is None:
                    raise
                await self._obtain(exceeded.rule.kind, exceeded.short)
        return attempt()

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
        """Update the balances that pages show. If the quota bank cannot be reached, the balances stay as they are."""
        now = self._slices.clock()
        if now >= self._look_at and not self._is_away:
            self._look_at = now + LOOK_SECONDS
            with suppress(StoreFailed):
                self._quotas.show(await self._bank.standings())

    def recalled(self, bucket: Bucket | None, *, is_awaited: bool = False) -> None:
        """Give the unneeded part of this process's slice of a quota bucket back, because another process has too
        little.

        `bucket` is None for all buckets. If `is_awaited` is true, a request is sent to the quota bank even if there is
        nothing to give back, because the bank waits for this request.
        """
        for key in list(self._slices.active) if bucket is None else [bucket]:
            found = self._bucket(key)
            if found is not None and (is_awaited or found.free > 0):
                found.scarce_until = self._slices.clock() + SCARCE_SECONDS
                self._soon(key)

    def refilled(self, bucket: Bucket | None) -> None:
        """Let calls ask the quota bank again for a bucket. The bucket was refilled, or other processes have given back
        parts of it.

        `bucket` is None for all buckets.
        """
        for key in list(self._slices.active) if bucket is None else [bucket]:
            if (found := self._bucket(key)) is not None:
                found.dry_until = 0.0
            for freed in self._freed.pop(key, ()):
                freed.set()

    def _charged(self, bucket: Bucket) -> None:
        """Tell the quota bank that a rate limit was charged, at most `REPORT_SECONDS` from now."""
        if bucket.kind != "money":
            self._unreported.add(bucket)
            if self._report_timer is None:
                self._report_timer = asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report)

    def _report(self) -> None:
        self._report_timer = None
        self._low |= self._unreported
        self._wake.set()

    async def _report_last(self) -> None:
        """Tell the quota bank of all charges to rate limits, before this process gives up its slices of the
        balances.
        """
        if self._report_timer is not None:
            self._report_timer.cancel()
            self._report_timer = None
        if self._unreported and not self._is_away:
            self._low |= self._unreported
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._round()

    def _soon(self, bucket: Bucket) -> None:
        self._low.add(bucket)
        self._wake.set()

    def _bucket(self, key: Bucket) -> SlicedBucket | None:
        return self._quotas.sliced(key.name, key.kind) or self._slices.active.get(key)

    async def _obtain(self, kind: Kind, short: Short) -> None:
        """Ask the quota bank for the amount that a call lacks. Raises `Refused` if the bank cannot be asked."""
        key, want = Bucket(kind, short.bucket), Want(short.amount, short.others, short.is_partial)
        for seconds in (*self._recall_seconds, 0.0):
            # the event is there before the bank is asked, because its word may come right after the answer
            with self._waiting_for(key) as freed:
                answer = await self._asked(key, want)
                if answer is None or not (answer.is_refused and answer.elsewhere) or not seconds:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await freed.wait()

    @contextmanager
    def _waiting_for(self, key: Bucket) -> Iterator[asyncio.Event]:
        """Yield an event that is set when other processes have given back parts of a quota bucket."""
        freed = asyncio.Event()
        self._freed.setdefault(key, set()).add(freed)
        try:
            yield freed
        finally:
            # after `refilled`, the set is that of later calls or none
            if (waiting := self._freed.get(key)) is not None:
                waiting.discard(freed)
                if not waiting:
                    del self._freed[key]

    async def _asked(self, bucket: Bucket, want: Want) -> Answer | None:
        """Ask the quota bank, and return its answer.

        If the bank does not answer, the result is None if calls may be served without an answer. If they may not,
        raises `Refused`.
        """
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
        if self._may_go_on or (self._bank.needs_reports and bucket.kind != "money"):
            return None
        why = f"because {self._bank.name} is away; try again later"
        message = f'what quota "{bucket.name}" has left cannot be asked now, {why}'
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
        """Send one request to the quota bank, for all buckets that need it."""
        waiting = self._take_waiting()
        low, self._low = self._low, set()
        now = self._slices.clock()
        is_due = now >= self._renew_at
        keys = {*waiting, *low, *(self._due(now) if is_due else ()), *(self._unreported if self._is_away else ())}
        if not keys and not (is_due and self._slices.active) and not self._is_away:
            return
        buckets = {key: bucket for key in keys if (bucket := self._bucket(key)) is not None}
        asks = [
            self._slices.ask(key.name, bucket, [want for want, _ in waiting.get(key, ())])
            for key, bucket in buckets.items()
        ]
        try:
            answers = await self._bank.exchange(asks)
        except NotOpen:
            await self._open_again(waiting)
        except StoreFailed as error:
            self._lose(str(error))
            self._fail(waiting, error)
        else:
            self._unreported -= {key for key, ask in zip(buckets, asks, strict=True) if buckets[key].spent == ask.spent}
            self._renewed(now)
            self._apply(asks, answers, buckets)
            _resolve(waiting, dict(zip(buckets, answers, strict=True)))

    def _due(self, now: float) -> Sequence[Bucket]:
        """Return the quota buckets that the next renewal of the leases must include: overspent buckets, and idle ones.

        This process's slices of idle buckets are given back.
        """
        active = self._slices.active.items()
        return [key for key, one in active if one.free < 0 or now - one.used_at >= IDLE_SECONDS]

    def _apply(self, asks: Sequence[Ask], answers: Sequence[Answer], buckets: Mapping[Bucket, SlicedBucket]) -> None:
        for ask, answer in zip(asks, answers, strict=True):
            bucket = buckets[ask.key]
            self._slices.apply(ask, answer, bucket)
            if bucket.free < 0 and not bucket.rule.notify:
                # the bank had taken the slice back, and calls in flight must be covered again
                self._soon(ask.key)

    async def _open(self) -> None:
        slices = self._slices
        slices.begin()
        buckets = {key: one for key, one in self._quotas.all_sliced().items() if one.calls} | slices.active
        asks = [slices.ask(key.name, bucket) for key, bucket in buckets.items()]
        now = slices.clock()
        answers = await self._bank.open(asks)
        self._renewed(now)
        self._apply(asks, answers, buckets)

    async def _open_again(self, waiting: Mapping[Bucket, list[_Waiting]]) -> None:
        """Register this process at the quota bank again, because the bank has forgotten it."""
        try:
            await self._records.flush()
            await self._open()
        except StoreFailed as error:
            self._lose(str(error))
            self._fail(waiting, error)
        else:
            for key, calls in waiting.items():
                self._waiting.setdefault(key, []).extend(calls)
            self._wake.set()

    def _renewed(self, now: float) -> None:
        """Renew the leases. They last from `now` on, which is the time just before the request to the quota bank.

        So the leases end in this process before they end at the bank.
        """
        self._slices.until, self._renew_at = now + self._seconds, now + self._seconds / 3
        self._slices.goes_on = self._slices.limits_go_on = False
        if self._is_away:
            self._is_away = False
            self._log.info("leases.bank_is_back")

    def _lose(self, reason: str) -> None:
        """Remember that the quota bank cannot be reached. Log this, unless it was known already."""
        self._slices.goes_on, self._slices.limits_go_on = self._may_go_on, self._bank.needs_reports
        if not self._is_away:
            self._is_away = True
            then = "calls go on by the last known balances" if self._may_go_on else "calls are refused"
            self._log.error("leases.bank_is_away", reason=reason, when_the_slices_are_used_up=then)

    def _take_waiting(self) -> dict[Bucket, list[_Waiting]]:
        waiting, self._waiting = self._waiting, {}
        return waiting

    def _fail(self, waiting: Mapping[Bucket, list[_Waiting]], error: StoreFailed) -> None:
        for calls in waiting.values():
            for _, future in calls:
                if not future.done():
                    future.set_exception(error)


def _resolve(waiting: Mapping[Bucket, list[_Waiting]], answers: Mapping[Bucket, Answer]) -> None:
    for key, calls in waiting.items():
        for _, future in calls:
            if future.done():
                continue
            if (answer := answers.get(key)) is not None:
                future.set_result(answer)
            else:
                future.cancel()
