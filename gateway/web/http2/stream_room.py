"""The limits of connections, as the protocol of a stream sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.web.connection_limits import Connections


class StreamRoom:
    """Takes the place of `Connections` for the protocols of streams, which are no connections of their own."""

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
        """Note that a protocol has finished a request."""
        self._served(connection)

    def late(self, connection: Any) -> None: ...
