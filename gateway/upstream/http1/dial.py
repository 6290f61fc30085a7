"""Opens connections to providers: the look-up of names, TCP, a proxy, TLS.

- A name is looked up once a minute at most. The addresses of a host are used in turn. If a host has IPv6 and IPv4
  addresses, the faster family wins (RFC 8305, "Happy Eyeballs").
- The proxy is the one that the environment names (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`), but never for
  this machine's own addresses, as in Go's `net/http`.
- TLS accepts the certificates that the system accepts; OpenSSL's `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import ssl
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cache
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import aiohappyeyeballs

from gateway.upstream.http1.connection import Connection
from gateway.upstream.http1.targets import Origin

NAME_SECONDS: Final = 60.0
"""Number of seconds for which a host's addresses are used before its name is looked up again."""
EYEBALLS_SECONDS: Final = 0.25
"""Number of seconds that one address has, before the next is tried beside it (RFC 8305, section 5)."""
MAX_PROXY_HEAD: Final = 16 * 1024
"""Maximum number of bytes of a proxy's reply to CONNECT."""
_KEEPALIVE: Final = (
    ("SO_KEEPALIVE", socket.SOL_SOCKET, 1),
    ("TCP_KEEPIDLE", socket.IPPROTO_TCP, 60),
    ("TCP_KEEPINTVL", socket.IPPROTO_TCP, 60),
)
"""Options of a socket, which keep an idle connection alive. While a model thinks, nothing is sent for minutes, and NAT
gateways of AWS forget a connection after 350 seconds ("NAT gateway basics" in the user guide of Amazon VPC)."""

_Address = tuple[Any, ...]


class ProxyRefused(OSError):
    """The error for a proxy that does not connect to the provider. The text is the reason."""


class Proxy(NamedTuple):
    """A proxy for HTTP requests."""

    origin: Origin
    authorization: str
    """The value of `Proxy-Authorization`; "" without credentials."""


class Dialer:
    """Opens connections. One object has the addresses of all hosts, and the proxies."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int], tuple[float, asyncio.Task[list[_Address]]]] = {}
        self._environment = urllib.request.getproxies_environment()
        """The proxies that the environment names, by scheme, as they were when this object was made."""
        self._proxies: dict[Origin, Proxy | None] = {}
        self._turn = 0

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """Return the proxy for an origin, or None. Raises `ProxyRefused` if the environment names no http:// URL."""
        if origin not in self._proxies:
            self._proxies[origin] = _proxy_for(origin, self._environment)
        return self._proxies[origin]

    async def connect(self, origin: Origin, proxy: Proxy | None, lost: Callable[[Connection], None]) -> Connection:
        """Return a new connection.

        Raises `socket.gaierror` or `UnicodeError` if the name has no address, `ssl.SSLError` if TLS fails,
        `ProxyRefused`, and `OSError` for any other failure.
        """
        loop = asyncio.get_running_loop()
        made = await self._socket(origin if proxy is None else proxy.origin)
        with ExitStack() as stack:
            stack.callback(made.close)
            tls = None
            if origin.scheme == "https":
                if proxy is not None:
                    await _tunnel(loop, made, origin, proxy)
                # reading the system's certificates takes milliseconds
                tls = await loop.run_in_executor(None, tls_context)
            host = origin.host if tls is not None else None
            _, connection = await loop.create_connection(
                lambda: Connection(origin, lost), sock=made, ssl=tls, server_hostname=host
            )
            stack.pop_all()
        return connection

    async def _socket(self, origin: Origin) -> socket.socket:
        """Return a socket that is connected to the host."""
        addresses = await self._addresses(origin.host, origin.port)
        self._turn += 1
        first = self._turn % len(addresses)
        try:
            made = await aiohappyeyeballs.start_connection(
                addresses[first:] + addresses[:first], happy_eyeballs_delay=EYEBALLS_SECONDS, interleave=1
            )
        except OSError:
            self._names.pop((origin.host, origin.port), None)  # the host may have moved
            raise
        for name, level, value in _KEEPALIVE:
            with suppress(OSError, AttributeError):  # not every system has them
                made.setsockopt(level, getattr(socket, name), value)
        return made

    async def _addresses(self, host: str, port: int) -> list[_Address]:
        """Return the host's addresses. Calls at the same time share one look-up, and a failure is not kept."""
        loop = asyncio.get_running_loop()
        until, task = self._names.get((host, port), (0.0, None))
        if task is None or until <= loop.time():
            task = loop.create_task(_look_up(loop, host, port))
            self._names[host, port] = loop.time() + NAME_SECONDS, task
        try:
            # one call that is cancelled must not take the addresses from the others
            return await asyncio.shield(task)
        except (OSError, UnicodeError):
            if self._names.get((host, port), (0.0, None))[1] is task:
                del self._names[host, port]
            raise


def _proxy_for(origin: Origin, environment: dict[str, str]) -> Proxy | None:
    named = environment.get(origin.scheme) or environment.get("all")
    if not named or _is_local(origin.host) or urllib.request.proxy_bypass(str(origin), environment):
        return None
    parts = urlsplit(named if "://" in named else f"http://{named}")
    if parts.scheme != "http" or not parts.hostname:
        raise ProxyRefused(f"the proxy in the environment for {origin.scheme} is no http:// URL")
    authorization = ""
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(credentials.encode()).decode()
    return Proxy(Origin("http", parts.hostname, parts.port or 80), authorization)


async def _look_up(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[_Address]:
    return list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))


async def _tunnel(loop: asyncio.AbstractEventLoop, made: socket.socket, origin: Origin, proxy: Proxy) -> None:
    """Ask the proxy for a connection to the provider (RFC 9110, 9.3.6). Raises `ProxyRefused` if it does not agree."""
    place = f"[{origin.host}]:{origin.port}" if ":" in origin.host else str(origin)
    lines = [f"CONNECT {place} HTTP/1.1", f"host: {place}"]
    if proxy.authorization:
        lines.append(f"proxy-authorization: {proxy.authorization}")
    await loop.sock_sendall(made, "\r\n".join([*lines, "", ""]).encode())
    reply = b""
    # the provider speaks only after the client's first message of TLS, so nothing follows the head
    while not reply.endswith(b"\r\n\r\n"):
        data = await loop.sock_recv(made, 4096)
        reply += data
        if not data or len(reply) > MAX_PROXY_HEAD:
            raise ProxyRefused(f"the proxy {proxy.origin} ended the connection")
    status = reply.split(b"\r\n", 1)[0].decode("ascii", "replace").split(" ")
    if len(status) < 2 or not status[0].startswith("HTTP/1.") or not status[1].startswith("2"):
        raise ProxyRefused(f"the proxy {proxy.origin} answered {' '.join(status)[:100]}")


@cache
def tls_context() -> ssl.SSLContext:
    """Return the settings of TLS for all providers."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _is_local(host: str) -> bool:
    """Return whether a host is this machine, so that no proxy could reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
