"""A worker's requests to its keeper: for slices of balances, and for the sessions of chats.

A worker also sends the bodies of calls to the keeper.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress

from gateway.call.sessions import ChatReader, Sessions
from gateway.contract.flag import ClientRequest
from gateway.money.quotas.buckets import Charge, Rule
from gateway.money.quotas.leases import Answer, Ask, NotOpen, Standing
from gateway.process.handover.wire import Broken
from gateway.process.workers.messages import (
    MAX_UNSENT,
    AskBank,
    AskSession,
    BankAnswer,
    Captured,
    Channel,
    SessionId,
    encoded,
)
from gateway.store.base import StoreFailed
from gateway.store.captured import Capture, CapturedBodies


class KeeperBank:
    """The keeper as the `Bank` of a worker. Each method raises `StoreFailed` if the keeper has ended."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    @property
    def name(self) -> str:
        return "the gateway's main process"

    @property
    def needs_reports(self) -> bool:
        return False

    async def open(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        return await self._answers(AskBank(self._channel.number(), tuple(asks), is_first=True))

    async def exchange(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        return await self._answers(AskBank(self._channel.number(), tuple(asks)))

    async def _answers(self, question: AskBank) -> Sequence[Answer]:
        try:
            answer = await self._channel.ask(question, BankAnswer)
        except (Broken, UnicodeEncodeError) as error:
            raise StoreFailed(str(error)) from None
        if answer.fault:
            raise StoreFailed(answer.fault)
        if len(answer.answers) != len(question.asks):
            raise NotOpen
        return answer.answers

    async def leave(self) -> None:
        """Do nothing. When this process has ended and its records are applied, the keeper takes its slices back."""

    async def standings(self) -> Sequence[Standing]:
        return ()

    async def refill(self, bucket: str, rule: Rule, amount: int) -> Charge:
        raise StoreFailed(f'bucket "{bucket}" can be refilled by the keeper only ({amount} of {rule.capacity})')

    async def flush(self) -> None:
        """Do nothing. The keeper reads the records of this process by itself."""


class WorkerSessions:
    """Finds the sessions of calls. A chat that this worker does not know is looked up by the keeper."""

    def __init__(self, sessions: Sessions, channel: Channel) -> None:
        self._sessions = sessions
        self._channel = channel

    def id_of(
        self, request: ClientRequest, login: str, agent: str, flag: ChatReader
    ) -> str | Coroutine[None, None, str]:
        begin = self._sessions.beginning(request, login, agent, flag)
        known = begin.session or self._sessions.known(login, begin.fingerprint)
        return known or self._asked(login, begin.fingerprint)

    async def _asked(self, login: str, fingerprint: str) -> str:
        """Return the session that the keeper knows or begins. If the keeper has ended, begin one here."""
        try:
            answer = await self._channel.ask(AskSession(self._channel.number(), login, fingerprint), SessionId)
        except (Broken, UnicodeEncodeError):
            return self._sessions.current(login, fingerprint)
        self._sessions.begin(login, fingerprint, answer.id)
        return answer.id


class KeeperBodies:
    """Sends the bodies of calls to the keeper, which stores them."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._tasks: set[asyncio.Task[None]] = set()
        self._size = 0
        """Number of bytes of the bodies that threads are preparing."""

    def start(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def put(self, capture: Capture) -> None:
        """Send the bodies of a call. They are dropped while too much waits to be sent."""
        if not self._channel.is_crowded and self._size <= MAX_UNSENT:
            self._size += capture.size
            task = asyncio.create_task(self._send(capture))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, capture: Capture) -> None:
        """Send the bodies of a call, unless a header cannot be sent, because it has lone surrogates."""
        try:
            # in a thread, because bodies may have many megabytes
            with suppress(UnicodeEncodeError):
                self._channel.write(await asyncio.to_thread(lambda: encoded(Captured(capture.redacted()))))
        finally:
            self._size -= capture.size

    async def sent(self) -> None:
        """Wait until the bodies of all calls so far are on their way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def of(self, _call: str, _identity: str | None) -> CapturedBodies | None:
        """Return None, because a worker has no bodies."""
        return None

    def read(self, _call: str, _identity: str | None) -> CapturedBodies | None:
        return None
