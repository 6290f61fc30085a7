"""Passes requests for pages and for the gateway's own API from a worker on to the keeper (the worker's parent process).

The worker itself serves calls.

- A request is passed on as it came: method, target, headers and body. Only headers about the connection are left out.
  `forwarded.py` says how the keeper knows the client.
- Body and reply are streamed. If the client disconnects, the connection to the keeper is closed too.
- A request that a proxy and the gateway could interpret differently is refused here (`call/guard.py`). The keeper could
  not recognise such a request, because its unusual form is lost on the way.
- If the keeper does not answer, the reply is a 503. If the keeper ends in the middle of a reply, the client's
  connection is closed, so that the client does not take the reply for complete.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway.call.context import REQUEST_ID
from gateway.call.guard import Guard, json_error, new_id
from gateway.process.handover.wire import PathInFolder
from gateway.process.workers.forwarded import FILE, encoded
from gateway.telemetry.throttle import Throttle
from gateway.web.http2.replies import BadReply, ReplyHead, ReplyParser

READ_BYTES: Final = 64 * 1024
"""Maximum number of bytes of the keeper's reply that are read at once. The keeper is the parent process."""
RETRY_SECONDS: Final = 2
"""Value of the header `Retry-After` in the reply 503 that clients get while the keeper (the parent process) does not
answer. If the keeper has ended, a new gateway starts within this time.
"""
_OF_CONNECTION: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip
"""Headers about one connection, which are not passed on to the keeper (the parent process).

All other headers are passed on, even if the `Connection` header names them, because the keeper's checks need them.
"""
_CONTINUE: Final = 100
_AWAY: Final = "the gateway's main process does not answer; calls are still served, so try again soon"


_MALFORMED: Final = "the body of the request is not valid HTTP"


class _Away(Exception):
    """The error for a keeper (the worker's parent process) that does not answer. The message has the reason."""


class Pages:
    """Passes requests on to the keeper (the worker's parent process), whose socket is in the folder `state`."""

    def __init__(self, guard: Guard, state: Path) -> None:
        self._guard = guard
        self._state = state
        self._failures = Throttle()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Return the reply of the keeper (the worker's parent process) to a request.

        Raises `ConnectionAbortedError` if a part of the reply is missing.
        """
        request[REQUEST_ID] = new_id()
        if (response := self._guard.ambiguous(request)) is not None:
            return response
        try:
            async with self._connected() as (reader, writer):
                return await self._exchange(request, reader, writer)
        except _Away as away:
            if count := self._failures.due(str(away)):
                self._guard.gateway.log.warning("pages.unavailable", reason=str(away), count=count)
            response = json_error(503, _AWAY)
            response.headers["retry-after"] = str(RETRY_SECONDS)
            return self._complete(request, response)

    def _complete(self, request: web.Request, response: web.Response) -> web.Response:
        self._guard.complete_head(request, response)
        return response

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a connection to the keeper (the parent process). Raises `_Away` if it does not answer."""
        try:
            with ExitStack() as unless_kept, closing(PathInFolder(self._state)) as folder:
                connection = unless_kept.enter_context(socket.socket(socket.AF_UNIX))
                connection.setblocking(False)
                await asyncio.get_running_loop().sock_connect(connection, folder.of(FILE))
                reader, writer = await asyncio.open_unix_connection(sock=connection, limit=READ_BYTES)
                unless_kept.pop_all()
        except OSError as error:
            raise _Away(error.strerror or str(error)) from None
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _exchange(
        self, request: web.Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> web.StreamResponse:
        if request.transport is None:
            raise ConnectionAbortedError("the client has left")
        writer.write(encoded(self._guard.modes.origin(request.transport)) + _head(request))
        sending = asyncio.create_task(_send_body(request, writer))
        try:
            return await self._reply(request, reader)
        except _Away:
            if sending.done() and not sending.result():
                return self._complete(request, json_error(400, _MALFORMED))
            raise
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _reply(self, request: web.Request, reader: asyncio.StreamReader) -> web.StreamResponse:
        parser = ReplyParser(request.method.encode())
        response: web.StreamResponse | None = None
        try:
            while not parser.is_complete:
                for part in await _parts(reader, parser):
                    match part:
                        case ReplyHead(status=status) if status == _CONTINUE:
                            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                            request.writer.output_size = 0  # the reply has not begun
                        case ReplyHead():
                            response = self._response(part)
                            await response.prepare(request)
                        case bytes() if response is not None:
                            await response.write(part)
        except _Away as away:
            if response is None:
                raise
            raise ConnectionAbortedError(str(away)) from None
        if response is None:
            raise _Away("the reply has no head")
        await response.write_eof()
        return response

    def _response(self, head: ReplyHead) -> web.StreamResponse:
        """Return a reply to the client with the status and the headers of the keeper's reply (`head`). The keeper is
        the parent process.
        """
        response = web.StreamResponse(status=head.status)
        for name, value in head.headers[1:]:
            response.headers.add(name.decode(), value.decode("utf-8", "replace"))
        if self._guard.gateway.is_leaving:
            response.force_close()
        return response


async def _parts(reader: asyncio.StreamReader, parser: ReplyParser) -> list[ReplyHead | bytes]:
    """Read once from the connection to the keeper (the parent process). Return what has come of the keeper's reply: its
    head, and pieces of its body.

    Raises `_Away` if the reply is cut or not valid.
    """
    try:
        data = await reader.read(READ_BYTES)
        if not data:
            raise _Away("the connection was closed")
        return parser.feed(data)
    except OSError as error:
        raise _Away(error.strerror or str(error)) from None
    except BadReply as error:
        raise _Away(str(error)) from None


def _head(request: web.Request) -> bytes:
    """Return the request line and the headers with which a request is passed on to the keeper (the parent process)."""
    target = request.raw_path.encode("utf-8", "surrogateescape")
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), target), *_headers(request)]
    return b"\r\n".join([*lines, b"connection: close", b"", b""])


def _headers(request: web.Request) -> Iterator[bytes]:
    for name, value in request.raw_headers:
        if name.lower() not in _OF_CONNECTION:
            yield name + b": " + value
    if _is_chunked(request):
        yield b"transfer-encoding: chunked"


def _is_chunked(request: web.Request) -> bool:
    return "transfer-encoding" in request.headers


async def _send_body(request: web.Request, writer: asyncio.StreamWriter) -> bool:
    """Send the body of a request as it comes, until it ends or the other side of `writer` reads no more.

    Return False if the body is not valid HTTP. The connection to the keeper (the parent process) is then closed.
    """
    form = b"%x\r\n%b\r\n" if _is_chunked(request) else b""
    with suppress(OSError):
        try:
            while data := await request.content.readany():
                writer.write(form % (len(data), data) if form else data)
                await writer.drain()
        except web.RequestPayloadError:
            writer.transport.abort()
            return False
        if form:
            writer.write(b"0\r\n\r\n")
    return True
