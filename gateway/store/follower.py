"""From the journal into the store: what a call leaves is written down at once and taken over a moment later.

`put` is on the way of every call; all else happens behind it, in a task that reads the journal and gives it to the
store, batch by batch. A store that fails is tried again for as long as it takes, and what was kept begins where it
ended when the process comes back. What lines say is in `entries.py`, how a store keeps them is its own affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic, time
from typing import Final

from gateway.store.base import JournalOffset, Store, StoreFailed
from gateway.store.entries import Entry, decode, encode
from gateway.store.journal import Journal
from gateway.telemetry.log import Logger

EVERY: Final = 0.05
"""Seconds between two looks: a call can be read well within 100 ms, and a busy second is at most 20 commits."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Of the journal that are taken over in one transaction: some 6,000 calls, which bounds how long a lock is held."""
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
FLUSH_SECONDS: Final = 5.0
"""How long a flush, or the end of the process, waits for a store that refuses."""
EXPIRE_EVERY: Final = 10.0
EXPIRE_AT_ONCE: Final = 2000
"""Calls that are deleted in one transaction."""


class JournalFollower:
    """Owns the journal; the store is given. `retention` gives the seconds for which calls are kept, None for ever."""

    def __init__(
        self, journal: Journal, store: Store, log: Logger, *, retention: Callable[[], float | None] = lambda: None
    ) -> None:
        self._journal = journal
        self._store = store
        self._log = log
        self._retention = retention
        self._place = store.begun
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._taken_over = asyncio.Condition()
        self._expire_at = 0.0

    @property
    def full(self) -> bool:
        """The disk takes nothing, and memory is at its bound: no call should begin."""
        return self._journal.full

    @property
    def lag(self) -> int:
        """Bytes of the journal that the store has not taken over; of one file, which is all unless it is far behind."""
        end = self._journal.end
        behind = end.offset - (self._place.offset if self._place.segment == end.segment else 0)
        return behind + self._journal.waiting

    @property
    def failing(self) -> bool:
        """The store refused the last time."""
        return self._failures > 0

    def put(self, entry: Entry) -> None:
        """Write an entry down. Never raises, and waits for nothing.

        While nothing more fits, calls that are refused for that very reason are not kept: they would be without end.
        """
        if self.full and entry.call is not None and entry.call.outcome == "refused":
            return
        self._journal.append(encode(entry))

    async def start(self) -> None:
        """Take over what an earlier process left, then follow. Raises `StoreFailed` where the store cannot be had."""
        await self._catch_up()
        self._task = asyncio.create_task(self._follow())

    async def flush(self) -> None:
        """Return when all that was put before is in the store. Raises `StoreFailed` when that takes too long."""
        end = self._journal.end
        self._hurry.set()
        try:
            async with asyncio.timeout(FLUSH_SECONDS), self._taken_over:
                await self._taken_over.wait_for(lambda: self._place >= end and not self._journal.waiting)
        except TimeoutError:
            raise StoreFailed(f"{self.lag} bytes of the journal could not be taken over yet") from None

    async def close(self) -> None:
        """Take over what there is if the store lets us; what is left is taken over at the next start."""
        if self._task is not None:
            try:
                await self.flush()
            except StoreFailed as error:
                self._log.error("store.behind", reason=str(error), kept="in the journal")
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._journal.close()

    async def _follow(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pause()):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            self._hurry.clear()
            self._journal.retry()
            try:
                await self._catch_up()
                await self._expire()
            except Exception as error:  # noqa: BLE001 (whatever it is, calls must go on being taken over)
                self._failed(error)
            else:
                self._succeeded()

    def _pause(self) -> float:
        return EVERY if not self._failures else RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1]

    async def _catch_up(self) -> None:
        """Raises `StoreFailed`, with the place where the next try begins."""
        while self._place < self._journal.end:
            lines, place = await asyncio.to_thread(self._journal.read, self._place, BATCH_BYTES)
            if not lines and place == self._place:
                break
            entries, wrong = await asyncio.to_thread(decode, lines)
            if wrong:
                self._log.error("journal.unreadable_lines", lines=wrong)
            await self._store.write(entries, place)
            if place.segment > self._place.segment:
                await asyncio.to_thread(self._journal.discard, place)
            await self._reach(place)
        await self._reach(self._place)

    async def _reach(self, place: JournalOffset) -> None:
        async with self._taken_over:
            self._place = place
            self._taken_over.notify_all()

    async def _expire(self) -> None:
        """Delete what is too old, a little at a time."""
        seconds = self._retention()
        # not by the clock of the day, which may be set back by hours
        now = monotonic()
        if seconds is None or now < self._expire_at:
            return
        self._journal.renew(seconds)
        deleted = await self._store.expire(time() - seconds, EXPIRE_AT_ONCE)
        # where there is more, the next look goes on with it
        self._expire_at = now if deleted == EXPIRE_AT_ONCE else now + EXPIRE_EVERY

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            reason = str(error) if isinstance(error, StoreFailed) else repr(error)
            self._log.error("store.write_failed", reason=reason, kept="in the journal")

    def _succeeded(self) -> None:
        if self._failures:
            self._log.info("store.recovered", failures=self._failures)
        self._failures = 0
