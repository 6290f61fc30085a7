"""The section `server.listeners`: where the gateway listens, and how it identifies callers there.

The syntax of addresses is in `listen.py`, and certificates are read in `tls.py`. Nothing here opens a socket.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from gateway.config.document.hujson import Path
from gateway.config.fields import Addresses, Name, Names, Service, SocketPath
from gateway.config.reading import Reading
from gateway.config.section import Holds, Section
from gateway.config.sections.listen import Address, needs_mode, parse_listen
from gateway.config.sections.tls import TlsSection, read_tls
from gateway.config.server import TAILSCALED, Listener, Mode, Server


class ListenerSection(Section):
    """An address on which the gateway listens.

    `identity` is "loopback" by default on a loopback address. On any other address or a unix socket, it is required.
    """

    listen: str = Field(
        description='The address or socket: "127.0.0.1:8080", "[::1]:8080" or "unix:/run/irisgate/http.sock".',
        examples=['"listen": "127.0.0.1:8080"'],
    )
    identity: Mode | None = Field(
        None,
        description='How callers are identified: by tailscaled ("whois"), by the headers of tailscale serve on a unix '
        'socket ("serve-headers"), by tailscaled from the address in a PROXY header ("proxy-protocol"), as one '
        'configured caller ("static"), or as this machine ("loopback").',
    )
    login: Name | None = Field(None, description='The login of every caller in the mode "static": "ci@example.com".')
    groups: Names = Field((), description='The groups of every caller in the mode "static": ["eng"].')
    tags: Names = Field(
        (), description='The tags of every caller in the mode "static", if the caller is a machine: ["tag:ci"].'
    )
    tailscaled: SocketPath | None = Field(
        None, description='The socket of the tailscaled that identifies callers: "/var/run/tailscale/tailscaled.sock".'
    )
    service: Service | None = Field(
        None,
        description="The Tailscale Service under which clients call the "
        'listener, and whose grants then apply: "svc:ai".',
    )
    proxies: Addresses = Field((), description='Addresses that may speak by the PROXY protocol: ["10.0.0.7"].')
    tls: Annotated[dict[str, Any] | None, Holds(TlsSection)] = Field(
        None, description='Certificate and key of an address: {"certificate": "c.pem", "key": "k.pem"}.'
    )

    @model_validator(mode="after")
    def _agrees(self) -> ListenerSection:
        address = parse_listen(self.listen)
        mode = self.identity or ("loopback" if address.loopback else None)
        if mode is None or (mode == "loopback" and not address.loopback and not address.unix):
            raise ValueError(needs_mode(self.listen))
        fault = self._misplaced(mode) or self._unusable(mode, address)
        if fault:
            raise ValueError(fault)
        return self

    def _misplaced(self, mode: Mode) -> str | None:
        """Return a message about keys that belong to other modes, or None if there are no such keys."""
        if mode != "static" and (self.login or self.groups or self.tags):
            who = "the login is (loopback) without" if mode == "loopback" else f'"{mode}" finds out who is calling'
            return f'"login", "groups" and "tags" need "identity": "static"; {who}'
        if mode not in {"whois", "proxy-protocol"} and (self.tailscaled or self.service):
            return '"tailscaled" and "service" need "identity": "whois" or "proxy-protocol"; leave them out otherwise'
        if mode != "proxy-protocol" and self.proxies:
            return '"proxies" needs "identity": "proxy-protocol"; leave it out otherwise'
        return None

    def _unusable(self, mode: Mode, address: Address) -> str | None:
        """Return the reason why the mode cannot work, or cannot be trusted, at this address. Return None if there is no
        reason.
        """
        if mode == "static" and not self.login and not self.tags:
            return '"identity": "static" needs a "login" (or "tags"), the caller that everyone there is'
        if any(not tag.startswith("tag:") for tag in self.tags):
            return 'each of "tags" starts with "tag:", as in "tag:ci"'
        if mode == "serve-headers" and not address.unix:
            return (
                '"identity": "serve-headers" works on a unix socket only, since anyone could send the headers to an '
                'address; listen on "unix:/run/irisgate/http.sock" and point tailscale serve at it'
            )
        if mode == "whois" and address.unix:
            return (
                '"identity": "whois" needs the address of the peer, and a unix socket has none; write '
                '"serve-headers" behind tailscale serve, or listen on an address'
            )
        if self.tls is not None and address.unix:
            return '"tls" is for addresses; on a unix socket nothing leaves this machine, so leave it out'
        if self.tls is not None and mode == "proxy-protocol":
            return (
                '"tls" does not go with "identity": "proxy-protocol"; let the proxy end TLS (tailscale serve '
                '--tls-terminated-tcp), or listen with "whois"'
            )
        if mode == "proxy-protocol" and not (address.unix or address.loopback or self.proxies):
            return (
                '"identity": "proxy-protocol" believes whoever connects; name the proxies\' addresses, such as '
                '"proxies": ["10.0.0.7"], or listen on 127.0.0.1 or a unix socket'
            )
        return None


def read_listeners(raw: list[Any], path: Path, reading: Reading) -> tuple[Listener, ...]:
    listeners: dict[str, Listener] = {}
    for index, item in enumerate(raw):
        section = reading.section(ListenerSection, item, (*path, index))
        if section is None:
            continue
        if section.listen in listeners:
            reading.report.error((*path, index), f'"{section.listen}" is listened on twice; keep one of them')
        listeners[section.listen] = Listener(
            section.listen,
            *parse_listen(section.listen),
            identity=section.identity or "loopback",
            login=section.login or ",".join(sorted(section.tags)),
            groups=section.groups,
            tags=section.tags,
            tailscaled=section.tailscaled or TAILSCALED,
            service=section.service or "",
            proxies=frozenset(section.proxies),
            tls=None if section.tls is None else read_tls(section.tls, (*path, index, "tls"), reading),
        )
    return tuple(listeners.values()) or Server().listeners
