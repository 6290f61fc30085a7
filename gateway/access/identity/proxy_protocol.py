"""Connections that a trusted proxy forwards with a PROXY header, such as `tailscale serve --tcp --proxy-protocol`.

- `Handover` reads the PROXY header. Then it passes the connection to the protocol that handles HTTP.
- The header has the caller's address. The gateway asks tailscaled for the identity behind this address, as in mode
  `whois`.
- A peer can write any address into the header. So only the proxies in the listener's configuration may connect. If no
  proxy is configured, every process of this machine may connect, and `config/advice.py` warns about this.
- If tailscaled has no network device, connections from nodes of the tailnet come from 127.0.0.1, like those of a proxy
  on this machine. So a node could send a forged PROXY header. To detect this, the gateway asks tailscaled whether a
  node has opened the connection. If so, the connection is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Final, Protocol, cast
from weakref import WeakKeyDictionary, WeakSet

from gateway.access.identity.addresses import bare
from gateway.access.identity.caller import Caller, Identity, unknown
from gateway.access.identity.localapi import LocalApiFailed
from gateway.access.identity.lookups import Lookups
from gateway.access.identity.proxy_header import BadProxyHeader, read
from gateway.access.identity.whois import RETRY_SECONDS, Whois
from gateway.contract.errors import UNAVAILABLE, Problem, Refused
from gateway.telemetry.log import Logger
from gateway.telemetry.throttle import Throttle

HEADER_SECONDS: Final = 5.0
"""Maximum seconds to wait for a PROXY header. A proxy can send the header at once."""

Source = tuple[str, int] | None


class Sources:
    """The callers' addresses from PROXY headers, by connection. An entry is kept while the connection is open."""

    def __init__(self) -> None:
        self._sources: WeakKeyDictionary[object, Source] = WeakKeyDictionary()

    def note(self, connection: object, source: Source) -> None:
        self._sources[connection] = source

    def known(self, connection: object) -> tuple[bool, Source]:
        """Return whether the connection began with a PROXY header, and the address in the header."""
        return connection in self._sources, self._sources.get(connection)

    def peer(self, connection: Any) -> Any:
        """Return the client's address from the PROXY header, or "" if the header has no address.

        If the connection did not begin with a PROXY header, return the address of its other end (`getpeername`).
        """
        if connection in self._sources:
            return self._sources[connection] or ""
        return connection.get_extra_info("peername")

    def of(self, caller: Caller) -> Source:
        """Return the caller's address from the PROXY header.

        Raises `Refused` if the connection did not begin with a PROXY header, or if this header has no address.
        """
        source = self._sources.get(caller.connection)
        if source is None:
            raise unknown("the proxy does not say whose connection this is")
        return source


class Proxied:
    """The mode `proxy-protocol`: tailscaled identifies the caller by the address in the PROXY header."""

    def __init__(self, whois: Whois, daemons: Callable[[], Iterable[Lookups]]) -> None:
        self._whois = whois
        self._daemons = daemons
        self._proxies: WeakSet[object] = WeakSet()
        """The connections that were checked: they come from a proxy, and not from a node of the tailnet."""

    def __call__(self, caller: Caller) -> Awaitable[Identity]:
        return self._whois(caller) if caller.connection in self._proxies else self._checked(caller)

    async def _checked(self, caller: Caller) -> Identity:
        """Return the identity of a caller on a new connection. Raises `Refused` if a node may have sent the PROXY
        header.
        """
        await self._refuse_nodes(caller)
        self._proxies.add(caller.connection)
        return await self._whois(caller)

    async def _refuse_nodes(self, caller: Caller) -> None:
        """Raise `Refused` if the PROXY header may come from a node of the tailnet, and not from a proxy.

        Also raise `Refused` if a tailscaled does not reply.
        """
        if not isinstance(caller.peer, tuple) or not (host := bare(caller.peer[0])).is_loopback:
            return
        try:
            forwarded = [
                daemon
                for daemon in tuple(self._daemons())
                if await daemon.is_userspace() and await daemon.whois(str(host), caller.peer[1]) is not None
            ]
        except LocalApiFailed:
            message = "whether this connection comes from a proxy cannot be found out at the moment; try again"
            raise Refused(Problem(UNAVAILABLE, message, retry_after=RETRY_SECONDS, retryable=True)) from None
        if forwarded:
            raise unknown(
                "a node of the tailnet sent a PROXY header, and only a proxy may send one; call the address that "
                'tailscale serve listens on, or set "identity": "whois" for this listener'
            )


class ProxyRefusals:
    """A logger of refused connections, with a limit on the number of log lines."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._throttle = Throttle()

    def note(self, peer: Any, reason: str) -> None:
        if count := self._throttle.due(reason):
            self._log.warning("identity.proxy_refused", peer=str(peer), reason=reason, count=count)


class Room(Protocol):
    """The limit on connections. A connection that waits for its PROXY header counts too."""

    def admit(self, connection: Handover, peer: object) -> bool: ...

    def remove(self, connection: Handover) -> None: ...


class Handover(asyncio.Protocol):
    """An asyncio protocol that reads the PROXY header, and then hands the connection over to another protocol."""

    awaits_head = has_no_head = True
    """True: no request is in progress on the connection before its PROXY header has come. So the limit on connections
    (`Room`) may close this connection when a new one needs its place.
    """

    def __init__(
        self,
        following: Callable[[], asyncio.BaseProtocol],
        sources: Sources,
        proxies: Collection[str],
        refusals: ProxyRefusals,
        room: Room | None = None,
    ) -> None:
        self._following = following
        self._room = room
        self._sources = sources
        self._proxies = proxies
        self._refusals = refusals
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not trusted(transport.get_extra_info("peername"), self._proxies):
            self._refuse("the connection comes from no proxy of this listener")
            return
        if self._room is not None and not self._room.admit(self, ""):
            self.abort()
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
        self._leave()
        self._sources.note(transport, header.source)
        protocol = cast("asyncio.Protocol", self._following())
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if rest := self._data[header.length :]:
            protocol.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        _ = exc
        self._leave()

    def abort(self) -> None:
        """Close the connection at once."""
        self._leave()
        if self._transport is not None:
            self._transport.abort()

    force_close = abort

    def _refuse(self, reason: str) -> None:
        if self._transport is not None:
            self._refusals.note(self._transport.get_extra_info("peername"), reason)
        self.abort()

    def _leave(self) -> None:
        """Cancel the deadline for the header. The connection no longer counts in the limit on connections (`Room`)."""
        if self._room is not None:
            self._room.remove(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def trusted(peer: Any, proxies: Collection[str]) -> bool:
    """Return whether `peer` is a trusted proxy: one of `proxies`, or this machine if `proxies` is empty.

    On a unix socket, every peer is trusted. The permissions of the socket's file decide who may connect.
    """
    if not isinstance(peer, tuple):
        return True
    address = bare(peer[0])
    return str(address) in proxies if proxies else address.is_loopback
