"""The requests of one process to the quota bank, the service that keeps the balances that several processes share.

The bank grants the process slices of the balances: parts that only this process may spend. A slice is granted for a
limited time, its lease (`money/quotas/leases.py`). `leases.py` explains how calls use the slices.

- The process registers at the bank, and then sends requests one after the other. A request asks for the amounts that
  waiting calls need, and enlarges slices that are nearly used up. A request also gives back slices that the process no
  longer needs.
- Each request renews all leases. While the process has slices, the next request follows after at most a third of the
  length of a lease.
- If the bank cannot be reached, the process tries again every `RETRY_SECONDS`.
- If the bank has forgotten the process, the process registers again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from gateway.call.bank_waits import Asked, Questions, fail, resolve
from gateway.money.quotas.book import Quotas
from gateway.money.quotas.buckets import Bucket
from gateway.money.quotas.leases import Answer, Ask, Bank, NotOpen
from gateway.money.quotas.slices import IDLE_SECONDS, SlicedBucket, Slices
from gateway.store.base import StoreFailed
from gateway.telemetry.log import Logger

RETRY_SECONDS: Final = 0.5
"""Seconds between two requests to a quota bank that cannot be reached."""
REPORT_SECONDS: Final = 1.0
"""Maximum number of seconds from a charge to a rate limit until the charge is reported to the quota bank.

Before the report, the bank takes the bucket for fuller than it is. The bank adds a refill only up to the capacity, so a
late report can lose a part of a refill.
"""


class Stopped(Exception):
    """The error for calls that need the quota bank after `BankRounds.stop` was called, because another process takes
    over or this process ends.
    """


class Records(Protocol):
    """The records of calls that this process writes, and that the quota bank reads."""

    async def flush(self) -> None:
        """Wait until the quota bank has received all records that this process has written. Raises `StoreFailed` if
        this takes too long.
        """


class BankRounds:
    """Requests slices (parts of shared balances) from the quota bank for this process, and gives them back.

    `seconds` is the length of the leases, for which the bank grants the slices. `goes_on` is true if calls may use the
    last known balances while the bank cannot be reached.

    `records` is for a bank that learns the charges of this process from the records of its calls. Before the process
    registers at such a bank again, it waits until the bank has received them all. It is None for a bank that keeps the
    sum of the charges itself.
    """

    def __init__(
        self, bank: Bank, quotas: Quotas, records: Records | None, log: Logger, *, seconds: float, goes_on: bool
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
        self.has_stopped = False
        """Whether `stop` was called, and nothing more is requested from the bank."""
        self._low: set[Bucket] = set()
        self._questions = Questions()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._renew_at = 0.0

    async def start(self) -> None:
        """Register this gateway at the bank, which keeps the shared balances.

        If this process has taken over calls from another process, the bank grants it the amounts that these calls have
        reserved. The caller must ensure that the records of all earlier calls are in the store. Raises `StoreFailed` if
        the bank cannot be reached.
        """
        await self._open(self._slices.charged_amounts())
        self._begin()

    def _begin(self) -> None:
        self.has_stopped = False
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Send no more requests to the quota bank, and spend nothing more, because another process takes over what the
        bank has granted.

        Calls that are waiting for the bank get `Stopped`. So do calls that need the bank after this.
        """
        self.has_stopped = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        fail(self._questions.take(), Stopped())
        if task is not None:
            await self._report_last()
        self._slices.until = 0.0

    async def resume(self) -> None:
        """Undo `stop`. Raises `StoreFailed` if the quota bank cannot be reached."""
        if self._task is None:
            await self._open_again()
            self._begin()

    async def close(self) -> None:
        """Give all slices (parts of shared balances) back to the quota bank. If the bank cannot be reached, it takes
        the slices back when their leases end.
        """
        if self._task is not None:
            await self.stop()
            with suppress(StoreFailed):
                await self._bank.leave()

    def _charged(self, bucket: Bucket) -> None:
        """Start a timer, if none is running, that reports a charge to a rate limit to the quota bank. Charges to
        buckets of money are not reported.
        """
        if bucket.kind != "money":
            self._unreported.add(bucket)
            if self._report_timer is None:
                self._report_timer = asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report)

    def _report(self) -> None:
        self._report_timer = None
        self._low |= self._unreported
        self._wake.set()

    async def _report_last(self) -> None:
        """Report the charges to rate limits that the quota bank does not know yet. This is the last report of this
        process.

        Do nothing if the bank cannot be reached. Stop waiting after `REPORT_SECONDS`.
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

    async def _run(self) -> None:
        while True:
            if self._is_away:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._seconds / 3):
                        await self._wake.wait()
            self._wake.clear()
            await self._round()

    async def _round(self) -> None:
        """Send one request to the quota bank, for all buckets that need it.

        Calls that wait get the answer or an error. After an error, the next request is sent `RETRY_SECONDS` later.
        """
        asked = self._questions.take()
        try:
            await self._exchange(asked)
        except StoreFailed as error:
            self._lose(str(error))
            fail(asked, error)
        except Exception as error:  # noqa: BLE001 (whatever it is, later calls need the next round)
            if not self._is_away:
                self._log.exception("leases.round_failed")
            self._lose(repr(error))
            fail(asked, StoreFailed(repr(error)))
        except BaseException:
            fail(asked, Stopped())
            raise

    async def _exchange(self, asked: Asked) -> None:
        """Send one request to the quota bank.

        The request contains the amounts that calls wait for (`asked`), and all other slices (parts of balances) that
        must change. If the bank has forgotten this process, register again, and put `asked` into the next request.
        Raises `StoreFailed` if the bank cannot be reached, or if the bank has forgotten this process and `stop` was
        called.
        """
        low, self._low = self._low, set()
        now = self._slices.clock()
        is_due = now >= self._renew_at
        keys = {*asked, *low, *(self._due(now) if is_due else ()), *(self._unreported if self._is_away else ())}
        if not keys and not (is_due and self._slices.active) and not self._is_away:
            return
        buckets = {key: bucket for key in keys if (bucket := self._bucket(key)) is not None}
        asks = [
            self._slices.ask(key.name, bucket, [question.want for question in asked.get(key, ())])
            for key, bucket in buckets.items()
        ]
        try:
            answers = await self._bank.exchange(asks)
        except NotOpen:
            if self.has_stopped:
                raise StoreFailed("it has forgotten this process") from None
            await self._open_again()
            self._questions.put_back(asked)
            self._wake.set()
        else:
            self._unreported -= {key for key, ask in zip(buckets, asks, strict=True) if buckets[key].spent == ask.spent}
            self._renewed(now)
            self._apply(asks, answers, buckets)
            resolve(asked, dict(zip(buckets, answers, strict=True)))
            # the calls that were answered reserve their amounts now, before the next request states what is free
            await asyncio.sleep(0)

    def _due(self, now: float) -> Sequence[Bucket]:
        """Return the quota buckets to include in the next renewal of the leases, even if no call asks for them.

        A bucket is included if this process has spent more than its slice (its part of the balance), or if it is idle.
        The slice of an idle bucket is given back.
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

    async def _open(self, recorded: Mapping[Bucket, int]) -> None:
        """Register this process at the quota bank.

        `recorded` has the sum of this process's charges to each bucket that the bank already knows from the records of
        calls. Raises `StoreFailed` if the bank cannot be reached, or does not register this process.
        """
        slices = self._slices
        slices.begin(recorded)
        sliced = self._quotas.all_sliced()
        buckets = {key: one for key, one in sliced.items() if one.calls or one.leased} | slices.active
        asks = [slices.ask(key.name, bucket) for key, bucket in buckets.items()]
        now = slices.clock()
        try:
            answers = await self._bank.open(asks)
        except NotOpen:
            raise StoreFailed("it did not register this process") from None
        self._renewed(now)
        self._apply(asks, answers, buckets)

    async def _open_again(self) -> None:
        """Register this process at the quota bank again, because the bank has forgotten this process.

        If the bank learns charges from the records of calls, first wait until it has received them. Raises
        `StoreFailed` if the records do not reach the bank, or if the bank does not register this process.
        """
        recorded: Mapping[Bucket, int] = {}
        if self._records is not None:
            # `flush` does not cover the charges of calls that end while it waits
            recorded = self._slices.charged_amounts()
            await self._records.flush()
        await self._open(recorded)

    def _renewed(self, now: float) -> None:
        """Record that the quota bank has renewed the leases of all slices (parts of balances).

        `now` is the time just before the request was sent. The new leases are counted from this time, so this process
        stops spending before the bank takes the slices back.
        """
        self._slices.until, self._renew_at = now + self._seconds, now + self._seconds / 3
        self._slices.goes_on = self._slices.limits_go_on = False
        if self._is_away:
            self._is_away = False
            self._log.info("leases.bank_is_back")

    def _lose(self, reason: str) -> None:
        """Record that the quota bank cannot be reached. From now on, calls may use the last known balances if the
        configuration allows it.

        The `reason` is logged if the last request succeeded. If `stop` was called, do nothing.
        """
        if self.has_stopped:
            return
        self._slices.goes_on, self._slices.limits_go_on = self._may_go_on, self._bank.needs_reports
        if not self._is_away:
            self._is_away = True
            then = "calls go on by the last known balances" if self._may_go_on else "calls are refused"
            self._log.error("leases.bank_is_away", reason=reason, when_the_slices_are_used_up=then)
