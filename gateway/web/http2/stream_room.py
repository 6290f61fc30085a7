"""A stand-in for `Connections`, so that the streams of HTTP/2 are not counted as connections.

Each stream has an HTTP/1.1 protocol object, which expects an object like `Connections`. Only the HTTP/2 connection
itself is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.web.connection_limits import Connections


class StreamRoom:
    """Takes the place of a `Connections` object for the protocol objects of streams. Every stream is admitted, and none
    is counted as a connection.
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
