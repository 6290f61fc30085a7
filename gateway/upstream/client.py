"""The HTTP client for requests to providers; no other module opens connections to providers.

This module handles URLs, timeouts and HTTP headers. It never parses the content of a request or a reply.
"""

from __future__ import annotations

import asyncio
import io
import re
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

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
from gateway.contract.flag import Head, UpstreamRequest
from gateway.contract.http_headers import joined_headers
from gateway.upstream.faults import unreachable

MAX_BODY: Final = 64 * 1024 * 1024
"""Maximum number of bytes of a reply that is not streamed. A larger reply is an error."""

SLOWEST_BODY: Final = 8192
"""Minimum average rate, in bytes per second, of a reply that is not streamed. It applies after `Timeouts.read_seconds`.
Without it, a provider that sends a byte now and then could keep the call open for ever."""

WRITE_CHUNK_BYTES: Final = 1024 * 1024
"""Maximum number of bytes of a body that are sent in one write.

A longer body is sent in pieces, so that the event loop serves other calls in between."""

_VERSION_AT_END: Final = re.compile(r"/v[0-9]+[a-z0-9]*$")
_VERSION_AT_START: Final = re.compile(r"^/v[0-9]+[a-z0-9]*(?=/)")

_OWN_HEADERS: Final = {"accept-encoding": "identity", "user-agent": f"irisgate/{__version__}"}
"""Headers of every request. `identity` requests an uncompressed reply, whose events can be forwarded as they are."""


@dataclass(frozen=True, slots=True)
class Notices:
    """Functions that are called while a request is sent."""

    before: Callable[[], Awaitable[None] | None] = lambda: None
    """A function that is called once, when a connection is open and nothing is written yet. If it returns an awaitable,
    the request is written only after the awaitable is done."""
    begins: Callable[[], None] = lambda: None
    """A function that is called just before the first byte is written."""


@dataclass(slots=True)
class _Sending:
    """The state of one request while aiohttp sends it."""

    notices: Notices
    deadline: asyncio.Timeout
    """The time limit of the request. It starts when the connection is open."""
    head_seconds: float
    announced: bool = False
    """Whether `Notices.before` was called."""


NO_NOTICES: Final = Notices()
_SENDING: Final = ContextVar[_Sending]("sending")


class _ConnectionClosed(Exception):
    """The error for a kept connection that the provider closed before anything of the request was written."""


class _Request(aiohttp.ClientRequest):
    """A request that checks, before it is written to a kept connection, whether the connection is still open."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Call the functions of `Notices`, check the connection, and begin to write the request.

        Raises `_ConnectionClosed` if the connection was used before and cannot be used again.
        """
        sending = _SENDING.get()
        if not sending.announced:
            sending.announced = True
            if (pending := sending.notices.before()) is not None:
                await pending
        protocol = conn.protocol
        if not isinstance(protocol, _Protocol) or (protocol.is_used and _is_closed(conn)):
            raise _ConnectionClosed
        protocol.is_used = True
        sending.notices.begins()
        # aiohttp's own timer ends with an interim reply, such as 100 or 103
        sending.deadline.reschedule(asyncio.get_running_loop().time() + sending.head_seconds)
        return await super().send(conn)


class _Protocol(ResponseHandler):
    """A connection that ends at once if the reply's framing is damaged.

    If the framing of a body's chunks is damaged, aiohttp 3.14 closes the connection, but a read of the body would wait
    for ever.
    """

    is_used = False
    """Whether a request was sent on the connection."""

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        super().set_exception(exc, *cause)
        body = self._payload
        if isinstance(exc, HttpProcessingError) and body is not None and not body.is_eof():
            body.set_exception(aiohttp.ClientPayloadError("the chunks of the body are damaged"))


def _protocol(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _Protocol(loop)


def _is_closed(conn: Connection) -> bool:
    """Return whether an idle connection can no longer be used, because the provider has closed it or has sent
    something.

    The event loop may not have noticed this yet, so the socket itself is checked. Bytes that come without a request,
    such as TLS's close notification, make the connection unusable.
    """
    transport = conn.transport
    if transport is None or transport.is_closing():
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket"), select.POLLIN)
    return bool(poll.poll(0))


class UpstreamResponse:
    """A reply whose head has arrived.

    `close` closes the connection if the body has not been read to its end. A timer limits how long the provider may be
    silent. The whole reply has a single timer, because a timer for each read would cost more. Time in which the gateway
    waits for a slow client does not count.
    """

    def __init__(self, response: aiohttp.ClientResponse, provider: str, timeouts: Timeouts) -> None:
        self._response = response
        self._provider = provider
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        """The time of the reply's head or, in a stream, of the last event, by the clock of the event loop."""
        self._seconds = timeouts.read_seconds
        """Maximum number of seconds of silence after `_since`."""
        self._end = inf
        """The time at which a stream must have ended, by the clock of the event loop."""
        self._has_event = False
        self._waits = False
        """Whether a read is waiting for the provider."""
        self._timer: asyncio.TimerHandle | None = None
        self.head = Head(response.status, joined_headers(response.headers.items()))

    def events(self) -> AsyncIterator[bytes]:
        """Yield the pieces of a stream as they arrive. The caller must call `event_came` if a piece completes an event.

        Raises `Truncated` if the connection breaks, and `Stalled` if no event comes for too long or if the stream does
        not end in time.
        """
        self._end = self._loop.time() + self._timeouts.stream_seconds
        self._begin(self._timeouts.first_event_seconds)
        return self._chunks()

    def event_came(self) -> None:
        """Restart the measurement of silence. This is called when an event of the stream has come and was passed on."""
        self._since = self._loop.time()
        if not self._has_event:
            self._has_event = True
            self._stop_timer()
            self._begin(self._timeouts.read_seconds)

    async def read(self, limit: int, hold: Callable[[int], None]) -> bytes:
        """Return the whole body.

        `hold` is called with the number of bytes so far, to reserve memory, and may raise an exception.

        Raises `Truncated` if the connection breaks, `Stalled` if the body comes too slowly, and `UpstreamFailed` if it
        has more than `limit` bytes.
        """
        self._begin(self._timeouts.read_seconds)
        parts = []
        size = 0
        async for data in self._chunks():
            size += len(data)
            if size > limit:
                message = f"{self._provider} answered {self.head.status} with more than {limit} bytes"
                problem = Problem(UNAVAILABLE, message)
                raise UpstreamFailed(problem)
            hold(size)
            self._seconds = self._timeouts.read_seconds + size / SLOWEST_BODY
            parts.append(data)
        return b"".join(parts)

    def close(self) -> None:
        self._stop_timer()
        self._response.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self, seconds: float) -> None:
        self._seconds = seconds
        self._check_after(seconds)

    def _check_after(self, seconds: float) -> None:
        self._timer = self._loop.call_at(min(self._loop.time() + seconds, self._end), self._check)

    async def _chunks(self) -> AsyncIterator[bytes]:
        """Yield the pieces of the body as they arrive.

        Raises `Truncated` if the connection breaks, and `Stalled` if the provider is silent for too long or a stream
        does not end in time.
        """
        content = self._response.content
        while True:
            self._waits = True
            try:
                data = await content.readany()
            except (aiohttp.ClientError, ConnectionError) as error:
                raise Truncated(f"the connection to {self._provider} broke off: {type(error).__name__}") from None
            finally:
                self._waits = False
            if not data:
                return
            yield data

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
        """End the reply. The read that waits, or the next read, then raises `Stalled`."""
        problem = Problem(TIMEOUT, f"{self._provider} {fault}", retryable=retryable)
        self._response.content.set_exception(Stalled(problem))


class Upstream:
    """The HTTP client of the gateway, with one pool of connections for all providers."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def open(
        self,
        provider: Provider,
        request: UpstreamRequest,
        added: Mapping[str, str],
        timeouts: Timeouts,
        notices: Notices = NO_NOTICES,
    ) -> UpstreamResponse:
        """Send a request with its own headers and those in `added`, and wait for the head of the reply.

        If the provider closed a kept connection before anything was written to it, another connection is used. If a
        connection breaks later, the request is not sent again, because the provider may have read it (RFC 9110, 9.2.2).
        `Notices.before` may raise an exception.

        Raises `NotReached` if no connection can be made, and `UpstreamFailed` (unavailable or timeout) if no reply
        arrives over the connection.
        """
        limits = aiohttp.ClientTimeout(total=None, connect=timeouts.connect_seconds)
        target = url(provider.baseurl, request)
        headers = {**_OWN_HEADERS, **request.headers, **added}
        deadline = asyncio.timeout(None)
        token = _SENDING.set(_Sending(notices, deadline, timeouts.head_seconds))
        try:
            async with deadline:
                response = await self._request(target, request, headers, limits)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            why = unreachable(error, target.host or "", target.port)
            message = f"{provider.id} cannot be reached: {why.words}"
            raise NotReached(Problem(UNAVAILABLE, message, reason=why.name, retryable=True)) from None
        except TimeoutError:
            message = f"{provider.id} sent no head of a reply for {timeouts.head_seconds:g} seconds"
            raise UpstreamFailed(Problem(TIMEOUT, message, retryable=True)) from None
        except (aiohttp.ClientError, OSError) as error:
            message = f"{provider.id} broke off before it answered: {type(error).__name__}"
            raise UpstreamFailed(Problem(UNAVAILABLE, message, retryable=True)) from None
        finally:
            _SENDING.reset(token)
        return UpstreamResponse(response, provider.id, timeouts)

    async def _request(
        self, target: URL, request: UpstreamRequest, headers: dict[str, str], limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Send the request. If a kept connection turns out to be closed, use another connection."""
        while True:
            try:
                return await self._client().request(
                    request.method,
                    target,
                    data=request.body if len(request.body) <= WRITE_CHUNK_BYTES else io.BytesIO(request.body),
                    headers=headers,
                    timeout=limits,
                    allow_redirects=False,
                )
            except _ConnectionClosed:
                continue

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            # no limit of connections, because calls are limited elsewhere; no cookies, because callers would share them
            connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60)
            connector._factory = partial(_protocol, asyncio.get_running_loop())  # noqa: SLF001 (there is no option)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Content-Type",),
                request_class=_Request,
            )
        return self._session


def url(baseurl: str, request: UpstreamRequest) -> URL:
    """Join the base URL and the request's path, without a double slash or a double version.

    The path is not re-encoded. If the base URL ends with a version (`https://x/v1`, `https://x/api/paas/v4`), the
    version at the start of the path is left out. The base URL may contain a path, as for Bedrock:
    `https://bedrock-runtime.us-east-1.amazonaws.com/anthropic` and `.../openai/v1`.
    """
    base = baseurl.rstrip("/")
    path = request.path
    if _VERSION_AT_END.search(base):
        path = _VERSION_AT_START.sub("", path)
    return URL(base + path + (f"?{request.query}" if request.query else ""), encoded=True)
