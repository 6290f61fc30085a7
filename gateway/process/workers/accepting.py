"""Accepts connections on a listening socket that several workers share, so that all workers have about the same number
of connections.

- A worker compares its number of connections with the lowest number of any other live worker (`balance.py`).
- If its own number is not higher, the worker accepts a new connection at once.
- If its own number is higher by one, the worker first waits for `TURN_SECONDS`. It then accepts the connection if no
  other worker has done so. The worker with the lowest number may be in the middle of a long task.
- If its own number is higher by more, the worker waits until the difference is at most one.

So a few connections that stay open for long are spread evenly, even if they are opened at the same time.

asyncio's own servers accept all connections that wait, so they are not used here.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

from aiohttp import web

from gateway.access.identity.modes import Modes
from gateway.process.sites import Configured, Sites
from gateway.process.sockets import Bound
from gateway.process.workers.balance import Balance
from gateway.web.connection_limits import Connections

TURN_SECONDS: Final = 0.02
"""Seconds that a worker waits before it accepts a connection while another worker has fewer connections."""
RETRY_SECONDS: Final = 1.0
"""Seconds until the next attempt to accept, after the process had no free file descriptor or memory."""
ACCEPTED_AT_ONCE: Final = 16
"""Maximum number of connections that are accepted in one iteration of the event loop."""
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Factory = Callable[[], asyncio.BaseProtocol]


class BalancedServer:
    """Accepts the connections of one listening socket until `close`, which closes the socket. Open connections stay."""

    def __init__(self, listening: socket.socket, factory: Factory, balance: Balance) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._factory = factory
        self._balance = balance
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        listening.setblocking(False)
        self._listen()

    def close(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening.fileno())
            self._listening.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _listen(self) -> None:
        """Accept connections as soon as one waits in the queue of the socket."""
        self._timer = None
        self._loop.add_reader(self._listening.fileno(), self._accept_some)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        """Accept no connection for `seconds`, and then call `then`."""
        self._loop.remove_reader(self._listening.fileno())
        self._timer = self._loop.call_later(seconds, then)

    def _accept_some(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if self._balance.ahead() > 0:
                self._wait(TURN_SECONDS, self._accept_left)
                return
            if not self._accept_one():
                return

    def _accept_left(self) -> None:
        """Accept a connection, after a wait in which no other worker has accepted it.

        If this worker still has at least two connections more than another worker, wait again instead.
        """
        if self._balance.ahead() > 1:
            self._wait(TURN_SECONDS, self._accept_left)
            return
        self._listen()
        self._accept_one()

    def _try_again(self) -> None:
        self._balance.has_room = True
        self._listen()

    def _accept_one(self) -> bool:
        """Accept a connection. Return False if no connection waits, or if no file descriptor or memory is free."""
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._loop.call_exception_handler({"message": "a connection cannot be accepted", "exception": error})
            self._balance.has_room = False
            self._wait(RETRY_SECONDS, self._try_again)
            return False
        connection.setblocking(False)
        self._balance.accepted()
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def _protocol(self) -> asyncio.BaseProtocol:
        # asyncio calls the protocol's `connection_made`, where the connection is counted, directly after `begun`
        self._loop.call_soon(self._balance.begun)
        return self._factory()


class BalancedSites(Sites):
    """The listeners of a worker. While they are paused, other workers accept connections without waiting for this
    worker.
    """

    def __init__(self, bounds: list[Bound], modes: Modes, balance: Balance) -> None:
        super().__init__(bounds, modes, lambda listening, factory: BalancedServer(listening, factory, balance))
        self._balance = balance

    async def start(self, runner: web.AppRunner, connections: Connections, configured: Configured) -> None:
        self._balance.start()
        await super().start(runner, connections, configured)

    async def pause(self) -> None:
        self._balance.stop()
        await super().pause()
