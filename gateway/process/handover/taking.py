"""The new process's side of a hand-over: it asks the running gateway for its listeners, its journal and its state.

The new process has no clients yet, so it may block while it waits for a message.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from time import monotonic, sleep
from typing import Final, TypeVar

from gateway.money.quotas.book import ORDER
from gateway.money.quotas.bucket_chains import Exceeded
from gateway.money.quotas.buckets import Kind, LiveBucket
from gateway.money.quotas.leases import Ask
from gateway.money.quotas.lending import Loan
from gateway.money.quotas.reservations import Claim, Reservation
from gateway.process.handover.wire import (
    FILE,
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
    State,
    peer_process,
    receive,
    send,
)
from gateway.process.sockets import Passed
from gateway.store.base import StoreFailed

T = TypeVar("T")

ANSWER_SECONDS: Final = 60.0
"""Maximum number of seconds to wait for an answer of the running gateway."""
ASK_SECONDS: Final = 5.0
"""Maximum number of seconds for which a replaced process asks the new process for a reservation. After that, the
replaced process uses its own balances."""
AGAIN_SECONDS: Final = 0.05
"""Seconds until a request to the new process is repeated, if the new process has not answered it."""


class CannotTake(Exception):
    """The error if the running gateway refuses to be replaced. The message has the reason."""


class Taker:
    """The connection of a new process to the running gateway that it replaces. It is used until the hand-over is
    complete.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._files: list[str] = []
        self.state = State((), (), ())
        """The state of the running gateway. It is empty before `commit`."""

    def offer(self, hello: Hello) -> list[Passed]:
        """Return the listening sockets of the running gateway. Raises `CannotTake` if that gateway declines."""
        try:
            message, descriptors = self._answer(hello, Sockets)
        except Broken as error:
            raise CannotTake(_declined(error)) from None
        self._files = [name for name, file in message.sockets if file is not None]
        names = [name for name, _ in message.sockets]
        return [Passed(name, socket.socket(fileno=one)) for name, one in zip(names, descriptors, strict=True)]

    def commit(self) -> int:
        """Ask the running gateway to stop writing its journal and its store.

        Return the descriptor of the journal's lock. Raises `StoreFailed` if the running gateway declines.
        """
        try:
            self.state, descriptors = self._answer(Commit(), State)
        except Broken as error:
            raise StoreFailed(_declined(error)) from None
        (lock,) = descriptors
        return lock

    def finish(self) -> Collection[str]:
        """Tell the running gateway that this process serves from now on.

        Return the names of the unix sockets whose files the running gateway has created. Raises `Broken` if the running
        gateway has not given up its listeners.
        """
        self._answer(Ready(), Done)
        self._connection.close()
        return self._files

    def _answer(self, message: Message, expected: type[T]) -> tuple[T, Sequence[int]]:
        """Send a message, and return the answer and its file descriptors.

        Raises `Broken`, and closes the connection, if no answer of the type `expected` comes.
        """
        with ExitStack() as unless_answered:
            unless_answered.callback(self._connection.close)
            try:
                send(self._connection, message)
                answer, descriptors = receive(self._connection)
            except OSError as error:
                raise Broken(str(error)) from None
            if not isinstance(answer, expected):
                for descriptor in descriptors:
                    os.close(descriptor)
                raise Broken(answer.reason if isinstance(answer, Declined) else "it speaks otherwise")
            unless_answered.pop_all()
        return answer, descriptors


def _declined(error: Broken) -> str:
    return f"the running gateway does not hand over: {error}"


def connect(state: Path) -> Taker | None:
    """Return a connection to the gateway that runs with this state folder, or None if no gateway runs.

    Raises `CannotTake` if that gateway's process belongs to another user.
    """
    try:
        return Taker(_connected(state, ANSWER_SECONDS))
    except PermissionError as error:
        raise CannotTake(_declined(Broken(error))) from None
    except OSError:
        return None


def _connected(state: Path, seconds: float) -> socket.socket:
    with ExitStack() as unless_kept, closing(PathInFolder(state)) as folder:
        connection = unless_kept.enter_context(socket.socket(socket.AF_UNIX))
        connection.settimeout(seconds)
        connection.connect(folder.of(FILE))
        peer_process(connection)
        unless_kept.pop_all()
    return connection


class RemoteQuotas:
    """The quotas of a process that has been replaced. The balances are in the new process, which is asked for
    reservations.

    `reserve` blocks the calling thread while it waits for the new process.
    """

    def __init__(self, state: Path, spool: str, local: Callable[[Sequence[Claim]], Mapping[Kind, Reservation]]) -> None:
        self._state = state
        self._spool = spool
        self._local = local
        """Reserves from this process's own balances. Used if the other process does not answer."""

    def reserve(self, call: str, claims: Sequence[Claim]) -> Mapping[Kind, Reservation]:
        """Reserve the amounts for a call in the process that replaced this one.

        Raises `Exceeded` if that process refuses. If it does not answer, reserve from this process's own balances.
        """
        end = monotonic() + ASK_SECONDS
        while monotonic() < end:
            match self._asked(Reserve(self._spool, call, tuple(claims))):
                case Reserved(notices):
                    return _reservations(claims, notices)
                case NotReserved(chain, rule, balance, retry_after):
                    raise Exceeded([bucket.name for bucket in chain], rule, balance, retry_after)
            sleep(AGAIN_SECONDS)
        return self._local(claims)

    def lend(self, worker: str, asks: Sequence[Ask]) -> Loan:
        """Pass on the requests of a worker to the process that replaced this one, and return the answers.

        The requests are for slices, the parts of quota balances that only this worker may spend. Raises `StoreFailed`
        if the other process does not answer.
        """
        end = monotonic() + ASK_SECONDS
        while monotonic() < end:
            match self._asked(Lend(worker, tuple(asks))):
                case Lent(answers, until):
                    return Loan(answers, until)
            sleep(AGAIN_SECONDS)
        raise StoreFailed("the gateway that has taken over does not answer")

    def _asked(self, message: Reserve | Lend) -> Message | None:
        """Return the answer of the process that has the balances now, or None if it does not answer."""
        try:
            with closing(_connected(self._state, ASK_SECONDS)) as connection:
                send(connection, message)
                return receive(connection)[0]
        except (OSError, Broken):
            return None


def _reservations(claims: Sequence[Claim], notices: tuple[tuple[str, int], ...]) -> Mapping[Kind, Reservation]:
    """Return reservations of 0 units, one for each kind of quota.

    The real amounts are reserved in the process that replaced this one. So this process must not reserve them again.
    """
    parts: dict[Kind, list[tuple[str, LiveBucket, int]]] = {kind: [] for kind in ORDER}
    for claim in claims:
        for name, rule in ((claim.bucket, claim.rule), *claim.overdraft):
            parts[rule.kind].append((name, LiveBucket(rule, rule.capacity, 0, 0), 0))
    return {kind: Reservation(some, notices=notices if kind == "money" else ()) for kind, some in parts.items()}
