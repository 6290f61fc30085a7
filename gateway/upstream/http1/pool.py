"""The open connections to providers, in use or idle."""

from __future__ import annotations

from typing import Final

from gateway.upstream.http1.connection import Connection
from gateway.upstream.http1.targets import Endpoint

IDLE_SECONDS: Final = 15.0
"""Number of seconds after which an idle connection is closed. Many servers close theirs after 20 seconds or more."""


class Pool:
    """Connections by endpoint. The most recently used connection is taken first, so that connections that are not
    needed stay idle and are closed.
    """

    def __init__(self) -> None:
        self._idle: dict[Endpoint, dict[Connection, None]] = {}
        self._open: set[Connection] = set()

    def add(self, connection: Connection) -> None:
        """Add a new connection, which is in use."""
        self._open.add(connection)

    def take(self, endpoint: Endpoint) -> Connection | None:
        """Return an idle connection to an endpoint, or None. The caller gives it back with `put`."""
        if not (idle := self._idle.get(endpoint)):
            return None
        connection, _ = idle.popitem()
        connection.alarm.stop()
        return connection

    def put(self, connection: Connection) -> None:
        """Keep a connection for the next request, after its exchange has ended."""
        if connection in self._open:
            self._idle.setdefault(connection.endpoint, {})[connection] = None
            connection.alarm.set(connection.loop.time() + IDLE_SECONDS, connection.abort)

    def forget(self, connection: Connection) -> None:
        """Remove a connection that has ended."""
        self._open.discard(connection)
        idle = self._idle.get(connection.endpoint)
        if idle is not None:
            idle.pop(connection, None)
            if not idle:
                del self._idle[connection.endpoint]

    def close(self) -> None:
        """Close all connections, including those in use."""
        for connection in tuple(self._open):
            connection.abort()
