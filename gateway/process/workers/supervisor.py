"""Starts the workers of a gateway, replaces those that end, and ends them.

- A worker is a process of its own (`worker.py`). It inherits the listening sockets, which stay open here.
- A worker that ends is replaced at once. If the worker has run for a short time only, it is replaced after a pause.
- The records of a worker's calls are read from its spool (a journal of its own, `call/spools.py`), even after the
  worker has ended.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from gateway.call.context import Gateway
from gateway.call.spools import WORKER_PREFIX, SpoolReader
from gateway.process.handover.wire import Broken
from gateway.process.sockets import Bound
from gateway.process.workers.balance import Slots
from gateway.process.workers.hub import Hub
from gateway.process.workers.messages import (
    Accept,
    Channel,
    Drain,
    Ended,
    Failed,
    Hurry,
    Leave,
    Message,
    Pause,
    Paused,
    Ready,
    Start,
)
from gateway.process.workers.states import families_of

LONG_LIFE_SECONDS: Final = 10.0
"""A worker that ends earlier than this number of seconds after its start counts as a failed start."""
AGAIN_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds until a worker is started again after 1, 2, 3, ... failed starts in a row. The last number applies to all
further failures.
"""
END_SECONDS: Final = 10.0
"""Maximum number of seconds that a worker may take to end, after its calls in flight were ended. Then it is killed."""
APPLY_SECONDS: Final = 10.0
"""Maximum number of seconds that a gateway, when it stops, waits for the last records of the workers to reach the
store. The next start reads what is left."""
_KILLED: Final = "it was killed by signal {}"

MakeStart = Callable[[int, str, Sequence[tuple[str, int]]], Start]
"""A function that returns the first message to a worker. Its arguments are the number of the worker's slot, the name of
the worker's spool (the journal of its calls), and the listening sockets.
"""


class CannotStartWorkers(Exception):
    """The error for workers that cannot be started. The message has the reason."""


@dataclass(slots=True)
class _Worker:
    """One worker process."""

    slot: int
    spool: str
    process: Process
    channel: Channel
    started: float = field(default_factory=monotonic)
    is_ready: bool = False
    is_paused: asyncio.Event = field(default_factory=asyncio.Event)
    fault: str = ""
    """The reason why the worker cannot serve, as the worker reported it."""
    last_metrics: str = ""
    """The metrics that the worker sent in its last message (`Ended`). It is "" if there was no such message."""


class Workers:
    """The worker processes of a gateway. Each has a number, the slot. If a worker ends, a new one gets its slot."""

    def __init__(self, slots: Slots, start: MakeStart, bounds: Sequence[Bound]) -> None:
        self._gateway: Gateway
        self._hub: Hub
        self._slots = slots
        self._start = start
        self._bounds = bounds
        self._workers: dict[int, _Worker] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._may_spawn = asyncio.Event()
        self._may_spawn.set()
        self._is_ending = False
        self._all_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def count(self) -> int:
        """The number of workers that can serve."""
        return sum(worker.is_ready for worker in self._workers.values())

    @property
    def spools(self) -> frozenset[str]:
        """The names of the spools (journals) of the workers that are running."""
        return frozenset(worker.spool for worker in self._workers.values())

    def slot_of(self, spool: str) -> int | None:
        """Return the slot of the worker with this spool (journal), or None if the worker has ended."""
        return next((worker.slot for worker in self._workers.values() if worker.spool == spool), None)

    async def prepare(self) -> None:
        """Start all workers, and return when they have loaded their code. Raises `CannotStartWorkers` if this fails."""
        slots = range(self._slots.count)
        for fault in await asyncio.gather(*map(self._load, slots), return_exceptions=True):
            if fault is not None:
                raise fault

    async def _load(self, slot: int) -> None:
        try:
            worker = self._workers[slot] = await self._spawn(slot)
            message = await worker.channel.receive()
        except (OSError, Broken) as error:
            raise CannotStartWorkers(f"worker {slot}: {error}") from None
        if isinstance(message, Failed):
            raise CannotStartWorkers(f"worker {slot}: {message.reason}")

    async def start(self, gateway: Gateway, hub: Hub) -> None:
        """Let the workers accept connections. Raises `CannotStartWorkers` if one of them fails."""
        self._gateway, self._hub = gateway, hub
        self._tasks = [asyncio.create_task(self._keep(worker)) for worker in self._workers.values()]
        await self._all_ready

    def abandon(self) -> None:
        """Kill the workers of a gateway that has failed to start."""
        if not self._tasks:
            for worker in self._workers.values():
                worker.channel.close()
                _kill(worker.process)

    async def pause(self) -> None:
        """Make the workers accept no connections. Workers that are just being started are ended."""
        self._may_spawn.clear()
        waiting = []
        for worker in self._workers.values():
            if worker.is_ready:
                worker.is_paused.clear()
                worker.channel.send(Pause())
                waiting.append(asyncio.create_task(worker.is_paused.wait()))
            else:
                _kill(worker.process)
        if waiting:
            await asyncio.wait(waiting)

    def resume(self) -> None:
        """Make the workers accept connections again."""
        for worker in self._workers.values():
            if worker.is_ready:
                worker.channel.send(Accept())
        self._may_spawn.set()

    def leave(self) -> None:
        """Let each worker end as soon as no client is connected to it. Called after another gateway process has taken
        over.
        """
        self._end_with(Leave())

    def drain(self) -> None:
        """Let the workers end after the calls in flight."""
        self._end_with(Drain())

    def hurry(self) -> None:
        """Tell all workers to end their calls in flight at once."""
        self._hub.tell(Hurry())

    def _end_with(self, message: Message) -> None:
        self._is_ending = True
        self._may_spawn.set()
        for worker in self._workers.values():
            if worker.is_ready:
                worker.channel.send(message)
            else:
                _kill(worker.process)

    async def ended(self) -> None:
        """Wait until all workers have ended, after `leave` or `drain`."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def end(self, hurry: asyncio.Event, seconds: float) -> None:
        """End each worker after its calls in flight, and wait until the records of these calls are in the store.

        A worker waits for its calls for at most `seconds`, or until `hurry` is set. Then the remaining calls are ended.
        """
        self.drain()
        hurrying = asyncio.create_task(hurry.wait())
        ending = asyncio.create_task(self.ended())
        await asyncio.wait({hurrying, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        self.hurry()
        await asyncio.wait({ending}, timeout=END_SECONDS)
        for worker in self._workers.values():
            _kill(worker.process)
        await ending
        with suppress(TimeoutError):
            async with asyncio.timeout(APPLY_SECONDS):
                await self._gateway.spools.applied()

    async def _keep(self, worker: _Worker) -> None:
        """Handle the messages of a worker until it has ended, and then start another one. Repeat this until the gateway
        ends.
        """
        slot, failures = worker.slot, 0
        await self._serve(worker)
        while True:
            await self._may_spawn.wait()
            if self._is_ending:
                return
            try:
                worker = await self._spawn(slot)
            except OSError as error:
                self._fail(f"a worker cannot be started: {error}")
                failures += 1
            else:
                await self._serve(worker)
                failures = 0 if monotonic() - worker.started >= LONG_LIFE_SECONDS else failures + 1
            if failures:
                await asyncio.sleep(AGAIN_SECONDS[min(failures, len(AGAIN_SECONDS)) - 1])

    async def _spawn(self, slot: int) -> _Worker:
        """Start a worker. Raises `OSError` if this fails."""
        spool = f"{WORKER_PREFIX}{slot}-{os.getpid()}-{secrets.token_hex(4)}"
        ours, theirs = socket.socketpair()
        sockets = [(bound.listener.listen, bound.socket.fileno()) for bound in self._bounds]
        inherited = [theirs.fileno(), self._slots.descriptor, *(descriptor for _, descriptor in sockets)]
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "gateway.process.workers.worker", str(theirs.fileno()),
                    pass_fds=inherited,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                )  # fmt: skip
            except OSError:
                ours.close()
                raise
        channel = await Channel.open(ours)
        channel.send(self._start(slot, spool, sockets))
        return _Worker(slot, spool, process, channel)

    async def _serve(self, worker: _Worker) -> None:
        """Handle the messages of a worker until it has ended."""
        self._workers[worker.slot] = worker
        self._hub.add(worker.spool, worker.channel)
        try:
            with suppress(Broken):
                while True:
                    await self._heard(worker, await worker.channel.receive())
        finally:
            self._hub.remove(worker.spool)
        status = await worker.process.wait()
        del self._workers[worker.slot]
        self._slots.clear(worker.slot)
        worker.is_paused.set()
        if not worker.is_ready and self._gateway.spools.folder(worker.spool).exists():
            self._read(worker)
        reason = worker.fault or (_KILLED.format(-status) if status < 0 else f"it ended with status {status}")
        facts = {"slot": worker.slot, "process": worker.process.pid, "status": status, "reason": reason}
        if self._is_ending and status == 0:
            self._gateway.log.info("worker.ended", **facts)
        else:
            self._gateway.log.warning("worker.ended", **facts)
        if worker.is_ready:
            last = families_of(worker.last_metrics) if worker.last_metrics else ()
            self._hub.metrics.ended(worker.spool, last, crashed=not self._is_ending)
        else:
            self._fail(f"worker {worker.slot}: {reason}")

    async def _heard(self, worker: _Worker, message: Message) -> None:
        match message:
            case Ready():
                worker.is_ready = True
                self._hub.ready(worker.spool, worker.slot)
                self._read(worker)
                if self._may_spawn.is_set():
                    worker.channel.send(Accept())
                else:
                    worker.is_paused.set()
                self._gateway.log.info("worker.started", slot=worker.slot, process=worker.process.pid)
                if self.count == self._slots.count and not self._all_ready.done():
                    self._all_ready.set_result(None)
            case Failed(reason):
                worker.fault = reason
            case Paused():
                worker.is_paused.set()
            case Ended(metrics):
                worker.last_metrics = metrics
            case _:
                self._hub.answer(worker.spool, message)

    def _read(self, worker: _Worker) -> None:
        """Begin to read the spool of a worker, the journal of its calls. The worker already holds the spool's lock."""
        spools = self._gateway.spools
        spools.add(SpoolReader(spools.folder(worker.spool)))

    def _fail(self, reason: str) -> None:
        """Fail the start of the gateway, or log the reason if it has started."""
        if not self._all_ready.done():
            self._all_ready.set_exception(CannotStartWorkers(reason))
        elif not self._is_ending:
            self._gateway.log.error("worker.cannot_start", reason=reason)


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
