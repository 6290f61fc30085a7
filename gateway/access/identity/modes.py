"""The listeners of the process, and the mode by which each listener identifies its callers.

The listener of a connection is found by the address at which the gateway accepted the connection. A listener's mode is
set only by the configuration. For example, the mode does not change if tailscaled is not running.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

from gateway.access.identity.caller import Caller, Identify, Identity, unknown
from gateway.access.identity.endpoints import endpoints
from gateway.access.identity.localapi import LocalApiFailed
from gateway.access.identity.lookups import Lookups
from gateway.access.identity.loopback import Loopback
from gateway.access.identity.origin import Origin
from gateway.access.identity.proxy_protocol import Handover, Proxied, ProxyRefusals, Room, Sources
from gateway.access.identity.serve_headers import ServeHeaders
from gateway.access.identity.static import Static
from gateway.access.identity.whois import Whois, connecting
from gateway.config.server import TAILSCALED, Listener, Mode
from gateway.contract.errors import Refused
from gateway.telemetry.log import Logger

ID_BYTES: Final = 16
"""Number of random bytes in the id of a connection."""


class Modes:
    """The modes of all listeners of a process. Listeners with the same tailscaled share one `Lookups`."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._lookups = {TAILSCALED: Lookups(TAILSCALED)}
        """The client of each tailscaled, by the path of its socket.

        The default socket is always included, because its tailscaled may forward connections to any listener."""
        self._sources = Sources()
        self._ids: WeakKeyDictionary[object, str] = WeakKeyDictionary()
        """The id of each connection that is passed on to another process (`Origin.id`)."""
        self._proxy_refusals = ProxyRefusals(log)
        self._by_endpoint: dict[str, tuple[Listener, Identify]] = {}
        self._call_listeners: list[Listener] = []
        self._modes: Mapping[Mode, Callable[[Listener], Identify]] = {
            "loopback": lambda _listener: Loopback(self._lookups.values),
            "static": self._static,
            "whois": self._whois,
            "serve-headers": self._serve_headers,
            "proxy-protocol": self._proxy_protocol,
        }

    def listen(self, endpoint: str, listener: Listener, *, calls: bool = True) -> None:
        """Add a listener. `endpoint` is the name of its socket, such as `127.0.0.1:8080`.

        `calls` is false for a listener that serves other requests only, such as metrics.
        """
        self._at_socket(listener.tailscaled)
        if calls:
            self._call_listeners.append(listener)
        self._by_endpoint[endpoint] = (listener, self._modes[listener.identity](listener))

    def listener(self, local: object) -> Listener | None:
        """Return the listener of a connection, or None if there is none.

        `local` is the address of the gateway's end of the connection.
        """
        match self._at(local):
            case (listener, _):
                return listener
            case _:
                return None

    def is_served(self, local: object) -> bool:
        """Return whether the listener at the address `local` gets its requests from `tailscale serve`."""
        listener = self.listener(local)
        return listener is not None and listener.identity == "serve-headers"

    def identify(self, caller: Caller) -> Awaitable[Identity]:
        """Return a caller's identity. Raises `Refused` if the listener's mode cannot identify the caller."""
        match self._at(caller.local):
            case (_, mode):
                return mode(caller)
            case _:
                raise unknown("the caller is not known")

    def protocol(
        self, listener: Listener, server: Callable[[], asyncio.BaseProtocol], room: Room | None = None
    ) -> Callable[[], asyncio.BaseProtocol]:
        """Return a factory of asyncio protocols for new connections of a listener.

        Usually this is `server`, the factory of the HTTP protocol. In the mode `proxy-protocol`, the result is a
        factory of `Handover` objects, which first read the PROXY header and then use `server`. `room` limits the number
        of connections. A connection counts there until its PROXY header is read.
        """
        if listener.identity != "proxy-protocol":
            return server
        return lambda: Handover(server, self._sources, listener.proxies, self._proxy_refusals, room)

    def client(self, transport: asyncio.BaseTransport) -> Any:
        """Return the client's address, for the limit on connections per address. Return "" if this limit does not
        apply.

        In mode `proxy-protocol`, the address is from the PROXY header. The limit does not apply in mode
        `serve-headers`, because all connections come from `tailscale serve`.
        """
        return "" if self.is_served(transport.get_extra_info("sockname")) else self._sources.peer(transport)

    def origin(self, transport: asyncio.BaseTransport) -> Origin:
        """Return the addresses of both ends of a client's connection. With them, another process can identify the
        caller.
        """
        connection = transport.get_extra_info("connection", transport)
        has_source, source = self._sources.known(connection)
        return Origin(
            id=self._ids.setdefault(connection, secrets.token_hex(ID_BYTES)),
            peer=transport.get_extra_info("peername"),
            local=transport.get_extra_info("sockname"),
            has_source=has_source,
            source=source,
            secure=transport.get_extra_info("sslcontext") is not None,
        )

    def forwarded(self, connection: object, origin: Origin) -> None:
        """Store the client's address from the PROXY header, for a connection that another process has passed on.

        `origin` has this address. `connection` is the object that represents the connection in this process. It must
        report the same two end addresses as `origin`.
        """
        if origin.has_source:
            self._sources.note(connection, origin.source)

    async def machines(self) -> list[Identity]:
        """Return this machine's own identities, without duplicates: one for each listener in mode `whois`.

        A listener that cannot identify this machine is left out, for example if its tailscaled does not reply.
        """
        identities: list[Identity] = []
        for _, mode in self._by_endpoint.values():
            if isinstance(mode, Whois):
                with suppress(LocalApiFailed, Refused):
                    identities += filter(None, [await mode.machine()])
        return list(dict.fromkeys(identities))

    async def faults(self) -> tuple[str, bool]:
        """Return why a listener cannot identify callers at the moment, and whether this is so for all listeners.

        The reason is "" if all listeners can identify callers. Listeners that serve no calls are ignored.
        """
        reasons = await asyncio.gather(*map(self._fault, self._call_listeners))
        return next(filter(None, reasons), ""), all(reasons)

    async def _fault(self, listener: Listener) -> str:
        match listener.identity:
            case "whois" | "proxy-protocol":
                return await self._at_socket(listener.tailscaled).fault(is_needed=True)
            case "loopback":
                reasons = await asyncio.gather(*(each.fault(is_needed=False) for each in self._lookups.values()))
                return next(filter(None, reasons), "")
            case _:
                return ""

    async def close(self) -> None:
        for lookups in self._lookups.values():
            await lookups.close()

    def _at(self, local: object) -> tuple[Listener, Identify] | None:
        for endpoint in endpoints(local):
            if (entry := self._by_endpoint.get(endpoint)) is not None:
                return entry
        return None

    def _static(self, listener: Listener) -> Identify:
        return Static(Identity(listener.login, listener.groups, listener.tags))

    def _serve_headers(self, _listener: Listener) -> Identify:
        return ServeHeaders(self._log)

    def _whois(self, listener: Listener) -> Whois:
        lookups = self._at_socket(listener.tailscaled)
        return Whois(lookups, self._log, service=listener.service, peer=connecting)

    def _proxy_protocol(self, listener: Listener) -> Identify:
        lookups = self._at_socket(listener.tailscaled)
        whois = Whois(lookups, self._log, service=listener.service, peer=self._sources.of)
        return Proxied(whois, self._lookups.values)

    def _at_socket(self, tailscaled: str) -> Lookups:
        return self._lookups.setdefault(tailscaled, Lookups(tailscaled))
