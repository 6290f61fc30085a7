"""Clients that disconnect at a chosen step of the gateway's work on their request.

A step ends each time the task of the request waits for something. At the end of the chosen step, the gateway is told
that the connection is lost, in the way in which the event loop reports this.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import aiohttp

SMALL = 4096
"""Number of bytes in the socket buffers of a narrow connection, which simulates a client that reads slowly. Linux
doubles the number.
"""


class Steps:
    """Awaits `work`. Each time `work` waits for something, a step ends, and `pause` is called."""

    def __init__(self, work: Awaitable[Any], pause: Callable[[], None]) -> None:
        self._work = work
        self._pause = pause

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        resume, value = steps.send, None
        while True:
            try:
                waits = resume(value)
            except StopIteration as end:
                return end.value
            self._pause()
            try:
                resume, value = steps.send, (yield waits)
            except BaseException as error:  # noqa: BLE001 (whatever is thrown into the task)
                resume, value = steps.throw, error


async def cancelled(work: Awaitable[Any], at: int) -> bool:
    """Await `work`, and cancel it at the end of the step `at`. Return False if `work` has ended before this step.

    A step ends each time `work` waits for something. The first step is 1.
    """
    steps = 0

    def pause() -> None:
        nonlocal steps
        steps += 1
        task = asyncio.current_task()
        if steps == at and task is not None:
            task.cancel()

    await asyncio.gather(asyncio.create_task(_awaited(Steps(work, pause))), return_exceptions=True)
    return steps >= at


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


class Leaving:
    """A request handler that breaks the connection of each request at the end of the step `at`, and then cancels the
    request's task `again` steps later.

    A step ends each time the task waits for something.
    """

    def __init__(self, handler: Callable[[Any], Awaitable[Any]], *, narrow: bool) -> None:
        self._handler = handler
        self._narrow = narrow
        self.at = 0
        """The step at which the connection is lost; 0 to lose none."""
        self.again = 0
        """The number of steps from the loss of the connection until the task is cancelled. If it is 0, the task is not
        cancelled.
        """
        self.steps = 0
        """The number of steps of the last request."""
        self.ended = asyncio.Event()
        """An event that is set when the last request has ended."""

    def begin(self, at: int, again: int) -> None:
        """Prepare the handler for the next request. Its connection is lost at the end of the step `at`.

        Its task is cancelled `again` steps later.
        """
        self.at, self.again, self.steps = at, again, 0
        self.ended.clear()

    async def __call__(self, request: Any) -> Any:
        if self._narrow:
            request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
            request.transport.set_write_buffer_limits(0)
        try:
            return await Steps(self._handler(request), lambda: self._pause(request))
        finally:
            self.ended.set()

    def _pause(self, request: Any) -> None:
        self.steps += 1
        if self.steps == self.at:
            protocol, transport = request.protocol, request.transport
            transport.set_protocol(asyncio.Protocol())
            transport.abort()
            protocol.connection_lost(ConnectionResetError())
        elif self.again and self.steps == self.at + self.again:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()


@contextmanager
def leaving(gw, *, narrow=False):
    """Yield a `Leaving`, which handles all requests over new connections to a running gateway.

    If `narrow` is true, every write to a client blocks until the client has read nearly all earlier bytes. At the end,
    the gateway's own handler is restored.
    """
    runner, *_ = gw.running.sites._served
    handler = runner.server.request_handler
    runner.server.request_handler = leaver = Leaving(handler, narrow=narrow)
    yield leaver
    runner.server.request_handler = handler


def narrow():
    """Return an HTTP client whose connections have small receive buffers, so that few unread bytes fit into them."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, socket_factory=_small), read_bufsize=SMALL
    )


def _small(address):
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    return made
