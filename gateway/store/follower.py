"""The follower, which writes entries to the journal at once and applies them to the store a moment later.

- `put_sent` is called before a billed call is sent, and `put` when any call has ended.
- A separate task applies the journal to the store in batches.
- If the store fails, the follower retries without end.
- The store has the offset up to which the journal was applied. After a restart the follower continues there.
- When another process takes over the journal, the follower stops applying the journal. It writes further entries to a
  second journal, the spool. The other process reads them there (`call/spools.py`).

`entries.py` defines the lines of the journal. This module does not know how a store writes entries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from time import monotonic, time
from typing import Final

from gateway.store.base import JournalOffset, Store, StoreFailed
from gateway.store.disk_sync import DiskSync
from gateway.store.entries import Entry, SentCall, decode, encode
from gateway.store.journal import Journal
from gateway.telemetry.log import Logger

POLL_SECONDS: Final = 0.05
"""Seconds between two rounds of applying the journal to the store. With this interval, a call is in the store within
100 ms.

A busy gateway waits for `BUSY_POLL_SECONDS` instead."""
BUSY_POLL_SECONDS: Final = 1.0
"""Seconds between two rounds of applying the journal to the store while the gateway is busy (`BUSY_BYTES`). Open pages
check for new records at the same interval.

Large batches save work. In a batch of 1,000 calls, the store needs less than half as much time for each call as in a
batch of 50."""
BUSY_BYTES: Final = 32 * 1024
"""Number of unapplied bytes of the journal at which the gateway counts as busy. The journal of a busy gateway is
applied less often (`BUSY_POLL_SECONDS`).

The lines of about 20 calls have this size.
"""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Maximum number of bytes of the journal that are applied in one transaction, during which the store is locked.

4 MiB are about 6,000 calls.
"""
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds before the first and each further retry after the store failed. The last number applies to all later
retries."""
FLUSH_SECONDS: Final = 5.0
"""Maximum number of seconds for which `flush` and `close` wait until the journal is applied."""
EXPIRE_SECONDS: Final = 10.0
"""Seconds until the next search for expired calls, if the last search has deleted all expired calls."""
SPOOL_SECONDS: Final = 10.0
"""Seconds after which a spool (a second journal) begins a new file.

The process that applies the spool deletes the files that it has applied completely. After that process is killed, its
successor must read the remaining files again, so short files save work.
"""
CHECK_SECONDS: Final = 5.0
"""Maximum number of seconds without any request to the store. After this time, the follower checks whether the store
still answers."""
EXPIRE_BATCH_CALLS: Final = 2000
"""Maximum number of calls that are deleted in one transaction, during which the store is locked."""


class JournalFollower:
    """Writes entries to the journal, and applies them to a store.

    `retention` returns the number of seconds for which calls are kept in the store, or None if they are kept for ever.
    `sync` flushes the journal to the disk. It is None if the journal is not flushed.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        log: Logger,
        *,
        retention: Callable[[], float | None] = lambda: None,
        sync: DiskSync | None = None,
    ) -> None:
        self._journal = journal
        self._store = store
        self._log = log
        self._retention = retention
        self._sync = sync
        self._main: tuple[Journal, DiskSync | None] | None = None
        """The journal that another process is taking over. It is None while this process writes the journal."""
        self._is_spool = False
        """True if this journal is the spool of a worker, which another process applies to the store (`spool`)."""
        self._paused = False
        self._offset = store.start_offset
        self._set_aside = JournalOffset(), 0
        """A pair: the start of a batch, and how many of its unreadable lines are already in the separate file.

        If the store fails, the batch is read again, perhaps with more lines. With this pair, no line is put into the
        separate file twice.
        """
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._is_busy = False
        """Whether the last round applied at least `BUSY_BYTES`."""
        self._flush_now = asyncio.Event()
        self._applied = asyncio.Condition()
        self._expire_at = 0.0
        self._check_at = 0.0

    @property
    def full(self) -> bool:
        """True if no call may begin, because the journal's buffer in memory is full or its last flush failed."""
        return self._journal.full or (self._sync is not None and self._sync.failure != "")

    def disk_fault(self) -> str:
        """Return the reason why records cannot be written to the disk, or "" if they can.

        This waits for the disk, and may be called from any thread.
        """
        return (self._sync.failure if self._sync is not None else "") or self._journal.fault()

    @property
    def waiting(self) -> int:
        """The number of bytes of records that wait in memory, because they cannot be written to the disk."""
        return self._journal.waiting

    @property
    def lag(self) -> int:
        """The number of bytes that are not applied yet, in the journal's newest file and in memory. Older files are not
        counted.
        """
        end = self._journal.end
        behind = end.byte - (self._offset.byte if self._offset.segment == end.segment else 0)
        return behind + self._journal.waiting

    @property
    def applied(self) -> JournalOffset:
        """The offset up to which the journal has been applied to the store."""
        return self._offset

    @property
    def written(self) -> JournalOffset | None:
        """The journal offset after the last entry. It is None while some entries are only in memory, because they could
        not be written to a file.
        """
        return None if self._journal.waiting else self._journal.end

    @property
    def failing(self) -> bool:
        """Whether the last attempt to write to the store failed."""
        return self._failures > 0

    @property
    def is_replaced(self) -> bool:
        """True if another process has taken over the journal.

        Entries are then written to the spool (a second journal).
        """
        return self._main is not None

    @property
    def lock(self) -> int:
        """The descriptor of the lock file of the journal."""
        return self._journal.lock

    def put(self, entry: Entry) -> None:
        """Append an entry to the journal. This never raises and never waits.

        While the journal is full, the gateway refuses every call. The record of such a refused call is discarded,
        because the records of many refused calls would need unlimited memory.
        """
        if not (self.full and _is_refused(entry)):
            self._journal.append(encode(entry))

    def put_all(self, entries: Iterable[Entry]) -> None:
        """Append entries to the journal with one write. Like `put`, this never raises and never waits."""
        is_full = self.full
        lines = [encode(entry) for entry in entries if not (is_full and _is_refused(entry))]
        if lines:
            self._journal.append(b"\n".join(lines))

    def put_sent(self, call: SentCall) -> Awaitable[None] | None:
        """Append the line of a call that is about to be sent to a provider.

        With `storage.sync`, return an awaitable that waits until the line is on the disk. It raises `StoreFailed` if
        the line cannot be written or flushed. Without `storage.sync`, return None.
        """
        self._journal.append(encode(Entry(sent=call)))
        return self._sync.wait() if self._sync is not None else None

    def spool(self) -> None:
        """Start to write the journal without applying it to the store.

        The journal of this process is then a spool, which another process reads and applies.
        """
        self._is_spool = True
        self._task = asyncio.create_task(self._tend())

    async def start(self) -> None:
        """Apply what an earlier process left in the journal, then start the task that applies new entries.

        Raises `StoreFailed` if the journal cannot be read or the store cannot be written.
        """
        await self._catch_up()
        self._task = asyncio.create_task(self._follow())

    async def pause(self) -> None:
        """Stop applying the journal. Raises `StoreFailed` if lines wait in memory because they cannot be written."""
        self._paused = True
        self._flush_now.set()
        if self._task is not None:
            await self._task
        if self._journal.waiting:
            raise StoreFailed("the journal cannot be written at the moment")

    def redirect(self, spool: Journal, sync: DiskSync | None) -> None:
        """Write all further entries to the spool (a second journal). Another process applies the spool."""
        self._main = self._journal, self._sync
        self._journal, self._sync = spool, sync
        self._task = asyncio.create_task(self._tend())

    async def resume(self) -> None:
        """Undo `redirect` and `pause`: close the spool (the second journal, which `redirect` began), and write and
        apply the main journal again.

        Do nothing if neither `redirect` nor `pause` was called. Raises `StoreFailed` if the journal or the store fails.
        """
        if not self._paused:
            return
        if self._main is not None:
            journal, sync = self._main
            journal.reopen()
            self._offset = await self._store.offset()
            await self._end_task()
            await _closed(self._journal, self._sync)
            self._journal, self._sync, self._main = journal, sync, None
        self._paused = False
        self._task = asyncio.create_task(self._follow())

    async def release(self) -> None:
        """Close the files of the journal that another process has taken over."""
        if self._main is not None:
            journal, sync = self._main
            if sync is not None:
                await sync.close()
            journal.abandon()

    async def flush(self) -> None:
        """Wait until all entries that were appended so far are in the store.

        Raises `StoreFailed` if this takes longer than `FLUSH_SECONDS`.
        """
        end = self._journal.end
        self._flush_now.set()
        try:
            async with asyncio.timeout(FLUSH_SECONDS), self._applied:
                await self._applied.wait_for(lambda: self._offset >= end and not self._journal.waiting)
        except TimeoutError:
            raise StoreFailed(f"{self.lag} bytes of the journal could not be taken over yet") from None

    async def close(self) -> None:
        """Apply the rest of the journal, and close the journal.

        Entries that are not applied within `FLUSH_SECONDS` stay in the journal, and are applied at the next start.
        """
        if self._task is not None and not self.is_replaced and not self._is_spool:
            try:
                await self.flush()
            except StoreFailed as error:
                self._log.error("store.behind", reason=str(error), kept="in the journal")
        await self._end_task()
        await _closed(self._journal, self._sync)

    async def _end_task(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _tend(self) -> None:
        """Look after the spool (a second journal) until the task is cancelled.

        Retry writing the lines that could not be written. Begin a new file every `SPOOL_SECONDS`, so that the process
        that applies the spool can delete the old files.
        """
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self._journal.retry()
            self._journal.renew(SPOOL_SECONDS)

    async def _follow(self) -> None:
        while not self._paused:
            try:
                async with asyncio.timeout(self._pause()):
                    await self._flush_now.wait()
            except TimeoutError:
                pass
            self._flush_now.clear()
            self._journal.retry()
            if self._sync is not None:
                with suppress(StoreFailed):  # `DiskSync` has logged the reason
                    await self._sync.wait()
            try:
                await self._catch_up()
                await self._expire()
                await self._check()
            except Exception as error:  # noqa: BLE001 (whatever it is, the journal must be applied further)
                self._failed(error)
            else:
                self._succeeded()

    def _pause(self) -> float:
        if self._failures:
            return RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1]
        return BUSY_POLL_SECONDS if self._is_busy else POLL_SECONDS

    async def _catch_up(self) -> None:
        """Apply all lines that the journal has now. Later lines wait for the next round.

        Raises `StoreFailed` if the journal cannot be read or the store cannot be written. The next attempt continues
        after the last batch that was applied.
        """
        end = self._journal.end
        self._is_busy = self.lag >= BUSY_BYTES
        while self._offset < end and not self._paused:
            entries, unreadable, offset = await asyncio.to_thread(self._read)
            if offset == self._offset:
                break
            start, copied = self._set_aside
            if new := unreadable[copied if start == self._offset else 0 :]:
                file = await asyncio.to_thread(self._journal.set_aside, new)
                self._log.error("journal.unreadable_lines", segment=offset.segment, lines=len(new), kept=str(file))
                self._set_aside = self._offset, len(unreadable)
            await self._store.write(entries, offset)
            self._check_at = monotonic() + CHECK_SECONDS
            if offset.segment > self._offset.segment:
                await asyncio.to_thread(self._journal.discard, offset)
            await self._advance(offset)
        await self._advance(self._offset)

    def _read(self) -> tuple[Sequence[Entry], Sequence[bytes], JournalOffset]:
        """Return the entries of the next batch of lines, the unreadable lines, and the offset after the batch.

        Runs in a thread. Raises `StoreFailed` if the journal cannot be read.
        """
        lines, offset = self._journal.read(self._offset, BATCH_BYTES)
        return *decode(lines), offset

    async def _advance(self, offset: JournalOffset) -> None:
        async with self._applied:
            self._offset = offset
            self._journal.applied(offset)
            self._applied.notify_all()

    async def _expire(self) -> None:
        """Delete one batch of expired calls. Do nothing if it is too early for the next deletion, or if calls are kept
        for ever.
        """
        seconds = self._retention()
        # the system clock may be set back by hours, so the interval is measured with the monotonic clock
        now = monotonic()
        if seconds is None or now < self._expire_at:
            return
        self._journal.renew(seconds)
        deleted = await self._store.expire(time() - seconds, EXPIRE_BATCH_CALLS)
        # after a full batch there may be more expired calls, which the next round deletes
        self._expire_at = now if deleted == EXPIRE_BATCH_CALLS else now + EXPIRE_SECONDS

    async def _check(self) -> None:
        """Raise `StoreFailed` if the store does not answer. Do nothing if the store was used within `CHECK_SECONDS`.

        Because of this check, a failure of the store is noticed even while no calls arrive.
        """
        if monotonic() >= self._check_at:
            await self._store.offset()
            self._check_at = monotonic() + CHECK_SECONDS

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            reason = str(error) if isinstance(error, StoreFailed) else repr(error)
            self._log.error("store.write_failed", reason=reason, kept="in the journal")

    def _succeeded(self) -> None:
        if self._failures:
            self._log.info("store.recovered", failures=self._failures)
        self._failures = 0


def _is_refused(entry: Entry) -> bool:
    return entry.call is not None and entry.call.outcome == "refused"


async def _closed(journal: Journal, sync: DiskSync | None) -> None:
    if sync is not None:
        await sync.close()
    journal.close()
