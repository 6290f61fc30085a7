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

`money/quotas/slices.py` has the state of the slices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
COVER_SECONDS: Final = 4.0
"""Maximum number of seconds for which a worker's request waits for the bank of several gateways. It is shorter than
`ASK_SECONDS`, for which the worker waits for this process."""
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

_Waiting = tuple[Want, "asyncio.Future[Answer | None]"]


class Stopped(Exception):
    """The error for calls that need the quota bank after `Leases.stop`: another process takes over, or this process
    ends.
    """


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
        self.recall_workers: Callable[[Bucket], None] = lambda _bucket: None
        """A function that asks the workers of this process to give back what they do not need of a bucket."""
        self.free_workers: Callable[[Bucket], None] = lambda _bucket: None
        """A function that tells the workers of this process that they may ask for a bucket again."""
        self._seconds = seconds
        self._may_go_on = goes_on
        if bank.needs_reports:
            self._slices.charged = self._charged
        self._unreported: set[Bucket] = set()
        """The rate limits whose latest charges have not been reported to the bank."""
        self._report_timer: asyncio.TimerHandle | None = None
        self._is_away = False
        self.has_stopped = False
        """Whether `stop` was called, and nothing more is requested from the quota bank."""
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
        await self._open(self._slices.charged_amounts())
        self._begin()

    def _begin(self) -> None:
        self.has_stopped = False
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Send no more requests to the quota bank, and spend nothing more, because another process takes over the
        leases.

        Calls that wait for the bank get `Stopped`, and so do calls that need the bank later.
        """
        self.has_stopped = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._fail(self._take_waiting(), Stopped())
        if task is not None:
            await self._report_last()
        self._slices.until = 0.0

    async def resume(self) -> None:
        """Undo `stop`. Raises `StoreFailed` if the quota bank cannot be reached."""
        if self._task is None:
            await self._open_again()
            self._begin()

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
        `Exceeded` if a bucket has too little, `Refused` if the bank cannot be asked, and `Stopped`.
        """
        for _ in range(ROUNDS - 1):
            try:
                return attempt()
            except Exceeded as exceeded:
                if exceeded.short is None:
                    raise
                await self._obtain(exceeded.rule.kind, exceeded.short)
        return attempt()

    async def cover(self, lacking: Iterable[tuple[Bucket, Want]]) -> frozenset[Bucket]:
        """Request amounts that this gateway lacks for calls of its workers. Return once the bank has answered.

        Return the buckets for which no answer came and calls may not be served without it. Raises `Stopped`.
        """
        asked = [(key, self._ask(key, want)) for key, want in lacking]
        answers = [self._answer_to(key, future, COVER_SECONDS) for key, future in asked]
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Refused):
                raise outcome
        return frozenset(key for (key, _), outcome in zip(asked, outcomes, strict=True) if isinstance(outcome, Refused))

    @property
    def bank(self) -> str:
        """The name of the bank in messages to callers."""
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
            if found is not None and (is_awaited or found.free > 0 or found.leased):
                found.scarce_until = self._slices.clock() + SCARCE_SECONDS
                self._soon(key)
                self.recall_workers(key)

    def give_back(self) -> None:
        """Give back what no call needs of all slices, now and after each later call."""
        self._slices.is_leaving = True
        self.recalled(None)

    def refilled(self, bucket: Bucket | None) -> None:
        """Let calls ask the quota bank again for a bucket. The bucket was refilled, or other processes have given back
        parts of it.

        `bucket` is None for all buckets.
        """
        for key in list(self._slices.active) if bucket is None else [bucket]:
            if (found := self._bucket(key)) is not None:
                found.dry_until = 0.0
                self.free_workers(key)
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
        """Ask the quota bank for the amount that a call lacks.

        Raises `Refused` if the bank cannot be asked, and `Stopped`.
        """
        key, want = Bucket(kind, short.bucket), Want(short.amount, short.others, short.is_partial)
        for seconds in (*self._recall_seconds, 0.0):
            # the event is there before the bank is asked, because its word may come right after the answer
            with self._waiting_for(key) as freed:
                answer = await self._answer_to(key, self._ask(key, want), ASK_SECONDS)
                if answer is None or not (answer.is_refused and answer.elsewhere) or not seconds:
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await freed.wait()
        if answer is not None and answer.away:
            raise _unknown(key, answer.away)

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

    def _ask(self, key: Bucket, want: Want) -> asyncio.Future[Answer | None]:
        """Ask the quota bank. Return a future with its answer. Raises `Stopped` if `stop` has been called before.

        The future's result is None if the bucket was forgotten meanwhile. The future has the exception `StoreFailed`
        if the bank cannot be reached, and the exception `Stopped` if `stop` is called before the answer comes.
        """
        if self.has_stopped:
            raise Stopped
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        if self._is_away:
            future.set_exception(StoreFailed(f"{self._bank.name} is away"))
            return future
        self._waiting.setdefault(key, []).append((want, future))
        if (bucket := self._bucket(key)) is not None:
            bucket.waiting += 1
            future.add_done_callback(lambda _future: bucket.stop_waiting())
        self._wake.set()
        return future

    async def _answer_to(self, bucket: Bucket, asked: asyncio.Future[Answer | None], seconds: float) -> Answer | None:
        """Return the quota bank's answer to a request (`asked`, the result of `_ask`), or None if the call must do
        without one.

        Raises `Refused` if the bank does not answer and calls may not be served without it. Raises `Stopped`.
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

        Calls that wait get the answer or an error. After any error, the next round tries again.
        """
        waiting = self._take_waiting()
        try:
            await self._exchange(waiting)
        except StoreFailed as error:
            self._lose(str(error))
            self._fail(waiting, error)
        except Exception as error:  # noqa: BLE001 (whatever it is, later calls need the next round)
            if not self._is_away:
                self._log.exception("leases.round_failed")
            self._lose(repr(error))
            self._fail(waiting, StoreFailed(repr(error)))
        except BaseException:
            self._fail(waiting, Stopped())
            raise

    async def _exchange(self, waiting: Mapping[Bucket, list[_Waiting]]) -> None:
        """Send the quota bank the requests of the calls that wait, and of all other buckets that need it.

        If the bank has forgotten this process, register again. The calls then wait for the next request. Raises
        `StoreFailed`.
        """
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
            if self.has_stopped:
                raise StoreFailed("it has forgotten this process") from None
            await self._open_again()
            for key, calls in waiting.items():
                self._waiting.setdefault(key, []).extend(calls)
            self._wake.set()
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

    async def _open(self, recorded: Mapping[Bucket, int]) -> None:
        """Register this process at the quota bank. `recorded` are the charges whose records the bank has, by bucket.

        Raises `StoreFailed`.
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
        """Register this process at the quota bank again. Raises `StoreFailed`."""
        # `flush` does not cover the charges of calls that end while it waits
        recorded = self._slices.charged_amounts()
        await self._records.flush()
        await self._open(recorded)

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
        """Remember that the quota bank cannot be reached. Log this, unless it was known already.

        After `stop`, do nothing, because calls must not use the last known balances.
        """
        if self.has_stopped:
            return
        self._slices.goes_on, self._slices.limits_go_on = self._may_go_on, self._bank.needs_reports
        if not self._is_away:
            self._is_away = True
            then = "calls go on by the last known balances" if self._may_go_on else "calls are refused"
            self._log.error("leases.bank_is_away", reason=reason, when_the_slices_are_used_up=then)

    def _take_waiting(self) -> dict[Bucket, list[_Waiting]]:
        """Return the calls that wait for the quota bank, without those that were cancelled meanwhile."""
        waiting, self._waiting = self._waiting, {}
        live = {key: [call for call in calls if not call[1].done()] for key, calls in waiting.items()}
        return {key: calls for key, calls in live.items() if calls}

    def _fail(self, waiting: Mapping[Bucket, list[_Waiting]], error: StoreFailed | Stopped) -> None:
        for calls in waiting.values():
            for _, future in calls:
                if not future.done():
                    future.set_exception(error)


def _unknown(bucket: Bucket, bank: str) -> Refused:
    """Return the refusal of a call, because the bank of this name cannot be asked about a bucket."""
    why = f"because {bank} is away; try again later"
    message = f'what quota "{bucket.name}" has left cannot be asked now, {why}'
    return Refused(Problem(UNAVAILABLE, message, retry_after=5, retryable=True))


def _resolve(waiting: Mapping[Bucket, list[_Waiting]], answers: Mapping[Bucket, Answer]) -> None:
    for key, calls in waiting.items():
        for _, future in calls:
            if not future.done():
                # there is no answer if the bucket was forgotten meanwhile; the call then asks again
                future.set_result(answers.get(key))
