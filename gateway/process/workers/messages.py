"""The messages between a worker and its parent process (the keeper), on a pair of unix sockets.

A message is its length in four bytes, followed by JSON, as in a hand-over (`process/handover/wire.py`).

    keeper                                     worker
    Start                                      Loaded, and then Ready; or Failed
    Accept, Pause                              Paused (after Pause)
    Configure, UseModels                       Configured (after Configure)
    BankAnswer                                 AskBank
    SessionId                                  AskSession
    Recall, Free
    Question                                   Reply
    Leave, Drain, Hurry                        Captured, Ended

- Questions and their answers have a number, because several may be open. All other messages have none.
- If the connection ends, the other process has ended.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Final, NoReturn, TypeVar

import msgspec

from gateway.money.quotas.buckets import Bucket
from gateway.money.quotas.leases import Answer, Ask
from gateway.process.handover.wire import LENGTH, Broken, size_of
from gateway.store.captured import CapturedBodies

SENT_SECONDS: Final = 5.0
"""Maximum number of seconds for which a worker that ends waits until its last messages are sent."""
MAX_UNSENT: Final = 32 * 1024 * 1024
"""Maximum number of bytes that may wait to be sent. While more bytes wait, bodies of calls are not sent but dropped."""


class Start(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The first message to a worker: everything that it needs to serve."""

    slot: int
    spool: str
    """The name of the worker's spool (the journal of its calls) in the journal's folder."""
    state: str
    path: str
    """The path of the configuration's file."""
    text: str
    """The text of the configuration in use."""
    listen: str
    """The address of `--listen`, or ""."""
    plugins: str
    """The folder of `--plugins`, or ""."""
    without: tuple[str, ...]
    sockets: tuple[tuple[str, int], ...]
    """The listening sockets: the address in the configuration, and the inherited descriptor."""
    slots: tuple[int, int]
    """The file descriptor of the memory that all workers share (`balance.Slots`), and the number of slots in it."""


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """A worker's message that it has loaded its code and its configuration."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """A worker's message that it can serve, and waits for `Accept`."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A worker's message that it cannot serve, and ends."""

    reason: str


class Accept(msgspec.Struct, frozen=True, tag=True):
    """The message to a worker to accept connections."""


class Pause(msgspec.Struct, frozen=True, tag=True):
    """The message to a worker to accept no more connections until the next `Accept`."""


class Paused(msgspec.Struct, frozen=True, tag=True):
    """A worker's message that it accepts no more connections."""


class Configure(msgspec.Struct, frozen=True, tag=True):
    """The message to a worker to use another text of the configuration."""

    number: int
    text: str


class Configured(msgspec.Struct, frozen=True, tag=True):
    number: int
    fault: str
    """The reason why the worker cannot use the new configuration and keeps the old one. It is "" if the worker uses the
    new one.
    """


class UseModels(msgspec.Struct, frozen=True, tag=True):
    """The message to a worker to read the file of discovered models again."""


class AskBank(msgspec.Struct, frozen=True, tag=True):
    number: int
    asks: tuple[Ask, ...]
    is_first: bool = False
    """True for the first request of a worker. It registers the worker at the quota bank, which keeps the balances
    (`Bank.open`).
    """


class BankAnswer(msgspec.Struct, frozen=True, tag=True):
    number: int
    answers: tuple[Answer, ...]
    fault: str = ""
    """The reason why the keeper (the parent process) has no answers. It is "" if it has answers."""
    until: float | None = None
    """The time until which the worker may spend its slices (parts) of money balances, in seconds of the machine's
    monotonic clock. If it is None, the worker may spend the slices until its own lease ends (`lending.Loan.until`).
    """


class AskSession(msgspec.Struct, frozen=True, tag=True):
    number: int
    login: str
    fingerprint: str


class SessionId(msgspec.Struct, frozen=True, tag=True):
    number: int
    id: str


class Recall(msgspec.Struct, frozen=True, tag=True):
    """The keeper's request that a worker gives back a part of a quota bucket's balance.

    The worker gives back what it has of the balance and does not need for its calls. It answers with `AskBank`, even if
    it can give nothing back. The keeper is the worker's parent process.
    """

    bucket: Bucket


class Free(msgspec.Struct, frozen=True, tag=True):
    """The keeper's message to a worker: a quota bucket that refused calls of the worker may have enough for them now.

    The bucket was refilled, or other workers gave parts of its balance back. The keeper is the worker's parent process.
    """

    bucket: Bucket


class Question(msgspec.Struct, frozen=True, tag=True):
    """A question of the keeper (the parent process) to a worker. `states.answers` has the names of the questions."""

    number: int
    name: str


class Reply(msgspec.Struct, frozen=True, tag=True):
    number: int
    text: str


class Captured(msgspec.Struct, frozen=True, tag=True):
    """A worker's message with the request body and the reply body of a call that has ended."""

    bodies: CapturedBodies


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The last message of a worker, unless the worker crashes or is killed."""

    metrics: str
    """The last metrics of the worker, in the form of `states.metrics_of`."""


class Leave(msgspec.Struct, frozen=True, tag=True):
    """The message to a worker to end as soon as no client is connected to it. It is sent after another gateway process
    has taken over.
    """


class Drain(msgspec.Struct, frozen=True, tag=True):
    """The message to a worker to accept no more requests, wait at most `drain_seconds` for calls in flight, and end."""


class Hurry(msgspec.Struct, frozen=True, tag=True):
    """The message to a worker to end its calls in flight at once."""


Message = (
    Start | Loaded | Ready | Failed | Accept | Pause | Paused | Configure | Configured | UseModels
    | AskBank | BankAnswer | AskSession | SessionId | Recall | Free | Question | Reply | Captured
    | Ended | Leave | Drain | Hurry
)  # fmt: skip
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Message)
T = TypeVar("T")


def encoded(message: Message) -> bytes:
    """Return a message with its length. Raises `UnicodeEncodeError` if a text has lone surrogates."""
    data = _ENCODER.encode(message)
    return LENGTH.pack(len(data)) + data


class Channel:
    """One end of the connection between a worker and its parent process (the keeper)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._number = 0
        self._answers: dict[int, asyncio.Future[Message]] = {}

    @classmethod
    async def open(cls, connection: socket.socket) -> Channel:
        return cls(*await asyncio.open_unix_connection(sock=connection))

    @property
    def is_crowded(self) -> bool:
        """Whether so many bytes wait to be sent that bodies of calls are dropped instead of sent."""
        return self._writer.transport.get_write_buffer_size() > MAX_UNSENT

    def send(self, message: Message) -> None:
        """Send a message. If the other process has ended, do nothing.

        Raises `UnicodeEncodeError` if a text has lone surrogates.
        """
        self.write(encoded(message))

    def write(self, data: bytes) -> None:
        """Send a message that is encoded already."""
        if not self._writer.is_closing():
            self._writer.write(data)

    def number(self) -> int:
        """Return a number for a new question: one more than the number before."""
        self._number += 1
        return self._number

    async def ask(self, question: AskBank | AskSession | Configure | Question, answer: type[T]) -> T:
        """Send a question, and return its answer. Raises `Broken` if the other process has ended."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        if self._reader.at_eof() or self._writer.is_closing():
            raise Broken("the other process has ended")
        self._answers[question.number] = future
        try:
            self.send(question)
            message = await future
        finally:
            self._answers.pop(question.number, None)
        if not isinstance(message, answer):
            raise Broken("the other process answers otherwise")
        return message

    async def receive(self) -> Message:
        """Return the next message that is not an answer. Answers on the way are given to the tasks that wait for them.

        Raises `Broken` if the other process has ended.
        """
        while True:
            try:
                head = await self._reader.readexactly(LENGTH.size)
                data = await self._reader.readexactly(size_of(head))
                message: Message = _DECODER.decode(data)
            except (OSError, asyncio.IncompleteReadError):
                self._end("the other process has ended")
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._end(f"the message cannot be read: {error}")
            if not isinstance(message, BankAnswer | SessionId | Configured | Reply):
                return message
            future = self._answers.get(message.number)
            if future is not None and not future.done():
                future.set_result(message)

    def _end(self, reason: str) -> NoReturn:
        broken = Broken(reason)
        for future in self._answers.values():
            if not future.done():
                future.set_exception(broken)
        self.close()
        raise broken

    def close(self) -> None:
        self._writer.close()

    async def sent(self) -> None:
        """Wait until all waiting messages are sent, but for at most `SENT_SECONDS`. Then close the connection."""
        self.close()
        with suppress(OSError):
            async with asyncio.timeout(SENT_SECONDS):
                await self._writer.wait_closed()
