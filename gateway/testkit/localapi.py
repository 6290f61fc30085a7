"""A simulated tailscaled: the part of its LocalAPI that a gateway uses, on a unix socket of its own.

The simulator is as strict as the real tailscaled, so that a wrong client fails here too. It reports who a caller is and
which capabilities the tailnet policy grants. It does not decide what the caller may do.

Sources in tailscale/tailscale:

- `ipn/localapi/localapi.go`: the checks of a request, the texts of errors, the headers of a reply. The test of whois
  there shows that the parameter `svc_name` takes precedence over `dst_ip`.
- `ipn/ipnlocal`: the node to which an address belongs. `net/proxymap`: the addresses of this machine.
- `tailcfg`, `client/tailscale/apitype`: the types of replies.

The replies were compared with those of tailscaled 1.100.

A whois request names an address and a port. If the address belongs to no node, tailscaled looks for a forwarded
connection with this address and port. The connection may be registered late, so tailscaled waits 180 ms for it, once
for each transport protocol that the request allows. Meanwhile it holds a lock. So a request about an unknown address
delays other requests about unknown or forwarded addresses.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, Self

from aiohttp import web

from gateway.testkit.tailnet_nodes import CAPABILITY, ME, Caps, Node, indented

HOST: Final = "local-tailscaled.sock"
"""The only accepted value of the Host header, except an empty value.

A web page that reaches the socket by DNS rebinding sends another host, and is refused.
"""
VERSION: Final = "1.102.4-tsimulated"

LATE_SECONDS: Final = 0.18
"""Seconds for which whois waits for a forwarded connection that is registered late (net/proxymap). Whois waits once for
TCP and then once for UDP."""

_POLICY: Final = "; ".join(
    ["default-src 'none'", "frame-ancestors 'none'"]
    + [f"{directive} 'none'" for directive in ("script-src", "script-src-elem", "script-src-attr")]
)
_EVERY_REPLY: Final = {
    "Tailscale-Version": VERSION,
    "Tailscale-Cap": CAPABILITY,
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
}
_LONG_REPLY: Final = 2048
"""Length of a reply in bytes above which Go sends it in chunks, without a content length."""
_ROOT: Final = "<html><body>tailscaled</body></html>\n"
_NODE_KEY: Final = re.compile(r"nodekey:[0-9a-f]{64}")
_SERVICE: Final = re.compile(r"svc:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_LOOPBACK: Final = ipaddress.IPv4Address("127.0.0.1")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class _Wrong(Exception):
    """The exception for an error reply of tailscaled, with its status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class _Pair(NamedTuple):
    """The address and the port in the parameter `addr` of a whois request. The port is 0 if `addr` has no port."""

    address: Address
    port: int


class LocalApiSim:
    """A simulated tailscaled on a socket: `async with LocalApiSim(path) as sim: sim.add(Node(...))`."""

    def __init__(self, path: Path | str, me: Node = ME) -> None:
        self.path = Path(path)
        self.me = me
        self.asked: list[dict[str, str]] = []
        """The query parameters of every whois request whose headers and method were accepted."""
        self.delay = 0.0
        """Number of seconds before each reply."""
        self.answer: tuple[int, bytes] | None = None
        """A status and a JSON body to send instead of the real answer."""
        self.tun = False
        """True if tailscaled has a network device. Without a network device, it forwards connections from 127.0.0.1."""
        self.late_seconds = LATE_SECONDS
        """Seconds for which whois waits for a late registration if it does not know an address with a port."""
        self._table = asyncio.Lock()
        self.services: dict[str, str] = {}
        """The addresses of the Tailscale Services on this machine, by `svc:NAME`. The parameter `dst_ip` of a whois
        request may be such an address."""
        self._nodes: dict[Address, Node] = {}
        self._keys: dict[str, Node] = {}
        self._proxied: dict[int, Node] = {}
        self._runner: web.AppRunner | None = None
        self.add(me)

    def add(self, node: Node) -> None:
        """Add a machine, or replace the machine with the same stable id."""
        if (known := self._keys.get(node.key)) is not None:
            self.remove(known)
        self._keys[node.key] = node
        self._nodes |= {ipaddress.ip_address(address): node for address in node.addresses}

    def remove(self, node: Node) -> None:
        """Remove a machine. Its registered connections remain, but whois no longer finds a node for them."""
        del self._keys[node.key]
        self._nodes = {address: has for address, has in self._nodes.items() if has != node}

    def proxied(self, port: int, node: Node) -> None:
        """Register that connections from 127.0.0.1:`port` come from `node`.

        The real tailscaled does this for each connection that it forwards from the tailnet, if it has no network
        device.
        """
        self._proxied[port] = node

    def unproxied(self, port: int) -> None:
        self._proxied.pop(port, None)

    async def start(self) -> None:
        """Listen on the socket. The socket file of a dead process is removed first, as by the real tailscaled."""
        self.path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.path))
        self.path.chmod(0o666)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        # aiohttp does not remove the file of a socket that it was given; a killed tailscaled leaves its file too
        await web.SockSite(self._runner, listening).start()

    async def stop(self) -> None:
        """Stop as a killed process does: connections break, and the socket's file remains."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        self.path.unlink(missing_ok=True)

    async def _handle(self, request: web.Request) -> web.Response:
        headers = request.headers
        if headers.get("Host", "") not in {"", HOST} or headers.get("Origin") or headers.get("Referer"):
            return _error(403, "invalid localapi request", {})
        try:
            return await self._reply(request)
        except _Wrong as wrong:
            return _error(wrong.status, wrong.text, _EVERY_REPLY)

    async def _reply(self, request: web.Request) -> web.Response:
        """Return the reply. Raises `_Wrong` if tailscaled would answer with an error."""
        query = dict(request.query)
        if self.delay:
            await asyncio.sleep(self.delay)
        match request.path:
            case "/":
                return web.Response(text=_ROOT, content_type="text/html", headers=_EVERY_REPLY)
            case "/localapi/v0/status":
                return self._status(query)
            case "/localapi/v0/whois":
                self.asked.append(query)
                return await self._whois(query) if self.answer is None else _json(self.answer[1], self.answer[0])
            case _:
                raise _Wrong(404, "404 page not found")

    def _status(self, query: Mapping[str, str]) -> web.Response:
        peers = [] if query.get("peers") == "false" else [node for node in self._keys.values() if node != self.me]
        owners = {node.owner for node in (self.me, *peers)}
        suffix = self.me.name.partition(".")[2]
        status = {
            "Version": VERSION,
            "TUN": self.tun,
            "BackendState": "Running",
            "HaveNodeKey": True,
            "AuthURL": "",
            "TailscaleIPs": list(self.me.addresses),
            "Self": self.me.status(),
            "Health": [],
            "MagicDNSSuffix": suffix,
            "CurrentTailnet": {"Name": suffix, "MagicDNSSuffix": suffix, "MagicDNSEnabled": True},
            "CertDomains": None,
            "Peer": {node.key: node.status() for node in peers} or None,
            "User": {str(owner.profile()["ID"]): owner.profile() for owner in owners},
        }
        return _json(indented(status))

    async def _whois(self, query: Mapping[str, str]) -> web.Response:
        if not (address := query.get("addr", "")):
            raise _Wrong(400, "missing 'addr' parameter")
        node = self._by_key(address) if address.startswith("nodekey:") else await self._by_pair(_pair(address), query)
        if node is None:
            raise _Wrong(404, "no match for IP:port")
        return _json(node.whois(self._caps(node, query)))

    def _by_key(self, peer: str) -> Node | None:
        if not _NODE_KEY.fullmatch(peer):
            raise _Wrong(400, "invalid nodekey in 'addr' parameter")
        return self._keys.get(peer)

    async def _by_pair(self, pair: _Pair, query: Mapping[str, str]) -> Node | None:
        """Return the node to which an address and a port belong, or None.

        A tailnet address belongs to one node, whatever the port. A port of 127.0.0.1 belongs to a node if it is
        registered for TCP or UDP. If `query` has `proto`, only this protocol counts.
        """
        if (node := self._nodes.get(pair.address)) is not None:
            return node
        for protocol in [query["proto"]] if query.get("proto") else ["tcp", "udp"] if pair.port else []:
            async with self._table:
                if (node := self._registered(pair, protocol)) is not None:
                    return node
                await asyncio.sleep(self.late_seconds)
                if (node := self._registered(pair, protocol)) is not None:
                    return node
        return None

    def _registered(self, pair: _Pair, protocol: str) -> Node | None:
        node = self._proxied.get(pair.port) if pair.address == _LOOPBACK and protocol == "tcp" else None
        return node if node is not None and self._keys.get(node.key) == node else None

    def _caps(self, node: Node, query: Mapping[str, str]) -> Caps:
        if service := query.get("svc_name", ""):
            if not _SERVICE.fullmatch(service):
                raise _Wrong(400, "invalid svc_name")
            return node.service_caps.get(service, {})
        if not (destination := query.get("dst_ip", "")):
            return node.caps
        address = _address(destination, "invalid dst_ip")
        if address in {ipaddress.ip_address(own) for own in self.me.addresses}:
            return node.caps
        named = [name for name, at in self.services.items() if ipaddress.ip_address(at) == address]
        return node.service_caps.get(named[0], {}) if named else {}


def _pair(text: str) -> _Pair:
    """Parse `IP`, `IPV4:port` or `[IPV6]:port`, as Go's netip does. Raises `_Wrong` for any other text."""
    try:
        return _Pair(ipaddress.ip_address(text), 0)
    except ValueError:
        host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    address = _address(host[1:-1] if bracketed else host, "invalid 'addr' parameter")
    if bracketed != isinstance(address, ipaddress.IPv6Address) or not _PORT.fullmatch(port) or int(port) > 65535:
        raise _Wrong(400, "invalid 'addr' parameter")
    return _Pair(address, int(port))


def _address(text: str, refusal: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise _Wrong(400, refusal) from None


def _error(status: int, text: str, headers: Mapping[str, str]) -> web.Response:
    """Return an error response as Go's `http.Error` writes it: the text and a newline."""
    return web.Response(status=status, text=f"{text}\n", headers={**headers, "X-Content-Type-Options": "nosniff"})


def _json(body: bytes, status: int = 200) -> web.Response:
    response = web.Response(status=status, body=body, content_type="application/json", headers=_EVERY_REPLY)
    if len(body) > _LONG_REPLY:
        response.enable_chunked_encoding()
    return response
