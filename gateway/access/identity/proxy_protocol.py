"""Connections that a trusted proxy passes on, as `tailscale serve --tcp --proxy-protocol` does.

The PROXY header is read off the connection before HTTP sees a byte; then the connection is handed over, and the
caller's address is what the header said. Whoever may connect may claim any address, so only the proxies that the
listener names may: this machine is one of them if it is named too, or if nobody is, and then every process of it can
speak for anybody (`config/advice.py` says so). tailscaled is asked for the address as in `whois`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from gateway.access.identity.addresses import bare
from gateway.access.identity.caller import Caller, unknown
from gateway.access.identity.proxy_header import BadProxyHeader, read
from gateway.telemetry.log import Logger

HEADER_SECONDS: Final = 5.0
"""In which a proxy must have sent its header: it knows it before it connects."""

Source = tuple[str, int] | None


class Sources:
    """Where the connections that proxies pass on come from, for as long as each is open."""

    def __init__(self) -> None:
        self._sources: WeakKeyDictionary[object, Source] = WeakKeyDictionary()

    def note(self, connection: object, source: Source) -> None:
        self._sources[connection] = source

    def of(self, caller: Caller) -> Source:
        """Raises `Refused` where the proxy named nobody, as in its own health checks."""
        source = self._sources.get(caller.connection)
        if source is None:
            raise unknown("the proxy does not say whose connection this is")
        return source


class Handover(asyncio.Protocol):
    """Reads the header, then gives the connection to another protocol as if it had just begun."""

    def __init__(
        self, following: Callable[[], asyncio.BaseProtocol], sources: Sources, proxies: Collection[str], log: Logger
    ) -> None:
        self._following = following
        self._sources = sources
        self._proxies = proxies
        self._log = log
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not trusted(transport.get_extra_info("peername"), self._proxies):
            self._refuse("the connection comes from no proxy of this listener")
            return
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(HEADER_SECONDS, self._refuse, "no PROXY header came in time")

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._data += data
        try:
            header = read(self._data)
        except BadProxyHeader as error:
            self._refuse(str(error))
            return
        if header is None:
            return
        self._stop_waiting()
        self._sources.note(transport, header.source)
        protocol = cast("asyncio.Protocol", self._following())
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if rest := self._data[header.length :]:
            protocol.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        _ = exc
        self._stop_waiting()

    def _refuse(self, reason: str) -> None:
        self._stop_waiting()
        if self._transport is not None:
            peer = self._transport.get_extra_info("peername")
            self._log.warning("identity.proxy_refused", peer=str(peer), reason=reason)
            self._transport.abort()

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def trusted(peer: Any, proxies: Collection[str]) -> bool:
    """Whether the other end may speak for others: a proxy that is named, or where none is, this machine.

    Who may connect to a unix socket, its file says.
    """
    if not isinstance(peer, tuple):
        return True
    address = bare(peer[0])
    return str(address) in proxies if proxies else address.is_loopback
