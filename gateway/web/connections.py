"""The connections of clients: time limits for request heads and for reading replies, and error pages for malformed
requests.

- aiohttp limits neither the number of connections nor the time for a head. So `Connection` extends aiohttp's protocol
  object. Only this file and `http_server.py` use private attributes of aiohttp. This file uses the class `_ErrInfo`,
  `_cache` of a request, and private attributes that `Connection` inherits from `RequestHandler`.
- aiohttp runs a task for each connection, and a task and two futures for each request. `Connection.start` runs one task
  instead, which handles the requests that have arrived, and ends after the last of them.
- Calls to models go to `call/call_routes.py`. For most of them, it returns the whole reply (`Reply`), which
  `Connection` writes at once. All other requests go to aiohttp's application.
- A connection whose first bytes are the preface of HTTP/2 is served over HTTP/2 (`http2/`).
- The gateway replies to a malformed request with its own error page, and not with aiohttp's.

`connection_limits.py` counts the connections. Bodies are read in `call/server.py`. `call/guard.py` identifies callers,
and refuses requests because of their headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

from aiohttp import HttpVersion10, HttpVersion11, StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import StreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.tcp_helpers import tcp_keepalive
from aiohttp.web_protocol import ERROR, _ErrInfo

from gateway.call.context import CALL, REQUEST_ID
from gateway.call.guard import json_error, new_id
from gateway.call.reply import Reply, encoded
from gateway.call.request_body import MalformedBody
from gateway.call.server import as_response
from gateway.web.connection_limits import Room
from gateway.web.reading_timer import ReadingTimer

MAX_FRAMING_BYTES: Final = 64 * 1024
"""Number of bytes of chunked framing (chunk sizes and chunk extensions) that every body may have, even a short one.

A body may have `MAX_FRAMING_BYTES + FRAMING_RATIO * content` bytes on the wire. Without this limit, chunk extensions
could be endless (CVE-2024-22019 in Node).
"""
FRAMING_RATIO: Final = 8
"""Maximum number of bytes on the wire for each byte of content. The smallest legitimate chunks, with one byte of
content, take six bytes."""
CLOSE_SECONDS: Final = 5.0
"""Seconds until a closing connection is aborted, even if its reply is not completely sent.

The rest of a refused request's body is read for at most the same time, so that the client can read the reply.
"""
HTTP2: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The first bytes of a client that speaks HTTP/2 (RFC 9113, 3.4)."""
_VERSIONS: Final = frozenset({HttpVersion10, HttpVersion11})
_NO_TASK: Final = cast("Any", None)
"""None, in place of the asyncio task that aiohttp gives to each request. No code reads this task, and a reference to it
would form a reference cycle.
"""
_LATE: Final = b'{"error":"the head of the request came too slowly"}'
_LATE_HEAD: Final = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n"
    b"x-request-id: %s\r\nserver: irisgate\r\n\r\n"
)


class Connection(web.RequestHandler):
    """One connection of a client."""

    __slots__ = (
        "_body_bytes",
        "_connections",
        "_first",
        "_head_timer",
        "_is_last",
        "_is_malformed",
        "_is_refused",
        "_raw",
        "_reading",
        "handshake",
    )

    def __init__(self, connections: Room, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, lingering_time=CLOSE_SECONDS, **options)
        self._connections = connections
        self._first: bytes | None = b""
        """The first bytes, while they may be the beginning of HTTP/2. The value is None afterwards."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._reading = ReadingTimer()
        self._is_refused = False
        self._is_malformed = False
        """Whether a part of the current request's body is not valid HTTP. The rest of the body is then not read."""
        self._body_bytes = 0
        """Number of received bytes of the current request's body, with its framing."""
        self._is_last = False
        """Whether the connection closes after the current reply."""
        self._raw: asyncio.Transport | None = None
        """The transport. It is kept here, because aiohttp drops its own reference when it closes the connection."""
        self.handshake: Callable[[], None] | None = None
        """A function that stops counting the connection as one in a TLS handshake. It is None if the connection does
        not use TLS (`tls.py`).
        """

    @property
    def awaits_head(self) -> bool:
        """True if no request is in progress. All earlier requests and their replies are then complete."""
        return self._task_handler is None and self.transport is not None and not self.transport.is_closing()

    @property
    def has_no_head(self) -> bool:
        """True if no request is in progress, and no byte of the next head has arrived."""
        return self.awaits_head and self._head_timer is None

    def close(self) -> None:
        """Accept no further request.

        An idle connection closes at once. If the first byte of a request has arrived, the connection closes after the
        reply. An earlier close would lose the rest of the request.
        """
        if self.has_no_head:
            self.force_close()
        elif self.awaits_head or self._current_request is not None or self._messages:
            self._is_last = True
        else:
            super().close()  # the reply or the rest of the body is on its way

    def abort(self) -> None:
        """Close the connection at once. Bytes that are not sent yet are lost."""
        self.force_close()
        if self._raw is not None:
            self._raw.abort()

    def force_close(self) -> None:
        is_closing = self._force_close
        super().force_close()
        if self._raw is not None and not is_closing:
            self._reading.end(self._raw, CLOSE_SECONDS)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._raw is not None:
            self._reading.start(self._raw)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._force_close:
            self._reading.stop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        if self.handshake is not None:
            self.handshake()
        if self._connections.admit(self, self._connections.client(transport)):
            # unlike `RequestHandler.connection_made`, this starts neither a task nor a timer
            BaseProtocol.connection_made(self, transport)
            tcp_keepalive(self._raw)
            assert self._manager is not None
            self._manager.connection_made(self, self._raw)
        else:
            self._is_refused = True
            self._raw.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_head_timer()
        self._connections.remove(self)
        if self._goes_on():
            self._task_handler = None  # aiohttp cancels the task that it finds here
        super().connection_lost(exc)
        self._reading.stop()
        self._raw = None

    def data_received(self, data: bytes) -> None:
        if self._is_refused or self._is_malformed or self._close or self._force_close:
            return
        if (first := self._first) is not None:
            self._first, data = None, first + data
            if data.startswith(HTTP2):
                self._speak_http2(data)
                return
            if HTTP2.startswith(data):
                self._first, data = data, b""
            elif self._has_agreed_on_http2:
                # a wrong preface is a connection error (RFC 9113, 3.4)
                self.force_close()
                return
        super().data_received(data)
        if self._current_request is not None:
            self._check_body(self._current_request, len(data))
        if self._messages:
            self._stop_head_timer()
            self._connections.busy(self)
            if self._task_handler is None:
                self._task_handler = self._loop.create_task(self.start())
        elif self._head_timer is None and self.awaits_head:
            seconds = self._connections.limits().head_seconds
            self._head_timer = asyncio.get_running_loop().call_later(seconds, self._head_is_late)

    async def start(self) -> None:
        """Handle the received requests one after the other. Requests that arrive while this runs are handled too.

        If the connection cannot stay open after a reply, it is closed.
        """
        try:
            while self._messages and not self._close and not self._force_close:
                if not await self._handle_next():
                    self._close_after_reply()
                    break
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, it ends only this connection)
            self.log_exception("unhandled", exc_info=error)
            self.force_close()
        finally:
            self._task_handler = None

    async def _handle_next(self) -> bool:
        """Handle the next request. Return whether the connection can stay open."""
        message, payload = self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        handler, factory = self._request_handler, self._request_factory
        assert handler is not None
        assert factory is not None
        if isinstance(message, _ErrInfo):
            handler, message = self._make_error_handler(message), ERROR
        request = factory(message, payload, self, StreamWriter(self, self._loop), _NO_TASK)
        try:
            response, is_lost = await self._handle_request(request, None, handler)
        except ConnectionError:
            return False
        if is_lost or self._force_close:
            return False
        if not payload.is_eof():
            await self._skip(payload)
        return bool(response.keep_alive) and payload.is_eof() and not self._close

    async def _skip(self, payload: StreamReader) -> None:
        """Read the rest of a request's body for at most `CLOSE_SECONDS`, so that the client can read the reply."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while not payload.is_eof():
                    await payload.readany()

    def _close_after_reply(self) -> None:
        """Close the connection after the bytes that are already written. Ignore the requests that follow."""
        self._close = True
        if self.transport is not None:
            self.transport.close()

    async def finish_response(self, *arguments: Any) -> tuple[Any, bool]:
        request, response, *rest = arguments
        try:
            if isinstance(response, Reply):
                if request.version == HttpVersion11 and response.body and not self._upgraded:
                    return response, await self._write(request, response)
                response = as_response(response)
            elif isinstance(response, web.HTTPException):
                # this is aiohttp's own page, such as the page for an unknown Expect header; replace it
                response = self._page(response.status, f"{response.reason or 'error'}: the request is not served")
            if request.version not in _VERSIONS:
                _answer_with_version_11(request)
            if self._is_last and not response.prepared:
                response.force_close()
            return await super().finish_response(request, response, *rest)
        finally:
            self._body_bytes = 0
            self._connections.idle(self)
            if self._is_last:
                super().close()

    async def _write(self, request: web.BaseRequest, reply: Reply) -> bool:
        """Write a reply with a body to a client of HTTP/1.1. Return True if the connection is lost."""
        reply.keep_alive = reply.keep_alive and request.keep_alive and not self._is_last
        if self._has_left:
            return True
        assert self.transport is not None
        self.transport.write(encoded(reply))
        if self.writing_paused:
            try:
                await request.writer.drain()
            except ConnectionError:
                return True
        return False

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the reply to a malformed request, and close the connection. The reply quotes nothing of the request.

        Raises `exc` if no reply can be sent: the client has left, or the gateway itself has cut a reply to show that
        the reply is not complete. Raises `ConnectionError` if a part of another reply to the request is sent already.
        """
        _ = message
        if isinstance(exc, ConnectionAbortedError) or (isinstance(exc, ConnectionError) and self._has_left):
            raise exc
        _answer_with_version_11(request)
        request_id = new_id()
        kind = type(exc).__name__ if exc else str(status)
        self._connections.malformed(kind, request_id, exc if status >= 500 else None)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the reply is sent already")
        if isinstance(exc, LineTooLong):
            longest = exc.args[1]  # the limit of this connection's parser, which a reload does not change
            status, text = 431, f'a line of the head is longer than {longest} bytes ("server.limits.header_bytes")'
        elif status < 500:
            text = "the request is not valid HTTP/1.1"
        else:
            text = "the gateway failed on this request"
        return self._page(status, text, request_id)

    @property
    def _has_left(self) -> bool:
        """Whether the client has closed the connection."""
        return self.transport is None or self.transport.is_closing()

    def _page(self, status: int, text: str, request_id: str = "") -> web.Response:
        """Return the gateway's own error page. The connection closes after the page is sent."""
        response = json_error(status, text)
        response.headers["x-request-id"] = request_id or new_id()
        response.headers["server"] = "irisgate"
        response.force_close()
        return response

    def _check_body(self, request: web.BaseRequest, size: int) -> None:
        """Make the handler's next read of the body fail with `MalformedBody`, if the body is malformed or its framing
        is much longer than its content.

        Without the error, the handler would wait for the rest of the body for ever.
        """
        content = request.content
        if content.is_eof():
            return
        self._body_bytes += size
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            self._messages.pop()
        elif self._body_bytes <= MAX_FRAMING_BYTES + FRAMING_RATIO * content.total_bytes:
            return
        self._connections.malformed("MalformedBody", request.get(REQUEST_ID, ""), None)
        self._is_malformed = self._is_last = True
        content.set_exception(MalformedBody())
        content.feed_eof()

    @property
    def _has_agreed_on_http2(self) -> bool:
        """Whether the client has chosen HTTP/2 in the TLS handshake (ALPN). It is False for a stream of an HTTP/2
        connection.
        """
        if self._raw is None or self._raw.get_extra_info("connection") is not None:
            return False
        tls = self._raw.get_extra_info("ssl_object")
        return tls is not None and tls.selected_alpn_protocol() == "h2"

    def _speak_http2(self, first: bytes) -> None:
        """Hand the connection over to HTTP/2. `first` are its first bytes."""
        server, raw = cast("Any", self._manager), self._raw  # `HttpServer`, which imports this file
        assert raw is not None
        self._raw = self.transport = None  # so that the end of this object does not close the connection
        self.connection_lost(None)
        connection = server.http2()
        raw.set_protocol(connection)
        connection.connection_made(raw)
        connection.data_received(first)

    def _goes_on(self) -> bool:
        """Return whether the call in flight continues after its client has left (`call/middleware/read_on.py`)."""
        call = None if self._current_request is None else self._current_request.get(CALL)
        return call is not None and call.goes_on is not None and call.goes_on()

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport is not None:
            self._connections.late(self)
            self.transport.write(_LATE_HEAD % (len(_LATE), new_id().encode()) + _LATE)
            self.force_close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def _answer_with_version_11(request: web.BaseRequest) -> None:
    """Make the reply's status line say HTTP/1.1.

    aiohttp would write the version of the request, or HTTP/1.0 if the request cannot be parsed.
    """
    request._cache["version"] = HttpVersion11  # noqa: SLF001 (`version` has no setter)
