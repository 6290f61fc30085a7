"""The connections of clients: how many there may be, how long a request's head may take, and malformed requests.

- aiohttp accepts connections without a limit, and waits for a head without a deadline. So `Connection` extends
  aiohttp's protocol object. This file alone uses members of aiohttp that are not part of its public API:
  `_waiter`, `_messages`, `_force_close`, `_current_request` and `_task_handler` of `RequestHandler`, `_kwargs` of
  `Server`, and `_make_server` of `AppRunner`.
- If there are too many connections, the connection that has been idle for longest is closed for the new one. A
  connection with a call in flight is never closed for another one.
- The limits are read from the current configuration, so a reload changes them.

Bodies are read in `call/server.py`. `call/guard.py` identifies callers, and refuses requests because of
their headers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from gateway.call.context import CALL
from gateway.call.guard import json_error, new_id
from gateway.config.model import Limits
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.throttle import Throttle

RESERVED_DESCRIPTORS: Final = 200
"""Descriptors that connections of clients never use: for the store, the journal, the log, bodies and tailscaled."""
MAX_CONNECTIONS: Final = 20_000
"""Maximum number of connections without a configured limit. An idle connection takes about 20 KB of memory."""
UNREAD_SECONDS: Final = 120.0
"""Maximum number of seconds for which a client does not read a reply. The connection is then closed.

A client that reads 64 KB in this time keeps its connection.
"""
CLOSE_SECONDS: Final = 5.0
"""Seconds after which a closed connection is given up, although not all bytes of its reply are sent."""
_LATE: Final = b'{"error":"the head of the request came too slowly"}'
_LATE_HEAD: Final = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
)


class Connections:
    """All connections of clients to one process."""

    def __init__(self, limits: Callable[[], Limits], metrics: Metrics, log: Logger) -> None:
        self.limits = limits
        self._log = log
        self._metrics = metrics
        self._open: dict[Connection, str] = {}
        """The open connections, each with the address of the client; "" for a unix socket and for this machine."""
        self._by_peer: dict[str, dict[Connection, None]] = {}
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        """Connections without a request, in the order in which they became idle."""
        self._refusals = Throttle()
        self._http_errors = Throttle()
        metrics.connections(lambda: len(self._open))

    def admit(self, connection: Connection, peer: Any) -> bool:
        """Return whether a new connection may stay. If necessary, close the connection that is idle for longest."""
        host = _remote_host(peer)
        limits = self.limits()
        same = self._by_peer.get(host, {})
        if host and len(same) >= limits.connections_per_peer and not self._close_one(same):
            return self._refuse("connections_per_peer", host)
        if len(self._open) >= most_connections(limits) and not self._close_one(self._idle):
            return self._refuse("connections", host)
        self._open[connection] = host
        self._by_peer.setdefault(host, {})[connection] = None
        self._idle[connection] = None
        return True

    def remove(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        host = self._open.pop(connection, None)
        if host is not None:
            same = self._by_peer[host]
            del same[connection]
            if not same:
                del self._by_peer[host]

    def busy(self, connection: Connection) -> None:
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        if connection in self._open:
            self._idle[connection] = None
            self._idle.move_to_end(connection)

    def late(self, connection: Connection) -> None:
        """Count a connection that is closed because the head of a request did not come in time."""
        self._refuse("head_seconds", self._open.get(connection, ""))

    def malformed(self, kind: str, request_id: str, failure: BaseException | None) -> None:
        """Log a request that cannot be answered. `failure` is the exception if the gateway itself failed."""
        if count := self._http_errors.due(kind):
            trace = {"exc_info": failure} if failure else {}
            self._log.warning("http.error", kind=kind, request_id=request_id, count=count, **trace)

    def _close_one(self, among: dict[Connection, None] | OrderedDict[Connection, None]) -> bool:
        """Close the first idle connection of `among`. Return False if none is idle."""
        connection = next((one for one in among if one.awaits_head), None)
        if connection is None:
            return False
        self.remove(connection)
        connection.abort()
        return True

    def _refuse(self, limit: str, peer: str) -> bool:
        self._metrics.connection_refused(limit)
        if count := self._refusals.due(limit):
            self._log.warning("connections.refused", limit=limit, peer=peer, count=count)
        return False


class Connection(web.RequestHandler):
    """One connection of a client."""

    __slots__ = ("_connections", "_head_timer", "_is_last", "_is_refused", "_raw", "_unread_timer")

    def __init__(self, connections: Connections, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, keepalive_timeout=connections.limits().idle_seconds, **options)
        self._connections = connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._is_refused = False
        self._is_last = False
        """Whether the connection is to be closed after the reply to the current request."""
        self._raw: asyncio.Transport | None = None
        """The transport, which aiohttp forgets when it closes the connection."""

    @property
    def awaits_head(self) -> bool:
        """True if aiohttp waits for the head of a request: nothing of the last request is left to read or to send."""
        return self._waiter is not None and not self._waiter.done()

    def close(self) -> None:
        """Accept no further request. If the head of a request was read, read its body and send the reply first.

        aiohttp ignores all bytes that come after a close, so the close is delayed.
        """
        if self._current_request is None and not self._messages:
            super().close()
        else:
            self._is_last = True

    def abort(self) -> None:
        """Close the connection at once, and give up what is not sent yet."""
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
            self._unread_timer = asyncio.get_running_loop().call_later(UNREAD_SECONDS, self._raw.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._force_close:
            self._stop_unread_timer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        if self._connections.admit(self, transport.get_extra_info("peername")):
            super().connection_made(transport)
        else:
            self._is_refused = True
            self._raw.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_head_timer()
        self._connections.remove(self)
        if not self._is_refused:
            if self._goes_on():
                self._task_handler = None  # aiohttp cancels the task that it finds here
            super().connection_lost(exc)
        self._stop_unread_timer()
        self._raw = None

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        if not self.awaits_head:
            self._stop_head_timer()
            self._connections.busy(self)
        elif self._head_timer is None:
            seconds = self._connections.limits().head_seconds
            self._head_timer = asyncio.get_running_loop().call_later(seconds, self._head_is_late)

    async def finish_response(self, *arguments: Any) -> tuple[web.StreamResponse, bool]:
        try:
            return await super().finish_response(*arguments)
        finally:
            self._stop_head_timer()
            self._connections.idle(self)
            if self._is_last:
                super().close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the reply to a malformed request, which repeats nothing of the request. The connection is closed."""
        _ = message
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
        response = json_error(status, text)
        response.headers["x-request-id"] = request_id
        response.headers["server"] = "irisgate"
        response.force_close()
        return response

    def _goes_on(self) -> bool:
        """Return whether the call in flight, if any, goes on without its client (`call/middleware/read_on.py`)."""
        call = None if self._current_request is None else self._current_request.get(CALL)
        return call is not None and call.goes_on is not None and call.goes_on()

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.awaits_head and self.transport is not None:
            self._connections.late(self)
            self.transport.write(_LATE_HEAD % len(_LATE) + _LATE)
            self.force_close()

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class HttpServer(web.Server):
    """A server of aiohttp whose connections are limited."""

    def __init__(self, connections: Connections, server: web.Server) -> None:
        super().__init__(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            **server._kwargs,  # noqa: SLF001 (this object takes the place of `server`)
        )
        self._limited = connections

    def __call__(self) -> web.RequestHandler:
        return Connection(self._limited, self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """A runner of aiohttp whose server limits the connections."""

    def __init__(self, app: web.Application, connections: Connections, **options: Any) -> None:
        super().__init__(app, access_log=None, **options)
        self._connections = connections

    async def _make_server(self) -> web.Server:
        return HttpServer(self._connections, await super()._make_server())


def most_connections(limits: Limits) -> int:
    """Return the maximum number of connections.

    Without a configured limit, half of the process's descriptors are left for connections to providers.
    """
    usable = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_DESCRIPTORS)
    return min(limits.connections or min(usable // 2, MAX_CONNECTIONS), usable)


def raise_descriptor_limit() -> None:
    """Raise the process's soft limit of descriptors to the hard limit, which every process may do for itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _remote_host(peer: Any) -> str:
    """Return the host of a client on another machine; "" for this machine, where proxies and tailscaled run."""
    if not isinstance(peer, tuple):
        return ""
    host = str(peer[0]).partition("%")[0]
    return "" if ipaddress.ip_address(host).is_loopback else host
