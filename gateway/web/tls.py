"""TLS of clients' connections: the handshake, and then HTTP over the encrypted connection.

- asyncio's servers know a connection only after its handshake. Connections that never complete the handshake could use
  up the file descriptors. So this file uses the undocumented `asyncio.sslproto.SSLProtocol`, and counts a connection
  from its first moment on (`connection_limits.py`).
- A new connection uses the certificate of the current configuration. An open connection keeps its certificate.
- A client that speaks plain HTTP gets a reply that says to use `https://`.

`config/sections/tls.py` reads the certificates.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from math import ceil
from typing import Any, Final, cast

from gateway.call.guard import new_id
from gateway.web.connection_limits import Connections
from gateway.web.connections import Connection

CLOSE_SECONDS: Final = 5.0
"""Maximum number of seconds to wait for a client to confirm the end of TLS (close_notify)."""
BUFFER_BYTES: Final = 32 * 1024
"""Size of a connection's buffer for received bytes. asyncio's default is 256 KB."""
_HANDSHAKE: Final = 0x16
"""The first byte of a TLS connection: the type of a handshake record (RFC 8446, 5.1). Plain HTTP begins with another
byte."""
_PLAIN: Final = b'{"error":"the listener %s speaks TLS, and the request is plain HTTP; use https://"}'
_PLAIN_HEAD: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n"
    b"x-request-id: %s\r\nserver: irisgate\r\n\r\n"
)


class TlsConnection(SSLProtocol):
    """The TLS layer of one connection, between the socket and HTTP."""

    max_size = BUFFER_BYTES
    awaits_head = has_no_head = True
    """Always True. During the TLS handshake, no request is in progress, and no part of a head has arrived.

    So `Connections` may close this connection during the handshake, to make room for another one.
    """

    def __init__(self, connections: Connections, http: Connection, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = loop.create_future()
        self._done.add_done_callback(self._report)
        super().__init__(
            loop,
            http,
            context,
            self._done,
            server_side=True,
            ssl_handshake_timeout=ceil(connections.limits().head_seconds),
            ssl_shutdown_timeout=CLOSE_SECONDS,
        )
        self._connections = connections
        self._raw: asyncio.Transport | None = None
        self._peer: Any = None
        self._received = memoryview(b"")
        self._is_new = True
        """Whether no byte has been received."""
        self._is_plain = False
        """Whether the client speaks plain HTTP."""
        http.handshake = self.leave

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        self._peer = self._connections.client(transport)
        if self._connections.admit(self, self._peer):
            super().connection_made(transport)
        else:
            self._raw.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        self._received = super().get_buffer(sizehint)
        return self._received

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_new and nbytes and self._raw is not None:
            self._is_new = False
            if self._received[0] != _HANDSHAKE:
                self._is_plain = True
                body = _PLAIN % _address(self._raw)
                self._raw.write(_PLAIN_HEAD % (len(body), new_id().encode()) + body)
                self._raw.close()
        if not self._is_plain:
            super().buffer_updated(nbytes)

    def connection_lost(self, exc: BaseException | None) -> None:
        if isinstance(exc, ConnectionAbortedError):  # asyncio's error for a handshake that takes too long
            self._connections.late(self)
        self.leave()
        super().connection_lost(exc)
        self._raw = None

    def leave(self) -> None:
        """Stop counting this connection, because it has ended, or because the HTTP layer counts it from now on."""
        self._connections.remove(self)

    def abort(self) -> None:
        """Close the connection at once."""
        self.leave()
        if self._raw is not None:
            self._raw.abort()

    force_close = abort

    def _report(self, done: asyncio.Future[None]) -> None:
        """Log a failed handshake, unless the client has simply closed the connection."""
        failure = None if done.cancelled() else done.exception()
        if self._is_plain:
            self._connections.no_tls("the client speaks plain HTTP", self._peer)
        elif isinstance(failure, ssl.SSLError):
            self._connections.no_tls((failure.reason or "TLS failed").lower().replace("_", " "), self._peer)


def _address(transport: asyncio.Transport) -> bytes:
    """Return the address of the gateway's end of a connection, such as 127.0.0.1:8443."""
    host, port, *_ = transport.get_extra_info("sockname")
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()


def over_tls(
    http: Callable[[], asyncio.BaseProtocol], connections: Connections, context: Callable[[], ssl.SSLContext]
) -> Callable[[], asyncio.BaseProtocol]:
    """Return a function that makes the asyncio protocol of a new connection to a TLS listener.

    `http` makes the protocol that gets the decrypted bytes. `context` returns the TLS settings with the current
    certificate.
    """
    return lambda: TlsConnection(connections, cast("Connection", http()), context())
