"""A connection to a provider, over which one request at a time is sent."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final, cast

from gateway.upstream.http1.alarm import Alarm
from gateway.upstream.http1.exchange import CLOSED, BrokenOff, Exchange
from gateway.upstream.http1.targets import Endpoint

WRITE_BYTES: Final = 1024 * 1024
"""Maximum number of bytes of a body that are sent in one write.

A longer body is sent in pieces, so that the event loop serves other calls in between."""


class Connection(asyncio.Protocol):
    """An open connection. `lost` is called when it has ended."""

    def __init__(self, endpoint: Endpoint, lost: Callable[[Connection], None]) -> None:
        self.endpoint = endpoint
        self.is_used = False
        """Whether a request was sent on the connection."""
        self._lost = lost
        self.loop = asyncio.get_running_loop()
        self.alarm = Alarm(self.loop)
        """The timer of everything that waits on this connection: for a head, for an event, or for the next request."""
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._exchange: Exchange | None = None
        self._is_full = False
        """Whether the socket takes no more bytes for now."""
        self._is_cut = False
        """Whether a part of a request was not sent."""

    @property
    def is_open(self) -> bool:
        """Whether an idle connection can be used: it is open, and no byte has come.

        The event loop may not have noticed the end of the connection yet, so the socket itself is polled. A byte that
        comes without a request, as in TLS's close notification, makes the connection unusable.
        """
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._poll.poll(0)

    async def send(
        self, head: bytes, body: bytes, seconds: float, begins: Callable[[], None], *, has_body: bool
    ) -> Exchange:
        """Send a request, and return the reply when its head has arrived. `begins` is called before the first byte is
        sent.

        `has_body` says whether the reply may have a body. If the provider answers before the whole request is sent, the
        rest of the request is not sent, and the connection is not used again.

        Raises `TimeoutError` if no head arrives within `seconds`, and `BrokenOff` if the connection ends before that.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise BrokenOff(CLOSED)
        exchange = self._exchange = Exchange(transport.pause_reading, transport.resume_reading, has_body=has_body)
        is_answered = False
        try:
            begins()
            self.is_used = True
            self.alarm.set(self.loop.time() + seconds, exchange.give_up)
            if len(body) <= WRITE_BYTES:
                transport.write(head + body if body else head)
            else:
                transport.write(head)
                await self._send_pieces(transport, exchange, body)
            await exchange.head()
            is_answered = True
        finally:
            if not is_answered:
                self.abort()
        self.alarm.stop()
        return exchange

    def release(self) -> bool:
        """End the exchange. Return whether the connection can be used again. If not, it is closed.

        It can be used again if the request was sent completely and the reply has arrived completely.
        """
        exchange, transport = self._exchange, self._transport
        self._exchange = None
        self.alarm.stop()
        if (
            exchange is None
            or transport is None
            or not exchange.is_complete
            or not exchange.is_reusable
            or self._is_cut
            or self._is_full
            or transport.get_write_buffer_size()
        ):
            if exchange is not None:
                exchange.fail(BrokenOff("the gateway closed the connection"))
            self.abort()
            return False
        transport.resume_reading()
        return True

    def abort(self) -> None:
        """Close the connection at once, without TLS's closing messages."""
        self.alarm.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket"), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.abort()
        else:
            self._exchange.feed(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.alarm.cancel()
        self._transport = None
        self._lost(self)
        if self._exchange is not None:
            self._exchange.end(error)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if self._exchange is not None:
            self._exchange.wake()

    async def _send_pieces(self, transport: asyncio.Transport, exchange: Exchange, body: bytes) -> None:
        """Send a long body in pieces. If the head of the reply arrives before the end, stop sending.

        If the connection ends before that, raise the error that ended it.
        """
        view = memoryview(body)
        start = 0
        while start < len(body):
            await asyncio.sleep(0)
            if exchange.has_head or exchange.has_ended:
                self._is_cut = True
                return
            if self._is_full:
                await exchange.change()
            elif not self._poll.poll(0):
                # if the provider has answered and closed, a write would lose the answer that waits to be read
                transport.write(view[start : start + WRITE_BYTES])
                start += WRITE_BYTES
