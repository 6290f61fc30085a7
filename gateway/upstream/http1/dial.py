"""Opens connections to providers: name look-up, TCP, proxy and TLS.

- A name is looked up at most once a minute. The addresses of a host are used in turn. If a host has IPv6 and IPv4
  addresses, the faster family wins (RFC 8305, "Happy Eyeballs").
- `proxies.py` says which proxy is used, and `tls.py` which certificates are accepted.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Final

import aiohappyeyeballs

from gateway.upstream.http1.connection import Connection
from gateway.upstream.http1.proxies import Proxy, ProxyRefused
from gateway.upstream.http1.targets import Endpoint, Origin
from gateway.upstream.http1.tls import start_tls, tls_context

NAME_SECONDS: Final = 60.0
"""Number of seconds for which a host's addresses are used before its name is looked up again."""
EYEBALLS_SECONDS: Final = 0.25
"""Seconds after which a connection to the host's next address is tried too, while the first try goes on (RFC 8305,
section 5).
"""
MAX_PROXY_HEAD: Final = 16 * 1024
"""Maximum number of bytes of a proxy's reply to CONNECT."""
_KEEPALIVE: Final = (
    ("SO_KEEPALIVE", socket.SOL_SOCKET, 1),
    ("TCP_KEEPIDLE", socket.IPPROTO_TCP, 60),
    ("TCP_KEEPINTVL", socket.IPPROTO_TCP, 60),
)
"""Socket options that keep an idle connection alive. While a model thinks, nothing is sent for minutes.

NAT gateways of AWS forget a connection after 350 seconds ("NAT gateway basics" in the user guide of Amazon VPC)."""

_AGREED: Final = re.compile(rb"HTTP/1\.[01] 2[0-9][0-9](?: |$)")
"""Pattern for the status line with which a proxy accepts CONNECT."""

_Address = tuple[Any, ...]


class Dialer:
    """Opens connections, and remembers the addresses of hosts."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int], tuple[float, asyncio.Task[list[_Address]]]] = {}
        self._turn = 0

    def close(self) -> None:
        """Cancel the DNS look-ups that are still running."""
        for _, task in self._names.values():
            task.cancel()

    async def connect(self, endpoint: Endpoint, proxy: Proxy | None, lost: Callable[[Connection], None]) -> Connection:
        """Return a new connection.

        Raises `socket.gaierror` or `UnicodeError` if the name has no address, `ssl.SSLError` if TLS fails,
        `ProxyRefused` if the proxy does not connect, and `OSError` for any other failure.
        """
        loop = asyncio.get_running_loop()
        origin = endpoint.origin
        made = await (self._socket(origin) if proxy is None else self._socket_of(proxy))
        with ExitStack() as stack:
            stack.callback(made.close)
            connection = Connection(endpoint, lost)
            if origin.scheme == "https":
                if proxy is not None:
                    await _tunnel(loop, made, origin, proxy)
                # reading the system's certificates takes milliseconds
                tls = await loop.run_in_executor(None, tls_context, endpoint.authorities)
                # a certificate names the host without the dot that ends an absolute name (RFC 6066, 3)
                await start_tls(made, connection, tls, origin.host.rstrip("."))
            else:
                await loop.create_connection(lambda: connection, sock=made)
            stack.pop_all()
        return connection

    async def _socket_of(self, proxy: Proxy) -> socket.socket:
        """Return a socket that is connected to the proxy. Raises `ProxyRefused` if it cannot be reached."""
        try:
            return await self._socket(proxy.origin)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ProxyRefused(f"the proxy {proxy.origin} cannot be reached: {reason}") from None

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
        """Return the host's addresses. Concurrent calls share one look-up. A failure is not cached."""
        loop = asyncio.get_running_loop()
        until, task = self._names.get((host, port), (0.0, None))
        if task is None or until <= loop.time():
            task = loop.create_task(self._look_up(host, port))
            self._names[host, port] = loop.time() + NAME_SECONDS, task
        # one call that is cancelled must not take the addresses from the others
        return await asyncio.shield(task)

    async def _look_up(self, host: str, port: int) -> list[_Address]:
        try:
            return list(await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError):
            if self._names.get((host, port), (0.0, None))[1] is asyncio.current_task():
                del self._names[host, port]
            raise


async def _tunnel(loop: asyncio.AbstractEventLoop, made: socket.socket, origin: Origin, proxy: Proxy) -> None:
    """Make the proxy open a tunnel to the provider (RFC 9110, 9.3.6). Raises `ProxyRefused` if the proxy refuses."""
    place = f"[{origin.host}]:{origin.port}" if ":" in origin.host else str(origin)
    lines = [f"CONNECT {place} HTTP/1.1", f"host: {place}"]
    if proxy.authorization:
        lines.append(f"proxy-authorization: {proxy.authorization}")
    await loop.sock_sendall(made, "\r\n".join([*lines, "", ""]).encode())
    reply = b""
    while b"\r\n\r\n" not in reply:
        data = await loop.sock_recv(made, 4096)
        reply += data
        if not data or len(reply) > MAX_PROXY_HEAD:
            raise ProxyRefused(f"the proxy {proxy.origin} ended the connection")
    status = reply.split(b"\r\n", 1)[0]
    # the provider speaks only after the client's first message of TLS, so nothing may follow the head
    if (agreed := _AGREED.match(status)) and not reply.endswith(b"\r\n\r\n"):
        raise ProxyRefused(f"the proxy {proxy.origin} sent more than its answer")
    if not agreed:
        words = "".join(filter(str.isprintable, status.decode("ascii", "replace")))
        raise ProxyRefused(f"the proxy {proxy.origin} answered {words[:100]}")
