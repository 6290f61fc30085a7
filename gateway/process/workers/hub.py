"""The keeper's end of the connections to its workers. The keeper is the parent process of the workers.

The keeper answers the workers' questions, and tells the workers of changes. `supervisor.py` starts and ends the
workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Final

from gateway.call.context import Gateway
from gateway.money.quotas.buckets import Bucket
from gateway.money.quotas.leases import NotOpen
from gateway.process.handover.wire import Broken
from gateway.process.workers.merged_metrics import MergedMetrics
from gateway.process.workers.messages import (
    AskBank,
    AskSession,
    BankAnswer,
    Captured,
    Channel,
    Configure,
    Configured,
    Free,
    Message,
    Question,
    Recall,
    Reply,
    SessionId,
)
from gateway.store.base import StoreFailed
from gateway.store.captured import CapturedBodies

CONFIGURE_SECONDS: Final = 10.0
"""Maximum number of seconds for which a reload waits until a worker uses the new configuration."""


class _Bodies:
    """The request body and the reply body of a worker's call, with the interface of a `Capture`."""

    def __init__(self, bodies: CapturedBodies) -> None:
        self._bodies = bodies

    @property
    def size(self) -> int:
        return len(self._bodies.request.body) + len(self._bodies.reply.body)

    def redacted(self) -> CapturedBodies:
        return self._bodies


class Hub:
    """The connections to all workers that have not ended.

    The key of a connection is the name of the worker's spool (the journal of its calls), which is different for each
    worker process.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.metrics = MergedMetrics(gateway.metrics.registry)
        self._channels: dict[str, Channel] = {}
        self._ended: set[str] = set()
        """The spools of ended workers whose slices (parts) of balances have not been taken back yet."""
        self._ready: set[str] = set()
        """The spools of the workers that can serve."""
        self.most = 0
        """The largest number of workers that have been able to serve at the same time."""
        self._tasks: set[asyncio.Task[None]] = set()
        gateway.lender.recall = self._recall
        gateway.lender.free = self._free

    def add(self, spool: str, channel: Channel) -> None:
        self._channels[spool] = channel

    def remove(self, spool: str) -> None:
        """Forget a worker that has ended."""
        self._channels.pop(spool, None)
        self._ended = {one for one in (*self._ended, spool) if self._gateway.lender.lends_to(one)}
        self._ready.discard(spool)

    def ready(self, spool: str, slot: int) -> None:
        """Record that a worker can now serve calls and answer the questions that this process sends to it.

        `spool` is the name of the worker's journal.
        """
        self.metrics.begun(spool, slot)
        self._ready.add(spool)
        self.most = max(self.most, len(self._ready))

    @property
    def size(self) -> int:
        """The number of workers that can serve."""
        return len(self._ready)

    def answer(self, spool: str, message: Message) -> None:
        """Handle a message of the worker with this spool (journal): answer a question, or store the bodies of a call.

        Messages of other types are ignored.
        """
        channel = self._channels.get(spool)
        if channel is None:
            return
        match message:
            case AskBank():
                if message.is_first and self._gateway.keeper.is_here:
                    self._gateway.lender.open(spool)
                if self._gateway.keeper.is_immediate:
                    self._lend_now(spool, channel, message)
                else:
                    self._begin(self._lend(spool, channel, message))
            case AskSession(number, login, fingerprint):
                channel.send(SessionId(number, self._gateway.sessions.current(login, fingerprint)))
            case Captured(bodies):
                self._gateway.bodies.put(_Bodies(bodies))

    def _lend_now(self, spool: str, channel: Channel, question: AskBank) -> None:
        """Answer a worker's requests for slices (parts) of quota balances at once, because this process has all
        balances.
        """
        try:
            answers = self._gateway.lender.exchange(spool, question.asks).answers
        except NotOpen:
            answers = ()
        channel.send(BankAnswer(question.number, tuple(answers)))

    async def _lend(self, spool: str, channel: Channel, question: AskBank) -> None:
        """Answer a worker's requests for slices (parts) of quota balances. The balances are in another process or in
        the database.
        """
        try:
            loan = await self._gateway.keeper.lend(self._gateway.lender, spool, question.asks)
        except NotOpen:
            answer = BankAnswer(question.number, ())
        except StoreFailed as error:
            answer = BankAnswer(question.number, (), str(error))
        else:
            answer = BankAnswer(question.number, tuple(loan.answers), until=loan.until)
        channel.send(answer)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _recall(self, spool: str, bucket: Bucket) -> bool:
        return self._send(spool, Recall(bucket))

    def _free(self, spool: str, bucket: Bucket) -> bool:
        return self._send(spool, Free(bucket))

    def _send(self, spool: str, message: Message) -> bool:
        """Send a message about a quota bucket to a worker. Return False if the message cannot be sent.

        If the worker has ended, nothing is sent. The result is then True as long as the keeper has not taken back the
        worker's slices (parts) of quota balances.
        """
        if (channel := self._channels.get(spool)) is None:
            return spool in self._ended
        with suppress(UnicodeEncodeError):
            channel.send(message)
            return True
        return False

    def tell(self, message: Message) -> None:
        """Send a message to all workers."""
        for channel in self._channels.values():
            channel.send(message)

    async def configure(self, text: str) -> None:
        """Make all workers use another text of the configuration. Log an error for each worker that does not use it."""
        await asyncio.gather(*(self._configure(spool, channel, text) for spool, channel in self._channels.items()))

    async def _configure(self, spool: str, channel: Channel, text: str) -> None:
        try:
            async with asyncio.timeout(CONFIGURE_SECONDS):
                fault = (await channel.ask(Configure(channel.number(), text), Configured)).fault
        except TimeoutError:
            fault = f"it did not answer within {CONFIGURE_SECONDS:g} seconds"
        except Broken:
            return  # it has ended, and the next worker gets the new text
        if fault:
            self._gateway.log.error("worker.config_refused", spool=spool, reason=fault)

    async def asked(self, name: str, seconds: float) -> Mapping[str, str]:
        """Send the question `name` to all workers that can serve, and return the answers that come within `seconds`.

        The key of an answer is the name of the worker's spool (the journal of its calls).
        """
        channels = {spool: self._channels[spool] for spool in self._ready}
        asked = {
            spool: asyncio.create_task(channel.ask(Question(channel.number(), name), Reply))
            for spool, channel in channels.items()
        }
        if asked:
            await asyncio.wait(asked.values(), timeout=seconds)
        answers = {}
        for spool, task in asked.items():
            if not task.done():
                task.cancel()
            elif task.exception() is None:
                answers[spool] = task.result().text
        return answers
