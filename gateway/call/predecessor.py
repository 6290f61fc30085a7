"""The calls that an old process still finishes after this process has replaced it.

- The replaced process writes the records of its calls to a spool, which is a journal of its own. This process reads the
  spool, charges the calls, and writes their records to the main journal.
- The replaced process holds the lock of its spool until it ends. Calls that are still open then get the outcome `lost`.
- If this process is killed, the next process reads the spool from its beginning. It skips the calls that are in the
  store already, so each call is recorded and charged once.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from gateway.call.finish import Finish
from gateway.money.quotas.book import Quotas, Settlement, money_terms
from gateway.money.quotas.buckets import Bucket, Charge, Kind, merged
from gateway.money.quotas.ledger import Reservation
from gateway.store.base import JournalOffset, Store, StoreFailed
from gateway.store.entries import Bill, Entry, decode
from gateway.store.journal import lock_holder
from gateway.store.segments import SPOOL_PREFIX, Segments
from gateway.telemetry.log import Logger

POLL_SECONDS: Final = 0.05
"""Seconds between two reads of a spool (the journal of a replaced process). The interval is short, so that the calls
reach the store soon."""
BATCH_BYTES: Final = 1024 * 1024
"""Maximum number of bytes that are read at once from a spool."""


class Parts(msgspec.Struct, frozen=True):
    """The objects of this process that record and charge the calls of a replaced process."""

    finish: Finish
    quotas: Quotas
    store: Store
    log: Logger


class Predecessor(msgspec.Struct):
    """The state of a replaced process, as far as it has been read from the spool (the journal of that process)."""

    folder: Path
    offset: JournalOffset = msgspec.field(default_factory=JournalOffset)
    """The offset in the spool up to which entries have been applied."""
    held: dict[str, Mapping[Kind, Reservation]] = msgspec.field(default_factory=dict)
    """Maps the id of each open call of the replaced process to the call's reservations in this process."""
    ids: set[str] = msgspec.field(default_factory=set)
    """Ids of the open calls: the replaced process has sent them to a provider, and they have not ended."""
    recovered: bool = False
    """Whether an earlier process may have read a part of the spool. If so, some calls of the spool may already be in
    the store."""

    @property
    def name(self) -> str:
        return self.folder.name

    async def follow(self, parts: Parts) -> None:
        """Apply new entries until the replaced process has ended, and remove the spool.

        Errors of the store are retried.
        """
        while True:
            with suppress(StoreFailed):
                if await self.is_done(parts):
                    return
            await asyncio.sleep(POLL_SECONDS)

    async def is_done(self, parts: Parts) -> bool:
        """Apply the new entries of the spool, and return whether the replaced process has ended.

        If it has ended, its open calls are recorded as lost. Raises `StoreFailed` if the spool or the store cannot be
        read.
        """
        # the lock is checked before the spool is read, because lines may be written until the lock is released
        alive = lock_holder(self.folder) != ""
        await self.apply(parts)
        if alive:
            return False
        follower = parts.finish.follower
        await follower.flush()
        lost = [call for call in await parts.store.open_calls() if call.id in self.ids]
        for held in self.held.values():
            parts.quotas.charge(held, (), Settlement())
        self.held.clear()
        parts.finish.lost(lost, parts.quotas)
        await follower.flush()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
        return True

    async def apply(self, parts: Parts) -> None:
        """Apply the entries of the spool after `offset`. Raises `StoreFailed` if the spool cannot be read."""
        spool = Segments(self.folder, parts.log)
        while True:
            lines, offset = await asyncio.to_thread(spool.read, self.offset, BATCH_BYTES)
            entries, unreadable = decode(lines)
            # the store is asked first: if it fails, the same lines are read again
            known = await self._known(entries, parts.store) if self.recovered else frozenset[str]()
            if unreadable:
                aside = await asyncio.to_thread(Segments(self.folder.parent, parts.log).set_aside, unreadable)
                parts.log.error(
                    "journal.unreadable_lines", segment=offset.segment, lines=len(unreadable), kept=str(aside)
                )
            for entry in entries:
                self._apply(entry, parts, known)
            if offset == self.offset:
                return
            self.offset = offset

    async def _known(self, entries: Iterable[Entry], store: Store) -> frozenset[str]:
        """Return the ids of the ended calls in `entries` that are in the store already."""
        ended = [entry.call.id for entry in entries if entry.call is not None]
        return frozenset([key for key in ended if await store.call(None, key) is not None])

    def _apply(self, entry: Entry, parts: Parts, known: frozenset[str]) -> None:
        self.ids.update(entry.open)
        if entry.sent is not None:
            self.ids.add(entry.sent.id)
            parts.finish.follower.put(Entry(sent=entry.sent))
        elif entry.version is not None:
            parts.finish.follower.put(Entry(version=entry.version))
        elif entry.call is not None:
            held = self.held.pop(entry.call.id, None)
            self.ids.discard(entry.call.id)
            if entry.call.id not in known:
                charges = _charged(entry.bill or Bill(), held, parts.quotas)
                amounts = {charge.bucket: charge.amount for charge in charges}
                parts.finish.put(msgspec.structs.replace(entry.call, charges=amounts), charges)


def _charged(bill: Bill, held: Mapping[Kind, Reservation] | None, quotas: Quotas) -> tuple[Charge, ...]:
    """Charge a call by its bill. `held` are the call's reservations. The value is None if none are known."""
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


class Predecessors:
    """All replaced processes that are still finishing calls. After quick restarts there may be more than one."""

    def __init__(self, parts: Parts, journal: Path) -> None:
        self._parts = parts
        self._journal = journal
        """The folder of the journal, which contains the folders of the spools."""
        self._all: dict[str, Predecessor] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, predecessor: Predecessor) -> None:
        self._all[predecessor.name] = predecessor

    def get(self, name: str) -> Predecessor | None:
        return self._all.get(name)

    def all(self) -> Iterable[Predecessor]:
        return self._all.values()

    def folder(self, name: str) -> Path:
        return self._journal / name

    async def recover(self) -> None:
        """Read the spools that exist when this process starts. Record calls as lost if no process can finish them.

        Raises `StoreFailed` if a spool or the store cannot be read.
        """
        for folder in sorted(self._journal.glob(f"{SPOOL_PREFIX}*/"), key=lambda folder: folder.stat().st_ctime):
            self.add(predecessor := Predecessor(folder, recovered=True))
            await predecessor.apply(self._parts)
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
        """Start to read all spools (journals of replaced processes) in the background. Do nothing if this was done
        already.
        """
        self._tasks = self._tasks or [asyncio.create_task(self._follow(one)) for one in self._all.values()]

    async def _follow(self, predecessor: Predecessor) -> None:
        await predecessor.follow(self._parts)
        del self._all[predecessor.name]
        self._parts.log.info("gateway.predecessor_ended", spool=predecessor.name)

    async def stop(self) -> None:
        """Stop following the spools. Another process may continue from the current offsets."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def take_back(self, predecessor: Predecessor) -> None:
        """Apply and remove the spool (second journal) of this process, after a failed hand-over. No other process reads
        it.
        """
        await predecessor.apply(self._parts)
        await asyncio.to_thread(shutil.rmtree, predecessor.folder, ignore_errors=True)
