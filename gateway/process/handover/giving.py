"""The running gateway's side of a hand-over. It answers new processes and replaced processes on a unix socket.

- Only processes of the same user are answered.
- A new process gets the listeners, the journal and the state (`departure.py`). If the new process ends before it is
  ready, this process continues to serve.
- A process that was replaced by this process can reserve amounts here for its remaining calls (`Reserve`).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from gateway.call.bank_rounds import Stopped
from gateway.call.context import Gateway
from gateway.contract.errors import Refused
from gateway.money.quotas.bucket_chains import Exceeded
from gateway.money.quotas.leases import NotOpen
from gateway.money.quotas.settlements import Settlement
from gateway.process.handover.departure import Departure
from gateway.process.handover.taking import RemoteQuotas
from gateway.process.handover.wire import (
    FILE,
    MAX_DESCRIPTORS,
    Broken,
    Commit,
    Declined,
    Done,
    Hello,
    Lend,
    Lent,
    Message,
    NotReserved,
    PathInFolder,
    Ready,
    Reserve,
    Reserved,
    Sockets,
    peer_process,
    receive_soon,
    send_soon,
)
from gateway.process.sites import Sites
from gateway.process.sockets import Bound, file_id, open_unix
from gateway.store.base import StoreFailed

READY_SECONDS: Final = 30.0
"""Maximum number of seconds from `Commit` to `Ready`. In this time, the new process opens the journal and the store."""
COMMIT_SECONDS: Final = 120.0
"""Maximum number of seconds that the new process may prepare before it sends `Commit`. Calls do not wait meanwhile."""
ACCEPT_AGAIN_SECONDS: Final = 1.0
"""Seconds until the next attempt to accept a connection, after the process had no free file descriptor."""
_SOCKET_MODE: Final = 0o600


class Giver:
    """The running gateway's side of hand-overs.

    A new process may take over only if the values in its first message agree with `hello`, this process's own values.
    After a hand-over, `replaced` is called with the process id of the new process.
    """

    def __init__(
        self,
        state: Path,
        hello: Hello,
        gateway: Gateway,
        sites: Sites,
        metrics: Sequence[Bound],
        replaced: Callable[[int], None],
    ) -> None:
        self._state = state
        self._hello = hello
        self._gateway = gateway
        self._sites = sites
        self._metrics = metrics
        """The sockets of the metrics listener. A new process gets them too."""
        self._replaced = replaced
        self._listening: socket.socket | None = None
        self._file: tuple[int, int] = (0, 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    def start(self) -> None:
        """Listen on the socket in the state folder.

        A failure is only logged, because the gateway can serve without this socket.
        """
        try:
            self._listening, self._file = open_private(self._state, FILE)
        except OSError as error:
            self._gateway.log.warning("handover.unavailable", reason=str(error))
        else:
            self._begin(self._accept(self._listening))

    async def close(self) -> None:
        """Close the socket, and end a hand-over (a replacement of this process) that is going on.

        If the socket's file belongs to another process, it is not removed.
        """
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()
            with suppress(OSError):
                if file_id(self._state / FILE) == self._file:
                    (self._state / FILE).unlink()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = await asyncio.get_running_loop().sock_accept(listening)
            except OSError:
                await asyncio.sleep(ACCEPT_AGAIN_SECONDS)
            else:
                self._begin(self._answer(connection))

    async def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, Broken):
            connection.setblocking(False)
            try:
                process = peer_process(connection)
            except PermissionError as error:
                self._gateway.log.warning("handover.refused", reason=str(error))
                return
            match await receive_soon(connection):
                case Reserve() as wanted:
                    await send_soon(connection, await self._reserved(wanted))
                case Lend() as wanted:
                    await send_soon(connection, await self._lent(wanted))
                case Hello() as hello if reason := self._disagreement(hello):
                    await send_soon(connection, Declined(reason))
                case Hello():
                    async with self._one_at_a_time:
                        await self._hand_over(connection, process)

    async def _reserved(self, wanted: Reserve) -> Message:
        """Reserve quota amounts for a call of a replaced process, and return the answer to that process."""
        reader = self._gateway.spools.get(wanted.spool)
        if reader is None or not self._gateway.keeper.is_here:
            return Declined("this process does not have the balances")
        quotas = self._gateway.quotas
        if (earlier := reader.held.pop(wanted.call, None)) is not None:
            quotas.charge(earlier, (), Settlement())
        try:
            held = await self._gateway.keeper.covered(partial(quotas.reserve, wanted.claims))
        except Exceeded as exceeded:
            return NotReserved(exceeded.chain, exceeded.rule, exceeded.balance, exceeded.retry_after)
        except Refused as refused:
            return Declined(refused.problem.message)
        except Stopped:
            return Declined("this process does not have the balances any more")
        reader.held[wanted.call] = held
        return Reserved(held["money"].notices)

    async def _lent(self, wanted: Lend) -> Message:
        """Grant a worker of a replaced process parts of quota balances, and return the answer to that process."""
        gateway = self._gateway
        if gateway.spools.get(wanted.worker) is None or not gateway.keeper.is_here:
            return Declined("this process does not have the balances")
        try:
            loan = await gateway.keeper.lend(gateway.lender, wanted.worker, wanted.asks)
        except (NotOpen, StoreFailed):
            return Declined("this process does not have the balances any more")
        return Lent(tuple(loan.answers), loan.until)

    def _disagreement(self, hello: Hello) -> str:
        """Return the reason why the process that sent `hello` cannot take over, or "" if it can."""
        ours = self._hello
        if hello.protocol != ours.protocol or hello.schema != ours.schema:
            return "its release has another form of the state; stop it, and then start the new release"
        if (hello.database, hello.sync) != (ours.database, ours.sync):
            return 'its "storage" is configured otherwise; stop it, and then start the new process'
        if not self._gateway.keeper.is_here or self._one_at_a_time.locked():
            return "another process is replacing it already"
        if not hello.lends and any(reader.is_of_worker for reader in self._gateway.spools.all()):
            return "its release knows no workers; stop it, and then start the other release"
        if len(self._bounds) > MAX_DESCRIPTORS:
            return f"it has more than {MAX_DESCRIPTORS} listeners; stop it, and then start the new process"
        return ""

    @property
    def _bounds(self) -> Sequence[Bound]:
        return *self._sites.bounds, *self._metrics

    async def _hand_over(self, connection: socket.socket, process: int) -> None:
        """Hand over to the process at the other end of the connection. If this fails, continue to serve."""
        bounds = self._bounds
        sockets = Sockets(tuple((bound.listener.listen, bound.file) for bound in bounds))
        await send_soon(connection, sockets, [bound.socket.fileno() for bound in bounds])
        async with asyncio.timeout(COMMIT_SECONDS):
            if not isinstance(await receive_soon(connection), Commit):
                return
        lock = self._gateway.follower.lock
        departure = Departure(self._gateway, self._sites, sync=self._hello.sync)
        async with AsyncExitStack() as unless_replaced:
            # runs after an unexpected error too, because no other process accepts connections then
            unless_replaced.push_async_callback(departure.undo)
            reason = await _failure(connection, departure, lock)
            if not reason:
                unless_replaced.pop_all()
                remote = RemoteQuotas(self._state, departure.spool.name, self._gateway.quotas.reserve)
                await departure.end(remote)
                self._replaced(process)
        if reason:
            self._gateway.log.error("handover.failed", reason=reason, process=process)


async def _failure(connection: socket.socket, departure: Departure, lock: int) -> str:
    """Send the gateway's state to the new process, and wait until the new process is ready.

    Return the reason of a failure, or "" for success.
    """
    try:
        state = await departure.begin()
        await send_soon(connection, state, [lock])
        async with asyncio.timeout(READY_SECONDS):
            message = await receive_soon(connection)
        if not isinstance(message, Ready):
            return "the new process sent another message"
        await send_soon(connection, Done())
    except TimeoutError:
        return f"the new process was not ready within {READY_SECONDS:g} seconds"
    except (OSError, Broken, StoreFailed) as error:
        with suppress(OSError):
            await send_soon(connection, Declined(str(error)))
        return str(error)
    return ""


def open_private(state: Path, file: str) -> tuple[socket.socket, tuple[int, int]]:
    """Return a new listening socket in the state folder, and the device and inode of its file.

    Only processes of the same user can connect to it. An earlier file of the same name is replaced. Raises `OSError` if
    the socket cannot be opened.
    """
    name = f".{file}.{os.getpid()}"
    with ExitStack() as unless_kept, closing(PathInFolder(state)) as folder:
        (state / name).unlink(missing_ok=True)
        listening = unless_kept.enter_context(open_unix(folder.of(name), _SOCKET_MODE))
        (state / name).rename(state / file)
        unless_kept.pop_all()
    return listening, file_id(state / file)
