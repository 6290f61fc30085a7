"""The early head of a stream: response headers and pings that the client gets before the provider's first event.

- A client or load balancer may close a connection on which nothing is sent for long. The early head prevents this if
  the first event is late.
- Usually the server sends the headers only with the first event. Until then, an error can still be sent with its own
  status. An error after an early head is written into the stream.
- If the first event of a call comes early enough, the gateway sends no early head.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from aiohttp import web

from gateway.contract.errors import GatewayError

HEADLESS: Final = 3
"""Factor for the delay before the headers of a response are sent early, if the provider has not sent its own headers
yet.

The delay is then 45 seconds instead of 15. Load balancers close a silent connection after 60 seconds.
"""

Opening = Callable[[], tuple[web.StreamResponse, bytes]]
"""A function that begins the response early. It returns a pair: the response, and the bytes of a ping in the client's
format (b"" if the format has no pings).
"""


class EarlyStream:
    """Sends the response headers and pings of one streamed call early, if the provider's first event is late.

    If the first event comes in time, nothing is sent here.
    """

    def __init__(self, request: web.Request, opening: Opening, seconds: float, patience: float) -> None:
        self._request = request
        self._opening = opening
        self._seconds = seconds
        self._patience = patience
        """Maximum number of seconds that a ping may wait until the client reads it."""
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._response: web.StreamResponse | None = None
        self._timer = self._loop.call_later(seconds * HEADLESS, self._begin)

    def head_came(self) -> None:
        """Start the timer again with a shorter delay, because the provider has sent its own headers.

        When the timer fires, the client gets the response headers early.
        """
        self._timer.cancel()
        if self._task is None:
            self._timer = self._loop.call_later(self._seconds, self._begin)

    def cancel(self) -> None:
        """Stop the timer that sends the response headers early, and stop the pings."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    async def end(self) -> web.StreamResponse | None:
        """Stop the timer and the pings, and wait until no ping is being written.

        Return the response if its headers have been sent early, and None otherwise.
        """
        self.cancel()
        if self._task is not None:
            await asyncio.wait({self._task})
        return self._response

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._send())

    async def _send(self) -> None:
        try:
            response, ping = self._opening()
        except GatewayError:
            return  # a plugin that fails here fails again when the stream is opened
        if not ping:
            return
        self._response = response
        with suppress(ConnectionError):
            await response.prepare(self._request)
            while True:
                try:
                    async with asyncio.timeout(self._patience):
                        await response.write(ping)
                except TimeoutError:
                    if self._request.transport is not None:
                        self._request.transport.abort()
                    return
                await asyncio.sleep(self._seconds)
