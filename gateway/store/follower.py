"""The follower of the journal: entries are written to the journal at once, and applied to the store a moment later.

- `put` is on the path of every call. Everything else is done in a task that applies the journal in batches.
- A store that fails is tried again for as long as it takes.
- After a restart the follower continues at the offset that the store holds.

Lines of the journal are in `entries.py`; nothing here knows how a store writes them.
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

POLL_SECONDS: Final = 0.05
"""Seconds between two batches: a call can be read well within 100 ms, and a busy second has at most 20 commits."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Bytes of the journal that are applied in one transaction: some 6,000 calls, which bounds the time of its lock."""
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each further try of a store that failed; the last one is repeated."""
FLUSH_SECONDS: Final = 5.0
"""Seconds that a flush, or the end of the process, waits for a store that fails."""
EXPIRE_SECONDS: Final = 10.0
"""Seconds between two searches for expired calls, once all of them are deleted."""
EXPIRE_BATCH_CALLS: Final = 2000
"""Most calls that are deleted in one transaction, because it holds the lock."""


class JournalFollower:
    """Owns the journal and applies it to a store. `retention` returns the seconds that calls stay, None for ever."""

    def __init__(
        self, journal: Journal, store: Store, log: Logger, *, retention: Callable[[], float | None] = lambda: None
    ) -> None:
        self._journal = journal
        self._store = store
        self._log = log
        self._retention = retention
        self._offset = store.start_offset
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._flush_now = asyncio.Event()
        self._applied = asyncio.Condition()
        self._expire_at = 0.0

    @property
    def full(self) -> bool:
        """Whether the disk is full and memory is at its bound, so that no call should begin."""
        return self._journal.full

    @property
    def lag(self) -> int:
        """Bytes of the journal's newest file that are not applied yet; older files are not counted."""
        end = self._journal.end
        behind = end.byte - (self._offset.byte if self._offset.segment == end.segment else 0)
        return behind + self._journal.waiting

    @property
    def failing(self) -> bool:
        """Whether the last try to write to the store failed."""
        return self._failures > 0

    def put(self, entry: Entry) -> None:
        """Append an entry to the journal. Never raises, and never waits.

        While the journal is full, refused calls are left out: they are refused because it is full, without end.
        """
        if self.full and entry.call is not None and entry.call.outcome == "refused":
            return
        self._journal.append(encode(entry))

    async def start(self) -> None:
        """Apply the journal of an earlier process, then follow it. Raises `StoreFailed`."""
        await self._catch_up()
        self._task = asyncio.create_task(self._follow())

    async def flush(self) -> None:
        """Wait until everything put before is in the store. Raises `StoreFailed` when that takes too long."""
        end = self._journal.end
        self._flush_now.set()
        try:
            async with asyncio.timeout(FLUSH_SECONDS), self._applied:
                await self._applied.wait_for(lambda: self._offset >= end and not self._journal.waiting)
        except TimeoutError:
            raise StoreFailed(f"{self.lag} bytes of the journal could not be taken over yet") from None

    async def close(self) -> None:
        """Apply the rest of the journal; what the store does not accept is applied at the next start."""
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
                    await self._flush_now.wait()
            except TimeoutError:
                pass
            self._flush_now.clear()
            self._journal.retry()
            try:
                await self._catch_up()
                await self._expire()
            except Exception as error:  # noqa: BLE001 (whatever it is, the journal must be applied further)
                self._failed(error)
            else:
                self._succeeded()

    def _pause(self) -> float:
        return POLL_SECONDS if not self._failures else RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1]

    async def _catch_up(self) -> None:
        """Apply the journal up to its end. Raises `StoreFailed`; the offset is then that of the next try."""
        while self._offset < self._journal.end:
            lines, offset = await asyncio.to_thread(self._journal.read, self._offset, BATCH_BYTES)
            if not lines and offset == self._offset:
                break
            entries, unreadable = await asyncio.to_thread(decode, lines)
            if unreadable:
                self._log.error("journal.unreadable_lines", lines=unreadable)
            await self._store.write(entries, offset)
            if offset.segment > self._offset.segment:
                await asyncio.to_thread(self._journal.discard, offset)
            await self._advance(offset)
        await self._advance(self._offset)

    async def _advance(self, offset: JournalOffset) -> None:
        async with self._applied:
            self._offset = offset
            self._applied.notify_all()

    async def _expire(self) -> None:
        """Delete expired calls, one batch at a time."""
        seconds = self._retention()
        # not by the clock of the day, which may be set back by hours
        now = monotonic()
        if seconds is None or now < self._expire_at:
            return
        self._journal.renew(seconds)
        deleted = await self._store.expire(time() - seconds, EXPIRE_BATCH_CALLS)
        # where there are more, the next turn deletes them
        self._expire_at = now if deleted == EXPIRE_BATCH_CALLS else now + EXPIRE_SECONDS

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            reason = str(error) if isinstance(error, StoreFailed) else repr(error)
            self._log.error("store.write_failed", reason=reason, kept="in the journal")

    def _succeeded(self) -> None:
        if self._failures:
            self._log.info("store.recovered", failures=self._failures)
        self._failures = 0
