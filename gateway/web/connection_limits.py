"""Limits on client connections: their total number, their number per address, and their idle time.

- If there are too many connections, the one that has been idle for longest is closed to make room for a new one. A
  connection with a call in flight is never closed for this reason.
- The limits are read from the current configuration. A reload changes them for open connections too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from collections import OrderedDict
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final, Protocol

from gateway.config.server import Limits
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.throttle import Throttle

RESERVED_DESCRIPTORS: Final = 200
"""Number of file descriptors that client connections must leave free, for the store, journal, log, bodies and
tailscaled."""
MAX_CONNECTIONS: Final = 20_000
"""Maximum number of connections if no limit is configured. An idle connection takes about 7 KB of memory."""
SWEEP_SECONDS: Final = 1.0
"""Maximum number of seconds between two searches for idle connections."""


def peer_of(transport: asyncio.BaseTransport) -> Any:
    return transport.get_extra_info("peername")


class Connection(Protocol):
    """A client's connection, as `Connections` sees it (`connections.py`, `tls.py` and `http2/connection.py` implement
    it).
    """

    @property
    def awaits_head(self) -> bool:
        """True if no request is in progress. A part of the next request's head may have arrived."""

    @property
    def has_no_head(self) -> bool:
        """True if no request is in progress, and no part of the next request's head has arrived."""

    def abort(self) -> None: ...

    def force_close(self) -> None: ...


class Room(Protocol):
    """The methods that a connection calls: to read its limits, and to report that it is open, busy, idle, late or
    closed. `Connections` implements them for sockets, and `http2/stream_room.py` for the streams of HTTP/2.
    """

    @property
    def limits(self) -> Callable[[], Limits]: ...

    @property
    def client(self) -> Callable[[asyncio.BaseTransport], Any]: ...

    def admit(self, connection: Any, peer: Any) -> bool: ...

    def remove(self, connection: Any) -> None: ...

    def busy(self, connection: Any) -> None: ...

    def idle(self, connection: Any) -> None: ...

    def late(self, connection: Any) -> None: ...

    def malformed(self, kind: str, request_id: str, failure: BaseException | None) -> None: ...


class Connections:
    """All connections of clients to one process."""

    def __init__(
        self,
        limits: Callable[[], Limits],
        metrics: Metrics,
        log: Logger,
        client: Callable[[asyncio.BaseTransport], Any] = peer_of,
        counted: Callable[[int], object] = lambda _count: None,
    ) -> None:
        self.limits = limits
        self._counted = counted
        """A function that is called with the number of open connections whenever this number changes."""
        self.client = client
        """A function that returns the address of a connection's client, or "" if the limit per address does not apply
        to it.
        """
        self._log = log
        self._metrics = metrics
        self._open: dict[Connection, str] = {}
        """The open connections, each with the address of the client. The address is "" for a unix socket and for this
        machine.
        """
        self._by_peer: dict[str, dict[Connection, None]] = {}
        self._idle: OrderedDict[Connection, float] = OrderedDict()
        """Idle connections, each with the time at which it became idle. The longest idle one is first."""
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._refusals = Throttle()
        self._http_errors = Throttle()
        metrics.connections(lambda: self.count)

    @property
    def count(self) -> int:
        """The number of open connections."""
        return len(self._open)

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
        self._idle[connection] = monotonic()
        self._counted(len(self._open))
        if self._sweep_timer is None:
            self._sweep()
        return True

    def remove(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        host = self._open.pop(connection, None)
        if host is not None:
            same = self._by_peer[host]
            del same[connection]
            if not same:
                del self._by_peer[host]
            self._counted(len(self._open))

    def busy(self, connection: Connection) -> None:
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        if connection in self._open:
            self._idle[connection] = monotonic()
            self._idle.move_to_end(connection)

    def late(self, connection: Connection) -> None:
        """Count a connection that is closed because a request's head or a TLS handshake did not come in time."""
        self._refuse("head_seconds", self._open.get(connection, ""))

    def exceeded(self, connection: Connection, limit: str) -> None:
        """Count a connection that is closed because its client has exceeded a limit of HTTP/2."""
        self._refuse(limit, self._open.get(connection, ""))

    def malformed(self, kind: str, request_id: str, failure: BaseException | None) -> None:
        """Log a malformed request. `failure` is the exception if the gateway itself failed, else None."""
        if count := self._http_errors.due(kind):
            trace = {"exc_info": failure} if failure else {}
            self._log.warning("http.error", kind=kind, request_id=request_id, count=count, **trace)

    def no_tls(self, reason: str, peer: Any) -> None:
        """Log a connection that ended because its TLS handshake failed."""
        if count := self._refusals.due(reason):
            self._log.warning("tls.failed", reason=reason, peer=_remote_host(peer), count=count)

    def _sweep(self) -> None:
        """Close the connections that have been idle for too long. Repeat this while there are connections.

        One timer serves all connections. The limits are read at each repetition, so a reload also applies to open
        connections.
        """
        now, seconds = monotonic(), self.limits().idle_seconds
        while self._idle and next(iter(self._idle.values())) < now - seconds:
            connection, _ = self._idle.popitem(last=False)
            if connection.has_no_head:
                connection.force_close()
            else:
                self._idle[connection] = now  # half a head, or the rest of a body, has a deadline of its own
        self._sweep_timer = None
        if self._open:
            self._sweep_timer = asyncio.get_running_loop().call_later(min(SWEEP_SECONDS, seconds), self._sweep)

    def _close_one(self, among: Mapping[Connection, object]) -> bool:
        """Close a connection to make room for another: the first one in `among` that has no request in progress. Return
        False if there is none.
        """
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


def most_connections(limits: Limits) -> int:
    """Return the maximum number of client connections to one process.

    If the configuration sets no limit, at least half of the file descriptors are left for connections to providers.
    """
    usable = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_DESCRIPTORS)
    return min(limits.connections or max(1, min(usable // 2, MAX_CONNECTIONS)), usable)


def raise_descriptor_limit() -> None:
    """Raise the process's soft limit of file descriptors to the hard limit. This needs no privilege."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _remote_host(peer: Any) -> str:
    """Return the client's IP address, without the zone of an IPv6 address. Return "" for a client on this machine,
    because it may be a proxy that connects for many callers.
    """
    if not isinstance(peer, tuple):
        return ""
    host = str(peer[0]).partition("%")[0]
    return "" if ipaddress.ip_address(host).is_loopback else host
