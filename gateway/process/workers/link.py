"""A worker's requests to the keeper (its parent process): for slices (parts) of quota balances, and for the sessions of
conversations.

A worker also sends the bodies of calls to the keeper.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from math import inf

from gateway.call.sessions import ChatReader, Sessions
from gateway.contract.flag import ClientRequest
from gateway.money.quotas.buckets import Charge, Rule
from gateway.money.quotas.leases import Answer, Ask, NotOpen, Standing
from gateway.money.quotas.slices import Slices
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
    """The quota bank of a worker, which asks the keeper (the worker's parent process) for slices (parts) of balances.

    Each method that sends a request raises `StoreFailed` if the keeper has ended.
    """

    def __init__(self, channel: Channel, slices: Slices) -> None:
        self._channel = channel
        self._slices = slices

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
        self._slices.money_until = inf if answer.until is None else answer.until
        return answer.answers

    async def leave(self) -> None:
        """Do nothing, because the keeper (the parent process) itself takes back this worker's parts of balances.

        It does so when this process has ended, and all records of its calls have been read.
        """

    async def standings(self) -> Sequence[Standing]:
        return ()

    async def refill(self, bucket: str, rule: Rule, amount: int) -> Charge:
        raise StoreFailed(f'bucket "{bucket}" can be refilled by the keeper only ({amount} of {rule.capacity})')


class WorkerSessions:
    """Finds the sessions of calls. If this worker does not know the session of a conversation, it asks the keeper (its
    parent process).
    """

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
        """Return the id of the session that the keeper (the parent process) has for a conversation, or begins for it.

        If the keeper has ended, begin a session here.
        """
        try:
            answer = await self._channel.ask(AskSession(self._channel.number(), login, fingerprint), SessionId)
        except (Broken, UnicodeEncodeError):
            return self._sessions.current(login, fingerprint)
        self._sessions.begin(login, fingerprint, answer.id)
        return answer.id


class KeeperBodies:
    """Sends the request and reply bodies of calls to the keeper (the parent process), which stores them."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._tasks: set[asyncio.Task[None]] = set()
        self._size = 0
        """Number of bytes of the bodies that threads are preparing."""

    def start(self) -> None:
        """Do nothing, because the connection to the keeper (the parent process) is open already."""

    def close(self) -> None:
        """Do nothing, because other messages use the same connection to the keeper (the parent process)."""

    def put(self, capture: Capture) -> None:
        """Send the bodies of a call, or drop them if too many bytes are waiting to be sent."""
        if not self._channel.is_crowded and self._size <= MAX_UNSENT:
            self._size += capture.size
            task = asyncio.create_task(self._send(capture))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, capture: Capture) -> None:
        """Send the bodies of a call. Send nothing if a header has lone surrogates, which JSON cannot encode."""
        try:
            # in a thread, because bodies may have many megabytes
            with suppress(UnicodeEncodeError):
                self._channel.write(await asyncio.to_thread(lambda: encoded(Captured(capture.redacted()))))
        finally:
            self._size -= capture.size

    async def sent(self) -> None:
        """Wait until the bodies of all calls so far are encoded and written to the connection."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def of(self, _call: str, _identity: str | None) -> CapturedBodies | None:
        """Return None, because a worker stores no bodies."""
        return None

    def read(self, _call: str, _identity: str | None) -> CapturedBodies | None:
        return None
