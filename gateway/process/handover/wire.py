"""The messages between a gateway and the new process that replaces it, and their encoding on a unix socket.

A message is its length in four bytes, followed by JSON. Descriptors are sent along with the length (`SCM_RIGHTS`).

    new process                                old process
    Hello                                      Sockets (with the listening sockets), or Declined
    Commit                                     State (with the lock of the journal)
    Ready                                      Done

- Before `Commit`, the old process serves as usual. Between `Commit` and `Done`, no process accepts connections, and new
  connections wait in the queues of the listening sockets.
- If the new process ends before `Done`, the old process continues.
- Later the old process asks the new one to reserve amounts in the quotas for calls that began in the old process:
  `Reserve`, and then `Reserved`, `NotReserved` or `Declined`. The old process also passes on its workers' requests for
  slices of balances: `Lend`, and then `Lent` or `Declined`. Each request has a connection of its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from gateway.money.quotas.buckets import Bucket, Kind, Rule
from gateway.money.quotas.leases import Answer, Ask
from gateway.money.quotas.lending import LeaseState
from gateway.money.quotas.reservations import Claim
from gateway.money.quotas.transfer import BucketState, Hold
from gateway.store.base import JournalOffset

PROTOCOL: Final = 1
"""The version of the messages between a running gateway and the process that replaces it. Both processes must have the
same version.
"""
FILE: Final = "handover.sock"
"""The name of a unix socket in the state folder. New processes connect to it to replace the running gateway."""
MAX_BYTES: Final = 256 * 1024 * 1024
"""Maximum length of a message in bytes. The state of 100,000 buckets takes about 20 MB."""
MAX_DESCRIPTORS: Final = 250
"""Maximum number of descriptors with one message. Linux allows 253 (`SCM_MAX_FD`)."""
LENGTH: Final = struct.Struct(">I")
_CREDENTIALS: Final = struct.Struct("3i")
"""Format of the credentials of a unix socket's peer: process id, user id and group id (`struct ucred`)."""


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The first message of the new process, with the values that both processes must have in common.

    The old process declines if its own `protocol`, `schema`, `database` or `sync` is different.
    """

    protocol: int
    schema: int
    """The version of the database's schema. Releases with different schemas cannot share a database."""
    database: str
    sync: bool
    lends: bool = False
    """Whether the new process can give slices (parts) of quota balances to workers of the old process. Earlier releases
    cannot. If the new process cannot, an old process with workers declines the hand-over.
    """


class Declined(msgspec.Struct, frozen=True, tag=True):
    reason: str


class Sockets(msgspec.Struct, frozen=True, tag=True):
    """The old process's answer to `Hello`. The descriptors of its listening sockets come with this message."""

    sockets: tuple[tuple[str, tuple[int, int] | None], ...]
    """The sockets as pairs (address, file). The address is the listener's text in the configuration. The file is the
    device and inode of a unix socket's file, or None for a TCP socket.
    """


class Commit(msgspec.Struct, frozen=True, tag=True):
    """The request to hand over the journal and the store. The new process has opened everything else by then."""


class Spool(msgspec.Struct, frozen=True):
    """A spool: a separate journal to which a replaced process writes the records of its last calls.

    The new process reads the spool, beginning at the position `offset` (`gateway.call.spools`).
    """

    name: str
    offset: JournalOffset
    ids: tuple[str, ...]
    """Ids of the calls that were sent to a provider and have not ended."""
    held: dict[str, dict[Kind, Hold]]
    """Maps the id of each call in flight to the amounts that the call has reserved."""
    leases: tuple[LeaseState, ...] = ()
    """The leases of a worker: its parts of the balances of buckets."""


class OpenSession(msgspec.Struct, frozen=True):
    """The session of a call in flight. It is not in the store yet, because a session is stored when a call ends."""

    identity: str
    id: str
    last_at: float


class State(msgspec.Struct, frozen=True, tag=True):
    """The part of the old process's state that is only in memory."""

    spools: tuple[Spool, ...]
    limits: tuple[BucketState, ...]
    sessions: tuple[OpenSession, ...]
    memory: msgspec.Raw = msgspec.Raw(b"null")
    """The old process's knowledge of its providers, such as the models that fail (`memory.py`). A new process that
    cannot read the value starts without it.
    """


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The new process's message that it has opened the journal and the store and can serve."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """The old process's message that it has stopped using the listening sockets, the journal and the store."""


class Reserve(msgspec.Struct, frozen=True, tag=True):
    """A message of the replaced process, which asks the new process to reserve quota amounts for a call."""

    spool: str
    call: str
    claims: tuple[Claim, ...]


class Reserved(msgspec.Struct, frozen=True, tag=True):
    notices: tuple[tuple[str, int], ...]
    """Pairs (name, used percentage) of the money buckets that are nearly used up (`Reservation.notices`)."""


class NotReserved(msgspec.Struct, frozen=True, tag=True):
    """The refusal of a reservation, with the values of the exception `Exceeded`."""

    chain: tuple[Bucket, ...]
    rule: Rule
    balance: int
    retry_after: int


class Lend(msgspec.Struct, frozen=True, tag=True):
    """A request for slices (parts) of quota balances. A replaced process sends it for one of its workers.

    `money/quotas/leases.py` describes slices.
    """

    worker: str
    """The name of the worker's spool (the journal of its calls)."""
    asks: tuple[Ask, ...]


class Lent(msgspec.Struct, frozen=True, tag=True):
    answers: tuple[Answer, ...]
    until: float | None = None
    """The time until which the worker may spend its slices (parts) of money balances, in seconds of the machine's
    monotonic clock. If it is None, the worker may spend the slices until its own lease ends (`lending.Loan.until`).
    """


Message = Hello | Declined | Sockets | Commit | State | Ready | Done | Reserve | Reserved | NotReserved | Lend | Lent
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Message)


class Broken(Exception):
    """The error for a peer that closes the connection or sends anything other than a message."""


class PathInFolder:
    """Makes short paths for unix sockets in a folder, because the full path may be longer than Linux allows for a
    socket.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def of(self, name: str) -> str:
        return f"/proc/self/fd/{self._descriptor}/{name}"

    def close(self) -> None:
        os.close(self._descriptor)


def peer_process(connection: socket.socket) -> int:
    """Return the process id of the peer. Raises `PermissionError` if the peer is another user's process."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(data)
    if user != os.geteuid():
        raise PermissionError(f"process {process} belongs to user {user}")
    return int(process)


def send(connection: socket.socket, message: Message) -> None:
    """Send a message on a blocking socket. Raises `OSError` if the peer is gone."""
    data = _ENCODER.encode(message)
    connection.sendall(LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket) -> tuple[Message, Sequence[int]]:
    """Return the next message on a blocking socket, and its file descriptors, which the caller must close.

    Raises `OSError` or `Broken`, and closes received descriptors, if no complete message with all descriptors arrives.
    """
    descriptors: list[int] = []
    with ExitStack() as unless_kept:
        head = bytearray()
        while len(head) < LENGTH.size:
            part, came, _, _ = socket.recv_fds(connection, LENGTH.size - len(head), MAX_DESCRIPTORS)
            for descriptor in came:
                unless_kept.callback(os.close, descriptor)
                os.set_inheritable(descriptor, False)
            descriptors += came
            if not part:
                raise Broken("the connection was closed")
            head += part
        data = bytearray()
        size = size_of(head)
        while len(data) < size:
            if not (part := connection.recv(size - len(data))):
                raise Broken("the connection was closed")
            data += part
        message = _decoded(data)
        if len(descriptors) != _descriptors(message):
            raise Broken(f"{len(descriptors)} descriptors came, and {_descriptors(message)} belong to the message")
        unless_kept.pop_all()
    return message, descriptors


def _descriptors(message: Message) -> int:
    """Return the number of file descriptors that are sent along with a message."""
    match message:
        case Sockets(sockets):
            return len(sockets)
        case State():
            return 1
    return 0


async def send_soon(connection: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send a message on a socket that does not block. Raises `OSError` if the peer is gone."""
    data = _ENCODER.encode(message)
    head = LENGTH.pack(len(data))
    # the buffer of the socket is empty, because each side waits for the other after a message
    sent = socket.send_fds(connection, [head], descriptors)
    await asyncio.get_running_loop().sock_sendall(connection, head[sent:] + data)


async def receive_soon(connection: socket.socket) -> Message:
    """Return the next message on a socket that does not block. Raises `OSError` or `Broken` if there is none."""
    return _decoded(await _exactly(connection, size_of(await _exactly(connection, LENGTH.size))))


async def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        if not (part := await asyncio.get_running_loop().sock_recv(connection, size - len(data))):
            raise Broken("the connection was closed")
        data += part
    return bytes(data)


def size_of(head: bytes | bytearray) -> int:
    """Return the length of the message whose first bytes are `head`. Raises `Broken` if it is too long."""
    size: int = LENGTH.unpack(head)[0]
    if size > MAX_BYTES:
        raise Broken("the message is too long")
    return size


def _decoded(data: bytes | bytearray) -> Message:
    try:
        message: Message = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Broken(f"the message cannot be read: {error}") from None
    return message
