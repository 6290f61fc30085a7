"""The listeners' modes at work: by the end of a connection that is ours, who finds out who is calling.

The configuration alone decides the mode of a listener, never what happens to be running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from gateway.access.identity.caller import LOOPBACK, Caller, Identify, Identity, unknown
from gateway.access.identity.endpoints import endpoints
from gateway.access.identity.localapi import LocalApi
from gateway.access.identity.proxy_protocol import Handover, Sources
from gateway.access.identity.serve_headers import ServeHeaders
from gateway.access.identity.static import Static
from gateway.access.identity.whois import Whois, connecting
from gateway.config.model import Listener, Mode
from gateway.telemetry.log import Logger


class Modes:
    """All listeners of a process; one client for each tailscaled, however many of them ask it."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._apis: dict[str, LocalApi] = {}
        self._sources = Sources()
        self._by_endpoint: dict[str, tuple[Listener, Identify]] = {}
        self._modes: Mapping[Mode, Callable[[Listener], Identify]] = {
            "loopback": lambda _listener: Static(LOOPBACK),
            "static": self._static,
            "whois": self._whois,
            "serve-headers": self._serve_headers,
            "proxy-protocol": self._proxy_protocol,
        }

    def listen(self, endpoint: str, listener: Listener) -> None:
        """From now on, connections to this endpoint (`endpoints.py`) are the listener's."""
        self._by_endpoint[endpoint] = (listener, self._modes[listener.identity](listener))

    def listener(self, local: object) -> Listener | None:
        """The listener whose connections have this end."""
        found = self._at(local)
        return None if found is None else found[0]

    async def identify(self, caller: Caller) -> Identity:
        """Who that is. Raises `Refused`."""
        found = self._at(caller.local)
        if found is None:
            raise unknown("the caller is not known")
        return await found[1](caller)

    def protocol(
        self, listener: Listener, server: Callable[[], asyncio.BaseProtocol]
    ) -> Callable[[], asyncio.BaseProtocol]:
        """What makes the protocol of a new connection: HTTP's own, or what stands before it."""
        if listener.identity != "proxy-protocol":
            return server
        return lambda: Handover(server, self._sources, listener.proxies, self._log)

    async def close(self) -> None:
        for api in self._apis.values():
            await api.close()

    def _at(self, local: object) -> tuple[Listener, Identify] | None:
        for endpoint in endpoints(local):
            if (found := self._by_endpoint.get(endpoint)) is not None:
                return found
        return None

    def _static(self, listener: Listener) -> Identify:
        return Static(Identity(listener.login, listener.groups, listener.tags))

    def _serve_headers(self, _listener: Listener) -> Identify:
        return ServeHeaders(self._log)

    def _whois(self, listener: Listener) -> Identify:
        return Whois(self._api(listener), self._log, service=listener.service, peer=connecting)

    def _proxy_protocol(self, listener: Listener) -> Identify:
        return Whois(self._api(listener), self._log, service=listener.service, peer=self._sources.of)

    def _api(self, listener: Listener) -> LocalApi:
        return self._apis.setdefault(listener.tailscaled, LocalApi(listener.tailscaled))
