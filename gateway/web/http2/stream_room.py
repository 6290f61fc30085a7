"""A `Room` that counts no connections, for the streams of HTTP/2.

An HTTP/1.1 protocol object tells its `Room` when its connection is open, busy or idle. The `Room` of a socket is a
`Connections` object, which counts the sockets. A stream has no socket of its own, so it must not be counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.web.connection_limits import Connections


class StreamRoom:
    """A `Room` for the HTTP/1.1 protocol objects that serve the streams of an HTTP/2 connection. Every stream is
    admitted, and none is counted as a connection.
    """

    def __init__(self, connections: Connections, served: Callable[[Any], None]) -> None:
        self.limits = connections.limits
        self.malformed = connections.malformed
        self._served = served

    def client(self, _transport: asyncio.BaseTransport) -> str:
        return ""

    def admit(self, _connection: Any, _peer: Any) -> bool:
        return True

    def remove(self, connection: Any) -> None: ...

    def busy(self, connection: Any) -> None: ...

    def idle(self, connection: Any) -> None:
        """Record that the protocol object `connection` has finished a request."""
        self._served(connection)

    def late(self, connection: Any) -> None: ...
