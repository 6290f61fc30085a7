"""Requests that workers pass on to their parent process (the keeper): its private socket, and the connections on it.

- The socket is a file of mode 0600 in the state folder. Only processes of the same user are answered.
- A worker opens a connection to the keeper for each request. First it sends a description of the client's connection:
  the two addresses, and whether the connection uses TLS (`Origin`). The description is JSON, after its length in four
  bytes. The client's request follows.
- HTTP code in the keeper sees these addresses as the addresses of the connection. So the same code as without workers
  identifies callers and refuses cross-site requests, and no header of a client can change who the caller is.
- The identity of a caller is cached by the id of the client's connection. So tailscaled is asked once for each client's
  connection, not once for each request.

`pages.py` is the workers' side.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from gateway.access.identity.modes import Modes
from gateway.access.identity.origin import Origin
from gateway.process.handover.giving import open_private
from gateway.process.handover.wire import peer_process
from gateway.process.sockets import file_id
from gateway.telemetry.log import Logger

FILE: Final = "pages.sock"
"""The name of the socket in the state folder on which the keeper (the parent process) answers its workers' requests."""
MAX_BYTES: Final = 4096
"""Maximum size in bytes of the description of a client's connection. The path of a unix socket is its longest part."""
OPENING_SECONDS: Final = 5.0
"""Maximum number of seconds from the opening of a worker's connection to the description of the client's connection. A
worker sends the description at once.
"""
REMEMBERED: Final = 4096
"""Maximum number of clients' connections that are remembered. If a connection was forgotten, tailscaled is asked again
who the caller is.
"""
BACKLOG: Final = 1024
"""Maximum number of requests that wait in the queue of the private socket."""
_LENGTH: Final = struct.Struct(">I")
_DECODER: Final = msgspec.json.Decoder(Origin)

Factory = Callable[[], asyncio.BaseProtocol]


def encoded(origin: Origin) -> bytes:
    """Return the first bytes that a worker sends to the keeper (its parent process) on a connection.

    They describe the client's connection.
    """
    data = msgspec.json.encode(origin)
    return _LENGTH.pack(len(data)) + data


class _Client:
    """A client's connection. It is the key under which the identity of the caller is cached."""


class _Clients:
    """Remembers at most `REMEMBERED` connections of clients. The least recently used connection is forgotten first."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, _Client] = OrderedDict()

    def of(self, origin: Origin) -> _Client:
        client = self._by_id[origin.id] = self._by_id.get(origin.id) or _Client()
        self._by_id.move_to_end(origin.id)
        if len(self._by_id) > REMEMBERED:
            self._by_id.popitem(last=False)
        return client


class PrivateListener:
    """Accepts the connections of workers.

    A worker first sends a description of its client's connection, and then an HTTP request. `http` makes the asyncio
    protocol that reads the request.
    """

    def __init__(self, state: Path, modes: Modes, http: Factory, log: Logger) -> None:
        self._state = state
        self._modes = modes
        self._http = http
        self._log = log
        self._clients = _Clients()
        self._listening: socket.socket | None = None
        self._file: tuple[int, int] = (0, 0)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Accept connections. Raises `OSError` if the socket cannot be opened."""
        self._listening, self._file = open_private(self._state, FILE)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: _Opening(self._modes, self._clients, self._http, self._log), sock=self._listening, backlog=BACKLOG
        )

    def close(self) -> None:
        """Accept no more connections. Remove the socket's file, unless another process has replaced the file."""
        if self._server is not None:
            self._server.close()
        with suppress(OSError):
            if file_id(self._state / FILE) == self._file:
                (self._state / FILE).unlink()


class _Opening(asyncio.Protocol):
    """Reads the description of a client's connection, and then lets the HTTP protocol read the rest."""

    def __init__(self, modes: Modes, clients: _Clients, http: Factory, log: Logger) -> None:
        self._modes = modes
        self._clients = clients
        self._http = http
        self._log = log
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        try:
            peer_process(transport.get_extra_info("socket"))
        except PermissionError as error:
            self._refuse(str(error))
        else:
            self._deadline = asyncio.get_running_loop().call_later(OPENING_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._data += data
        if len(self._data) < _LENGTH.size:
            return
        (length,) = _LENGTH.unpack_from(self._data)
        end = _LENGTH.size + length
        if length > MAX_BYTES:
            self._refuse("the beginning of the connection is too long")
        elif len(self._data) >= end:
            self._hand_over(transport, self._data[_LENGTH.size : end], self._data[end:])

    def connection_lost(self, exc: Exception | None) -> None:
        _ = exc
        self._stop_timer()

    def _hand_over(self, transport: asyncio.Transport, beginning: bytes, rest: bytes) -> None:
        try:
            origin = _DECODER.decode(beginning)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._refuse("the beginning of the connection cannot be read")
            return
        self._stop_timer()
        client = self._clients.of(origin)
        connection = _ForwardedTransport(transport, origin, client)
        for key in (client, connection):
            self._modes.forwarded(key, origin)
        protocol = cast("asyncio.Protocol", self._http())
        transport.set_protocol(protocol)
        protocol.connection_made(connection)
        if rest:
            protocol.data_received(rest)

    def _refuse(self, reason: str) -> None:
        self._log.warning("pages.connection_refused", reason=reason)
        if self._transport is not None:
            self._transport.abort()

    def _stop_timer(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _ForwardedTransport(asyncio.Transport):
    """A worker's connection, with the addresses of the client's connection in place of its own addresses."""

    def __init__(self, raw: asyncio.Transport, origin: Origin, client: _Client) -> None:
        ends: dict[str, Any] = {"peername": origin.peer, "sockname": origin.local, "connection": client}
        super().__init__(ends | ({"sslcontext": True} if origin.secure else {}))
        self._raw = raw

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._raw.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._raw.get_protocol()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def close(self) -> None:
        self._raw.close()

    def abort(self) -> None:
        self._raw.abort()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._raw.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._raw.writelines(list_of_data)

    def can_write_eof(self) -> bool:
        return self._raw.can_write_eof()

    def write_eof(self) -> None:
        self._raw.write_eof()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._raw.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)
