"""The connections of clients: time limits for request heads and for reading replies, and error pages for malformed
requests.

- aiohttp limits neither the number of connections nor the time for a head. So `Connection` extends aiohttp's protocol
  object. Only this file uses private attributes of aiohttp: `_waiter`, `_messages`, `_force_close`, `_current_request`,
  `_request_count`, `_task_handler`, `_upgraded` and `_process_keepalive` of `RequestHandler`, `_ErrInfo`, `_cache` of a
  request, `_kwargs` of `Server`, and `_make_server` of `AppRunner`.
- Calls go to `call/call_routes.py`, which returns a `Reply` for most of them. `Connection` writes it in one piece.
  All other requests go to aiohttp's application.
- The gateway replies to a malformed request with its own error page, and not with aiohttp's.

`connection_limits.py` counts the connections. Bodies are read in `call/server.py`. `call/guard.py` identifies callers,
and refuses requests because of their headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, cast

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import _ErrInfo

from gateway.call.context import CALL, REQUEST_ID
from gateway.call.guard import json_error, new_id
from gateway.call.reply import Reply, encoded
from gateway.call.request_body import MalformedBody
from gateway.call.server import as_response
from gateway.web.connection_limits import Connections

UNREAD_SECONDS: Final = 120.0
"""Seconds in which a client must read `MIN_READ_BYTES` of a reply. Otherwise the connection is closed."""
MIN_READ_BYTES: Final = 1024 * 1024
"""Minimum number of bytes that a client must read of a long reply in `UNREAD_SECONDS`.

This is about 8 KB per second, like the minimum rate of request bodies (`Limits.body_bytes_per_second`)."""
MAX_FRAMING_BYTES: Final = 64 * 1024
"""Number of bytes for the chunked framing of a request's body, such as chunk sizes and chunk extensions.

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
_VERSIONS: Final = frozenset({HttpVersion10, HttpVersion11})
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
        "_head_timer",
        "_is_last",
        "_is_malformed",
        "_is_refused",
        "_raw",
        "_unread_timer",
        "handshake",
    )

    def __init__(self, connections: Connections, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, lingering_time=CLOSE_SECONDS, **options)
        self._connections = connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
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
        """A function that stops counting the connection as one in a TLS handshake; None without TLS (`tls.py`)."""

    @property
    def awaits_head(self) -> bool:
        """True if aiohttp waits for the head of a request. All earlier requests and their replies are then complete."""
        if self._waiter is None:
            return not self._request_count  # on Python 3.11, aiohttp begins to wait just after the connection is made
        return not self._waiter.done()

    @property
    def has_no_head(self) -> bool:
        """True if aiohttp waits for the head of a request, and no byte of it has arrived."""
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
            self._stop_unread_timer()
            self._unread_timer = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._raw.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._raw is not None and self._unread_timer is None:
            self._expect_reading(self._raw)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._force_close:
            self._stop_unread_timer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        if self.handshake is not None:
            self.handshake()
        if self._connections.admit(self, self._connections.client(transport)):
            super().connection_made(transport)
        else:
            self._is_refused = True
            self._raw.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_head_timer()
        self._connections.remove(self)
        if self._goes_on():
            self._task_handler = None  # aiohttp cancels the task that it finds here
        super().connection_lost(exc)
        self._stop_unread_timer()
        self._raw = None

    def data_received(self, data: bytes) -> None:
        if self._is_refused or self._is_malformed:
            return
        super().data_received(data)
        if self._current_request is not None:
            self._check_body(self._current_request, len(data))
        if self._messages:
            self._stop_head_timer()
            self._connections.busy(self)
        elif self._head_timer is None and self.awaits_head:
            seconds = self._connections.limits().head_seconds
            self._head_timer = asyncio.get_running_loop().call_later(seconds, self._head_is_late)

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
        """Write a reply with a body to a request of HTTP/1.1. Return whether the connection is lost."""
        reply.keep_alive = reply.keep_alive and request.keep_alive and not self._is_last
        transport = self.transport
        if transport is None or transport.is_closing():
            return True
        transport.write(encoded(reply))
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
        """Return the reply to a malformed request, and close the connection.

        The reply quotes nothing of the request.
        """
        _ = message
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

    def _page(self, status: int, text: str, request_id: str = "") -> web.Response:
        """Return the gateway's own error page. The connection closes after the page is sent."""
        response = json_error(status, text)
        response.headers["x-request-id"] = request_id or new_id()
        response.headers["server"] = "irisgate"
        response.force_close()
        return response

    def _check_body(self, request: web.BaseRequest, size: int) -> None:
        """End a body with the error `MalformedBody` if its framing is malformed, or much longer than its content.

        Without the error, the handler would wait for the rest of such a body.
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

    def _process_keepalive(self) -> None:
        """Do nothing, because `Connections` closes idle connections."""
        self._keepalive_handle = None

    def _goes_on(self) -> bool:
        """Return whether the call in flight continues if its client leaves (`call/middleware/read_on.py`)."""
        call = None if self._current_request is None else self._current_request.get(CALL)
        return call is not None and call.goes_on is not None and call.goes_on()

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport is not None:
            self._connections.late(self)
            self.transport.write(_LATE_HEAD % (len(_LATE), new_id().encode()) + _LATE)
            self.force_close()

    def _expect_reading(self, raw: asyncio.Transport) -> None:
        """Check after `UNREAD_SECONDS` whether the client has read enough. If not, abort the connection."""
        unread = raw.get_write_buffer_size()
        self._unread_timer = asyncio.get_running_loop().call_later(UNREAD_SECONDS, self._check_reading, raw, unread)

    def _check_reading(self, raw: asyncio.Transport, unread: int) -> None:
        """Abort the connection if the client has read too little in the last `UNREAD_SECONDS`.

        `unread` is the number of bytes that the client had not read at the start of this time.
        """
        if unread - raw.get_write_buffer_size() < MIN_READ_BYTES:
            raw.abort()
        else:
            self._expect_reading(raw)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


Others = Callable[[web.Request], Awaitable[web.StreamResponse]]
Calls = Callable[[Others, web.Request], Awaitable[web.StreamResponse | Reply]]
"""A function that handles the requests that are calls, and passes any other request to its first argument."""


class HttpServer(web.Server):
    """An aiohttp server that limits its connections.

    If `calls` is not None, it gets every request, and passes those that are no calls on to the server's own handler.
    """

    def __init__(self, connections: Connections, server: web.Server, calls: Calls | None = None) -> None:
        others: Any = server.request_handler
        super().__init__(
            others if calls is None else cast("Any", partial(calls, others)),
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            **server._kwargs,  # noqa: SLF001 (this object takes the place of `server`)
        )
        self._limited = connections

    def __call__(self) -> web.RequestHandler:
        return Connection(self._limited, self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An aiohttp runner whose server limits its connections."""

    def __init__(
        self, app: web.Application, connections: Connections, calls: Calls | None = None, **options: Any
    ) -> None:
        super().__init__(app, access_log=None, **options)
        self._connections = connections
        self._calls = calls

    async def _make_server(self) -> web.Server:
        return HttpServer(self._connections, await super()._make_server(), self._calls)


def _answer_with_version_11(request: web.BaseRequest) -> None:
    """Make the reply's status line say HTTP/1.1. Otherwise it would say HTTP/1.0 or the request's version."""
    request._cache["version"] = HttpVersion11  # noqa: SLF001 (`version` has no setter)
