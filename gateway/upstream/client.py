"""The HTTP client for requests to providers. No other module sends requests to providers.

This module handles URLs, timeouts and HTTP headers. It never parses the content of a request or a reply. The
connections are in `http1/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import chain
from math import inf
from typing import Final

import msgspec

from gateway import __version__
from gateway.config.model import Provider, Timeouts
from gateway.contract.errors import (
    TIMEOUT,
    UNAVAILABLE,
    NotReached,
    Problem,
    Stalled,
    Truncated,
    UpstreamFailed,
)
from gateway.contract.flag import UpstreamRequest
from gateway.contract.http_headers import FRAMING
from gateway.upstream.faults import unreachable
from gateway.upstream.http1.codings import CODINGS, Inflated
from gateway.upstream.http1.connection import Connection
from gateway.upstream.http1.dial import Dialer
from gateway.upstream.http1.exchange import BrokenOff, Exchange, Quick, not_quick
from gateway.upstream.http1.pool import Pool
from gateway.upstream.http1.proxies import Proxies, Proxy
from gateway.upstream.http1.targets import Base, Endpoint, base

MAX_BODY: Final = 64 * 1024 * 1024
"""Maximum number of bytes of a reply that is not streamed. A larger reply is an error."""

SLOWEST_BODY: Final = 8192
"""Minimum average rate of a reply that is not streamed, in bytes per second.

The rate is checked once the reply has taken longer than `Timeouts.read_seconds`. Without this limit, a provider that
sends a byte now and then could keep the call open for ever.
"""

_OWN_HEADERS: Final = {"accept": "*/*", "accept-encoding": "identity", "user-agent": f"irisgate/{__version__}"}
"""Headers of every request. `identity` requests an uncompressed reply, whose events can be forwarded as they are."""
_NO_BODY: Final = frozenset({"GET", "HEAD"})
"""Methods whose requests have no `Content-Length` if the body is empty (RFC 9110, 8.6)."""

_KNOWN_CODINGS: Final = CODINGS | {"", "identity"}


class Notices(msgspec.Struct, frozen=True):
    """Functions that are called while a request is sent."""

    before: Callable[[], Awaitable[None] | None] = lambda: None
    """A function that is called once a connection is open, before anything is written. If it returns an awaitable,
    the request is written only after the awaitable is done."""
    begins: Callable[[], None] = lambda: None
    """A function that is called just before the first byte of the request is written."""


NO_NOTICES: Final = Notices()


class UpstreamResponse:
    """A reply whose head has arrived.

    `close` gives the connection back to the pool, or closes it if the body has not arrived completely. A timer limits
    how long the provider may be silent. Time in which the gateway waits for a slow client does not count.
    """

    def __init__(
        self, exchange: Exchange, connection: Connection, pool: Pool, provider: str, timeouts: Timeouts
    ) -> None:
        head = exchange.received_head
        self.head = head
        self._pool = pool
        self._connection: Connection | None = connection
        self._exchange = exchange
        self._provider = provider
        self._timeouts = timeouts
        self._loop = connection.loop
        self._alarm = connection.alarm
        self._since = self._loop.time()
        """The time of the reply's head or, in a stream, of the last event, by the clock of the event loop."""
        self._seconds = timeouts.read_seconds
        """Maximum number of seconds of silence after `_since`."""
        self._end = inf
        """The time at which a stream must have ended, by the clock of the event loop."""
        self._has_event = False
        self._waits = False
        """Whether a read is waiting for the provider."""
        self.coding = head.headers.get("content-encoding", "").strip().lower()
        """The content coding of the body. `read` and `next` return the body without it."""
        self._read = Inflated(exchange.read).read if self.coding in CODINGS else exchange.read

    def begin_stream(self) -> None:
        """Begin to measure the time between the events of a stream. The caller must report each event (`event_came`).

        If no event comes for too long, or if the stream does not end in time, `next` raises `Stalled`.
        """
        self._end = self._loop.time() + self._timeouts.stream_seconds
        self._begin(self._timeouts.first_event_seconds)

    def event_came(self) -> None:
        """Measure the provider's silence from now on, because an event of the stream has come and was passed on."""
        self._since = self._loop.time()
        if not self._has_event:
            self._has_event = True
            self._begin(self._timeouts.read_seconds)

    async def read(self, limit: int, hold: Callable[[int], None]) -> bytes:
        """Return the whole body.

        `hold` is called with the number of bytes so far, to reserve memory, and may raise an exception.

        Raises `Truncated` if the connection breaks, `Stalled` if the body comes too slowly, and `UpstreamFailed` if the
        body has more than `limit` bytes.
        """
        if self._exchange.is_complete and not self.coding:  # most short replies arrive together with their head
            body = self._exchange.rest()
            self._check_size(len(body), limit)
            hold(len(body))
            self.close()
            return body
        self._begin(self._timeouts.read_seconds)
        parts = []
        size = 0
        while data := await self.next():
            size += len(data)
            self._check_size(size, limit)
            hold(size)
            self._seconds = self._timeouts.read_seconds + size / SLOWEST_BODY
            parts.append(data)
        return b"".join(parts)

    def _check_size(self, size: int, limit: int) -> None:
        """Raise `UpstreamFailed` if a body has more than `limit` bytes."""
        if size > limit:
            message = f"{self._provider} answered {self.head.status} with more than {limit} bytes"
            raise UpstreamFailed(Problem(UNAVAILABLE, message))

    def close(self) -> None:
        """Give the connection back to the pool, or close it if it cannot be used again."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.release():
            self._pool.put(connection)

    def _begin(self, seconds: float) -> None:
        self._seconds = seconds
        self._check_after(seconds)

    def _check_after(self, seconds: float) -> None:
        if self._connection is not None:
            self._alarm.set(min(self._loop.time() + seconds, self._end), self._check)

    async def next(self, quick: Quick = not_quick) -> bytes:
        """Return the next bytes of the body, or b"" at its end. If no bytes have come yet, wait for them.

        Bytes that arrive during the wait are passed to `quick`. If it returns True, it has processed them, and the wait
        goes on. If it returns False, the bytes are returned.

        Raises `Truncated` if the connection breaks, and `Stalled` if the provider is silent for too long or a stream
        does not end in time.
        """
        self._waits = True
        try:
            data = await self._read(quick)
        except BrokenOff as error:
            raise Truncated(f"the connection to {self._provider} broke off: {error}") from None
        finally:
            self._waits = False
        if not data:
            self.close()
        return data

    def _check(self) -> None:
        """End the reply if the provider has been silent for too long, or if a stream has not ended in time."""
        now = self._loop.time()
        left = self._since + self._seconds - now
        if now >= self._end:
            self._fail(f"did not end the stream within {self._timeouts.stream_seconds:g} seconds", retryable=False)
        elif left <= 0 and self._waits:
            self._fail(f"sent nothing that completes a reply or an event for {self._seconds:g} seconds", retryable=True)
        else:
            self._check_after(left if left > 0 else self._seconds)

    def _fail(self, fault: str, *, retryable: bool) -> None:
        """End the reply with `Stalled`. If a read is waiting, this read raises the error. If none is waiting, the next
        read does.
        """
        problem = Problem(TIMEOUT, f"{self._provider} {fault}", retryable=retryable)
        self._exchange.fail(Stalled(problem))


class Upstream:
    """The HTTP client of the gateway, with one pool of connections for all providers."""

    def __init__(self) -> None:
        self._pool = Pool()
        self._dialer = Dialer()
        self._proxies = Proxies()

    async def open(
        self,
        provider: Provider,
        request: UpstreamRequest,
        added: Mapping[str, str],
        timeouts: Timeouts,
        notices: Notices = NO_NOTICES,
    ) -> UpstreamResponse:
        """Send a request with its own headers and those in `added`, and wait for the head of the reply.

        If an idle connection turns out to be closed before anything was written, another connection is used. If a
        connection breaks later, the request is not sent again, because the provider may have read it (RFC 9110, 9.2.2).
        If `Notices.before` raises an exception, nothing is sent.

        Raises `NotReached` if no connection can be made, and `UpstreamFailed` (unavailable or timeout) if no reply
        arrives over the connection.
        """
        where = base(provider.baseurl)
        proxy = self._proxy(provider, where)
        head = _head(where, proxy, request, added)
        connection = await self._connection(provider, where, proxy, timeouts.connect_seconds)
        is_announced = False
        try:
            if (pending := notices.before()) is not None:
                await pending
            is_announced = True
        finally:
            if not is_announced:
                self._pool.put(connection)
        while connection.is_used and not connection.is_open:
            connection.abort()
            connection = await self._connection(provider, where, proxy, timeouts.connect_seconds)
        try:
            exchange = await connection.send(
                head, request.body, timeouts.head_seconds, notices.begins, has_body=request.method != "HEAD"
            )
        except TimeoutError:
            message = f"{provider.id} sent no head of a reply for {timeouts.head_seconds:g} seconds"
            raise UpstreamFailed(Problem(TIMEOUT, message, retryable=True)) from None
        except BrokenOff as error:
            message = f"{provider.id} broke off before it answered: {error}"
            raise UpstreamFailed(Problem(UNAVAILABLE, message, retryable=True)) from None
        reply = UpstreamResponse(exchange, connection, self._pool, provider.id, timeouts)
        if reply.coding not in _KNOWN_CODINGS:
            reply.close()
            message = f"{provider.id} answered in the content coding {reply.coding[:50]}, for which it was not asked"
            raise UpstreamFailed(Problem(UNAVAILABLE, message, status=502))
        return reply

    async def reach(self, provider: Provider, seconds: float) -> None:
        """Connect to a provider, and close the connection without sending anything. Raises `NotReached` if this
        fails.
        """
        where = base(provider.baseurl)
        proxy = self._proxy(provider, where)
        connection = await self._connection(provider, where, proxy, seconds)
        connection.abort()

    async def close(self) -> None:
        self._dialer.close()
        self._pool.close()
        await asyncio.sleep(0)  # the event loop closes the sockets

    async def _connection(self, provider: Provider, where: Base, proxy: Proxy | None, seconds: float) -> Connection:
        """Return an idle connection or a new one. Raises `NotReached` if none can be made."""
        endpoint = Endpoint(where.origin, provider.authorities)
        if (idle := self._pool.take(endpoint)) is not None:
            return idle
        try:
            async with asyncio.timeout(seconds):
                connection = await self._dialer.connect(endpoint, proxy, self._pool.forget)
        except _NO_CONNECTION as error:
            raise _not_reached(provider, where, proxy, error) from None
        self._pool.add(connection)
        return connection

    def _proxy(self, provider: Provider, where: Base) -> Proxy | None:
        """Return the proxy for requests to a provider, or None. Raises `NotReached` if the proxy's URL is wrong."""
        try:
            return self._proxies.proxy_for(where.origin)
        except _NO_CONNECTION as error:
            raise _not_reached(provider, where, None, error) from None


_NO_CONNECTION: Final = (OSError, UnicodeError)
"""Exceptions that `http1/dial.py` and `http1/proxies.py` raise if no connection can be made."""


def _not_reached(provider: Provider, where: Base, proxy: Proxy | None, error: OSError | UnicodeError) -> NotReached:
    """Return the error for a provider to which no connection can be made."""
    why = unreachable(error, where.origin.host, where.origin.port)
    way = f" (through the proxy {proxy.origin})" if proxy is not None and why.name != "proxy" else ""
    message = f"{provider.id} cannot be reached: {why.words}{way}"
    return NotReached(Problem(UNAVAILABLE, message, reason=why.name, retryable=True))


def _head(where: Base, proxy: Proxy | None, request: UpstreamRequest, added: Mapping[str, str]) -> bytes:
    """Return the head of a request (RFC 9112, 2.1), with the headers of the request and those in `added`.

    Headers about the connection or the length of the body are left out. Raises `ValueError` if a header has a line
    break or a zero byte (RFC 9110, 5.5).
    """
    headers = {"host": where.authority, **_OWN_HEADERS}
    for name, value in chain(request.headers.items(), added.items()):
        if (lower := name.lower()) not in FRAMING:
            headers[lower] = value
    if request.body or request.method not in _NO_BODY:
        headers["content-length"] = str(len(request.body))
    target = where.target(request.path, request.query)
    if proxy is not None and where.origin.scheme == "http":
        target = f"http://{where.authority}{target}"
        if proxy.authorization:
            headers["proxy-authorization"] = proxy.authorization
    lines = [f"{request.method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers.items()]]
    text = "\n".join(lines)
    if text.count("\n") != len(headers) or "\r" in text or "\0" in text:
        raise ValueError("a header has a line break or a zero byte")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
