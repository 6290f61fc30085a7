"""The steps of the running gateway while a new process replaces it, and their reversal if the hand-over fails."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from gateway.call.context import Gateway
from gateway.call.keeper import RemoteKeeper
from gateway.call.spools import SpoolReader
from gateway.money.quotas.buckets import Kind
from gateway.money.quotas.lending import LeaseState
from gateway.money.quotas.reservations import Reservation
from gateway.money.quotas.transfer import Hold
from gateway.process.handover.memory import memory_of
from gateway.process.handover.wire import OpenSession, Spool, State
from gateway.process.sites import Sites
from gateway.store.base import JournalOffset, StoreFailed
from gateway.store.disk_sync import DiskSync
from gateway.store.entries import MAX_LIST, Entry
from gateway.store.journal import Journal
from gateway.store.segments import SPOOL_PREFIX

RETRY_SECONDS: Final = 1.0
"""Seconds until a step of `Departure.undo`, such as resuming the journal, is tried again after it has failed."""


class Departure:
    """The replacement of this process by a new one. It begins with `begin`. It finishes with `end`, or with `undo` if
    it fails.
    """

    def __init__(self, gateway: Gateway, sites: Sites, *, sync: bool) -> None:
        self._gateway = gateway
        self._sites = sites
        self._sync = sync
        self.spool: Final = gateway.spools.folder(f"{SPOOL_PREFIX}{os.getpid()}-{secrets.token_hex(4)}")
        self._held: dict[str, Mapping[Kind, Reservation]] = {}
        """The reservations of the calls that were open when the state was handed over."""

    async def begin(self) -> State:
        """Stop accepting connections, stop writing the journal and the store, and return the state that is only in
        memory.

        Calls continue, and their records go to the spool (a separate journal). Raises `StoreFailed` if the journal or
        the spool cannot be written.
        """
        gateway = self._gateway
        gateway.keeper.begin()
        await self._sites.pause()
        await gateway.spools.stop()
        await gateway.follower.pause()
        if gateway.keeper.leases is not None:
            await gateway.keeper.leases.stop()
        spool = Journal(self.spool, gateway.log, sync=self._sync)
        # nothing is awaited from here on, so that the state is that of one moment
        gateway.follower.redirect(spool, DiskSync(spool, gateway.log) if self._sync else None)
        return self._state()

    def _state(self) -> State:
        gateway = self._gateway
        calls = list(gateway.calls.values())
        ids = [call.id for call in calls if call.announced is not None]
        for start in range(0, len(ids), MAX_LIST):
            gateway.follower.put(Entry(open=tuple(ids[start : start + MAX_LIST])))
        held = {call.id: call.reservation.held for call in calls if call.reservation is not None}
        self._held = {call: kinds for call, kinds in held.items() if kinds["money"].charges is None}
        older = [
            _spool(one.name, one.offset, one.ids, one.held, gateway.lender.states(one.name))
            for one in gateway.spools.all()
        ]
        return State(
            (*older, _spool(self.spool.name, JournalOffset(), ids, self._held)),
            tuple(gateway.quotas.limits()),
            tuple(OpenSession(call.identity.login, call.session_id, call.at) for call in calls if call.session_id),
            memory_of(gateway),
        )

    async def undo(self) -> None:
        """Reverse `begin`.

        Resume writing the journal and the store, and accept connections again. The calls that ended meanwhile are in
        the spool (a separate journal), and are added to the store.
        """
        gateway = self._gateway
        await self._until_done(gateway.follower.resume)
        if gateway.keeper.leases is not None:
            await self._until_done(gateway.keeper.leases.resume)
        await self._until_done(self._take_back)
        gateway.spools.start()
        await self._sites.resume()
        gateway.keeper.end(None)

    async def _take_back(self) -> None:
        if self.spool.exists():
            await self._gateway.spools.take_back(SpoolReader(self.spool, held=dict(self._held)))

    async def _until_done(self, step: Callable[[], Awaitable[None]]) -> None:
        reported = False
        while reason := await _failure(step):
            if not reported:
                self._gateway.log.error("handover.cannot_resume", reason=reason)
            reported = True
            await asyncio.sleep(RETRY_SECONDS)

    async def end(self, remote: RemoteKeeper) -> None:
        """Give up the listeners and the journal.

        The new process has the quota balances from now on. `remote` makes reservations there for this process's calls.
        """
        # nothing is awaited before, because the new process has the files of unix sockets already
        self._sites.give_up()
        self._gateway.keeper.end(remote)
        await self._gateway.follower.release()


async def _failure(step: Callable[[], Awaitable[None]]) -> str:
    """Run a step of `Departure`. Return the reason why it failed, or "" if it succeeded."""
    try:
        await step()
    except (StoreFailed, OSError) as error:
        return str(error)
    return ""


def _spool(
    name: str,
    offset: JournalOffset,
    ids: Collection[str],
    held: Mapping[str, Mapping[Kind, Reservation]],
    leases: Sequence[LeaseState] = (),
) -> Spool:
    holds = {call: {kind: Hold.of(one) for kind, one in kinds.items()} for call, kinds in held.items()}
    return Spool(name, offset, tuple(ids), holds, tuple(leases))
