"""Reads the records of calls that other processes write to their spools, charges these calls, and stores their records.

- A spool is a journal that another process reads. Workers (`process/workers`) write spools. So do processes that have
  been replaced and still finish their calls.
- This process reads the spools, charges the calls, and writes their records to the main journal.
- The record of a worker's call states the charged amounts. The worker has already subtracted them from its slices, the
  parts of balances that only this worker may spend (`money/quotas/slices.py`). This process subtracts them from the
  balances.
- Workers themselves report their calls to the metrics, the observers and the log. This process reports the calls of a
  replaced process.
- The writer of a spool holds the spool's lock until it ends. Calls that are still open then get the outcome `lost`.
- If this process is killed, the next process reads the spools from the beginning. It skips the calls that are in the
  store already, so each call is recorded and charged once.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from gateway.call.finish import Finish
from gateway.call.sessions import Sessions
from gateway.contract.record import Record
from gateway.money.quotas.book import Quotas
from gateway.money.quotas.buckets import Bucket, Charge, Kind, merged
from gateway.money.quotas.lending import Lender
from gateway.money.quotas.reservations import Reservation
from gateway.money.quotas.settlements import Settlement, money_terms
from gateway.store.base import JournalOffset, Store, StoreFailed
from gateway.store.entries import Balance, Bill, Charged, Entry, decode
from gateway.store.journal import lock_holder
from gateway.store.segments import SPOOL_PREFIX, Segments
from gateway.telemetry.log import Logger

POLL_SECONDS: Final = 0.05
"""Seconds between two reads of a spool (the journal of another process), if few lines come. The interval is short, so
that the calls reach the store soon.
"""
BUSY_POLL_SECONDS: Final = 0.25
"""Seconds between two reads of a spool (the journal of another process), if many lines come (`BUSY_LINES`). The
interval is longer, because reading many lines at once takes less work per line.
"""
BUSY_LINES: Final = 20
"""Number of lines in one read of a spool. If a read returns at least this number, the next read comes after
`BUSY_POLL_SECONDS`.
"""
WORKER_PREFIX: Final = f"{SPOOL_PREFIX}worker-"
"""The beginning of the names of workers' spools (journals)."""
BATCH_BYTES: Final = 1024 * 1024
"""Maximum number of bytes that are read at once from a spool (the journal of another process)."""


class Parts(msgspec.Struct, frozen=True):
    """The objects of this process with which a spool's calls are recorded and charged."""

    finish: Finish
    quotas: Quotas
    lender: Lender
    sessions: Sessions
    store: Store
    log: Logger


class SpoolReader(msgspec.Struct):
    """Reads the spool (journal) of one other process, and remembers which calls are open in that process."""

    folder: Path
    offset: JournalOffset = msgspec.field(default_factory=JournalOffset)
    """The offset in the spool (the journal of another process) up to which entries have been applied."""
    held: dict[str, Mapping[Kind, Reservation]] = msgspec.field(default_factory=dict)
    """Maps the id of each open call of a replaced process to the call's reservations in this process."""
    ids: set[str] = msgspec.field(default_factory=set)
    """Ids of the open calls in the spool: calls that its writer has sent to a provider and that have not ended."""
    recovered: bool = False
    """True for a spool that an earlier process may have read in part. Then some of its calls may be in the store
    already.
    """
    _is_busy: bool = False
    """Whether the last call of `apply` read at least `BUSY_LINES` lines at once."""
    _cut: tuple[int, JournalOffset] = (0, JournalOffset())
    """A pair that tells when files of the spool may be deleted: the number of a file, and an offset in this process's
    own journal.

    The files with lower numbers may be deleted when the store has applied this process's journal up to the offset.
    """

    @property
    def is_of_worker(self) -> bool:
        return self.name.startswith(WORKER_PREFIX)

    @property
    def name(self) -> str:
        return self.folder.name

    async def follow(self, parts: Parts) -> None:
        """Charge and record the calls of the spool (another process's journal) as they come. When that process has
        ended, remove the spool and return.

        If the store fails, try again.
        """
        while True:
            with suppress(StoreFailed):
                if await self.is_done(parts):
                    return
            await asyncio.sleep(BUSY_POLL_SECONDS if self._is_busy else POLL_SECONDS)

    async def is_done(self, parts: Parts) -> bool:
        """Charge and record the calls in new entries of the spool (another process's journal). Return True if that
        process has ended.

        In that case, its open calls are recorded as lost, and the spool is removed. Raises `StoreFailed` if the spool
        or the store cannot be read.
        """
        # the lock is checked before the spool is read, because lines may be written until the lock is released
        alive = lock_holder(self.folder) != ""
        await self.apply(parts)
        follower = parts.finish.follower
        if alive:
            await self._delete_applied(parts)
            return False
        await follower.flush()
        lost = [call for call in await parts.store.open_calls() if call.id in self.ids]
        for held in self.held.values():
            parts.quotas.charge(held, (), Settlement())
        self.held.clear()
        parts.lender.end(self.name)
        parts.finish.lost(lost, parts.quotas)
        await follower.flush()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
        return True

    async def _delete_applied(self, parts: Parts) -> None:
        """Delete the files of the spool (another process's journal) whose entries are all in the store."""
        follower = parts.finish.follower
        segment, end = self._cut
        if segment < self.offset.segment:
            if (written := follower.written) is not None:
                self._cut = self.offset.segment, written
        elif end != JournalOffset() and follower.applied >= end:
            self._cut = segment, JournalOffset()
            await asyncio.to_thread(Segments(self.folder, parts.log).delete_before, segment)

    async def apply(self, parts: Parts) -> None:
        """Read the new lines of the spool (another process's journal), and charge and record their calls. Raises
        `StoreFailed` if the spool cannot be read.
        """
        spool = Segments(self.folder, parts.log)
        self._is_busy = False
        while spool.has_more(self.offset):
            lines, offset = await asyncio.to_thread(spool.read, self.offset, BATCH_BYTES)
            entries, unreadable = decode(lines)
            # the store is asked first: if it fails, the same lines are read again
            known = await self._known(entries, parts.store) if self.recovered else frozenset[str]()
            if unreadable:
                aside = await asyncio.to_thread(Segments(self.folder.parent, parts.log).set_aside, unreadable)
                parts.log.error(
                    "journal.unreadable_lines", segment=offset.segment, lines=len(unreadable), kept=str(aside)
                )
            written: list[Entry] = []
            for entry in entries:
                self._apply(entry, parts, known, written)
            parts.finish.follower.put_all(written)
            self._is_busy = self._is_busy or len(entries) >= BUSY_LINES
            if offset == self.offset:
                return
            self.offset = offset

    async def _known(self, entries: Iterable[Entry], store: Store) -> frozenset[str]:
        """Return the ids of the ended calls in `entries` that are in the store already."""
        ended = [entry.call.id for entry in entries if entry.call is not None]
        return frozenset([key for key in ended if await store.call(None, key) is not None])

    def _apply(self, entry: Entry, parts: Parts, known: frozenset[str], written: list[Entry]) -> None:
        """Apply one line (`entry`) of the spool, which is another process's journal. If it is the record of a call that
        has ended, charge and record the call.

        Lines for the main journal are appended to `written`. The caller writes them.
        """
        self.ids.update(entry.open)
        if entry.sent is not None:
            self.ids.add(entry.sent.id)
            written.append(Entry(sent=entry.sent))
        elif entry.version is not None:
            written.append(Entry(version=entry.version))
        elif entry.call is not None:
            self._end(entry.call, entry, parts, written, is_known=entry.call.id in known)

    def _end(self, call: Record, entry: Entry, parts: Parts, written: list[Entry], *, is_known: bool) -> None:
        """Charge and record a call that has ended. If it is in the store already (`is_known`), it is not charged
        again.
        """
        held = self.held.pop(call.id, None)
        self.ids.discard(call.id)
        if is_known:
            written.append(Entry(call=call))
        elif self.is_of_worker:
            parts.sessions.seen(call.identity, call.session_id, call.at)
            parts.finish.metrics.note(call)
            taken = [self._take(charged, parts) for charged in entry.charged]
            balances = tuple(Balance(*charge.left) for kind, charge in taken if kind == "money")
            written.append(Entry(call=call, balances=balances))
        else:
            charges = _charged(entry.bill or Bill(), held, parts.quotas)
            amounts = {charge.bucket: charge.amount for charge in charges}
            # the lines of a call must be in their order
            parts.finish.follower.put_all(written)
            written.clear()
            parts.finish.put(msgspec.structs.replace(call, charges=amounts), charges)

    def _take(self, charged: Charged, parts: Parts) -> tuple[Kind, Charge]:
        """Subtract a charge for a worker's call from a bucket, and from the worker's slice (the part of the bucket's
        balance that only this worker may spend).

        Return the kind of the bucket, and the charge.
        """
        bucket = Bucket(charged.kind, charged.bucket)
        charge = parts.quotas.take(bucket, charged.terms, charged.amount, estimated=charged.estimated)
        parts.lender.spend(self.name, bucket, charged.amount)
        return charged.kind, charge


def _charged(bill: Bill, held: Mapping[Kind, Reservation] | None, quotas: Quotas) -> tuple[Charge, ...]:
    """Charge a call the amounts in its bill. `held` has the call's reservations, or is None if they are not known."""
    bills = (bill, *bill.others)
    if held is None:
        return merged(
            charge for one in bills for charge in quotas.charge_unreserved(money_terms(one.chains), one.money)
        )
    parts = [
        (
            [tuple(Bucket(kind, name) for kind, name, _ in chain) for chain in one.chains],
            Settlement(one.requests, one.tokens, one.money, one.estimated),
        )
        for one in bills
    ]
    return quotas.charge(held, *parts[0]) if len(parts) == 1 else quotas.charge_each(held, parts)


class SpoolReaders:
    """The readers of all spools (journals of other processes), one for each name of a spool."""

    def __init__(self, parts: Parts, journal: Path) -> None:
        self._parts = parts
        self._journal = journal
        """The folder of the journal, which contains the folders of the spools."""
        self._all: dict[str, SpoolReader] = {}
        self.new: Collection[str] = ()
        """Names of the spools of this process's own workers. `recover` does not read these spools. The reader of such a
        spool is added when its worker is ready.
        """
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_started = False

    def add(self, reader: SpoolReader) -> None:
        self._all[reader.name] = reader
        if self._is_started:
            self._begin(reader)

    def get(self, name: str) -> SpoolReader | None:
        return self._all.get(name)

    def all(self) -> Iterable[SpoolReader]:
        return self._all.values()

    def folder(self, name: str) -> Path:
        return self._journal / name

    async def recover(self) -> None:
        """Read the spools (journals of other processes) that exist when this process starts. Record calls as lost if no
        process can finish them.

        Raises `StoreFailed` if a spool or the store cannot be read.
        """
        for folder in sorted(self._journal.glob(f"{SPOOL_PREFIX}*/"), key=lambda folder: folder.stat().st_ctime):
            if folder.name not in self.new:
                self.add(reader := SpoolReader(folder, recovered=True))
                await reader.apply(self._parts)
        finish, quotas, store = self._parts.finish, self._parts.quotas, self._parts.store
        if self._all:
            await finish.follower.flush()
        still_open = set[str]().union(*(one.ids for one in self._all.values()))
        if lost := [call for call in await store.open_calls() if call.id not in still_open]:
            finish.lost(lost, quotas)
            # flushed so that the web pages show these calls at once; if the store fails, the journal has the calls
            with suppress(StoreFailed):
                await finish.follower.flush()

    def start(self) -> None:
        """Start to read all spools (journals of other processes) in the background. Do nothing if reading has started
        already.
        """
        if not self._is_started:
            self._is_started = True
            for reader in self._all.values():
                self._begin(reader)

    def _begin(self, reader: SpoolReader) -> None:
        task = asyncio.create_task(self._follow(reader))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, reader: SpoolReader) -> None:
        await reader.follow(self._parts)
        del self._all[reader.name]
        event = "worker.records_applied" if reader.is_of_worker else "gateway.predecessor_ended"
        self._parts.log.info(event, spool=reader.name)

    async def applied(self) -> None:
        """Wait until the processes that write the spools (journals) have ended, and all their calls are charged and
        recorded.
        """
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """Stop reading the spools (journals of other processes). Another process may continue at the current offset."""
        self._is_started = False
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def take_back(self, reader: SpoolReader) -> None:
        """Charge and record the calls that this process wrote to a spool for its successor, because the hand-over to
        the successor failed. Then remove the spool.
        """
        await reader.apply(self._parts)
        await asyncio.to_thread(shutil.rmtree, reader.folder, ignore_errors=True)
