"""Writes the body of a streamed response, with pings, and detects a client that has stopped reading.

`server.py` decides what is written. The encoder of the client's API determines the format of events and pings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from aiohttp import web

from gateway.call.capture import Capture
from gateway.contract.flag import Event


class PassedEvents:
    """The first and the last event that were sent of a stream whose events are passed on unchanged.

    The client's encoder has not seen these events. It needs them if it must add an error event.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self._first = events[0] if events else None
        self._last: Event | None = None
        self.note(events)

    def note(self, events: Sequence[Event]) -> None:
        for event in reversed(events):
            if event.payload:
                self._last = event
                return

    def tell(self, feed: Callable[[Event], bytes]) -> None:
        """Pass the first and the last event to `feed`, a function of the encoder.

        The encoder reads their sequence numbers, so that an error event gets the next number.
        """
        for event in (self._first, self._last):
            if event is not None:
                feed(event)


UNSENT_BYTES: Final = 32 * 1024
"""Number of unsent bytes in a connection's buffer from which on the next write waits, until the client has read some of
them.
"""


class StreamWriter:
    """Writes the body of a stream in complete frames, and writes pings while there are no events."""

    def __init__(
        self, response: web.StreamResponse, capture: Capture | None, request: web.BaseRequest | None = None
    ) -> None:
        """Make the writer of `response`. `request` is needed only for `write_now`."""
        self._response = response
        self._capture = capture
        self._request = request
        self._is_chunked = request is not None and response.headers.get("Transfer-Encoding") == "chunked"
        self._has_begun = False
        """Whether `write` has written something. The first write also writes the head of the response."""
        self._last = monotonic()
        self._waits = False
        """Whether a write is blocked because the client does not read."""

    @property
    def takes_more(self) -> bool:
        """Whether `write_now` may be called: the response's headers are written, and few bytes are unsent
        (`UNSENT_BYTES`).
        """
        transport = self._transport
        if transport is None or transport.is_closing() or self._waits or not self._has_begun:
            return False
        return transport.get_write_buffer_size() < UNSENT_BYTES

    @property
    def _transport(self) -> asyncio.Transport | None:
        return None if self._request is None else self._request.transport

    def write_now(self, data: bytes) -> None:
        """Write data without waiting. The caller must check first that `takes_more` is true."""
        transport = self._transport
        assert transport is not None
        self._last = monotonic()
        if self._capture is not None:
            self._capture.feed(data)
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    async def write(self, data: bytes) -> None:
        self._last = monotonic()
        if self._capture is not None:
            self._capture.feed(data)
        self._waits = True
        await self._response.write(data)
        self._waits = False
        self._has_begun = True

    async def end(self, last: bytes | None) -> web.StreamResponse:
        """Write the last bytes and the end of the stream, and return the response.

        If `last` is None, raises `ConnectionAbortedError`. aiohttp then closes the connection, and the client sees that
        the body is incomplete.
        """
        if last is None:
            raise ConnectionAbortedError
        if last:
            await self.write(last)
        await self._response.write_eof()
        return self._response

    async def watch(self, ping: bytes, seconds: float, patience: float) -> None:
        """Write a ping whenever nothing has been written for `seconds`. Return when the client has stopped reading.

        A client has stopped reading if a write has been blocked for `patience` seconds. The stream has a single timer,
        because a timer for each write would cost more.
        """
        turn = min(seconds, patience)
        while True:
            silent = monotonic() - self._last
            if self._waits and silent >= patience:
                return
            if ping and not self._waits and silent >= seconds:
                try:
                    async with asyncio.timeout(patience):
                        await self.write(ping)
                except ConnectionError:
                    pass
                except TimeoutError:
                    return
            else:
                left = (patience if self._waits else seconds) - silent
                await asyncio.sleep(min(turn, left) if left > 0 else turn)
