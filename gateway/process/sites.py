"""The listeners of the gateway. They can stop accepting connections temporarily or for good.

A new connection begins with a TLS handshake if the listener has a certificate, and then speaks HTTP. In the mode
`proxy-protocol`, the PROXY header comes before HTTP.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Iterable
from typing import Final, Protocol

from aiohttp import web

from gateway.access.identity.modes import Modes
from gateway.config.model import Config
from gateway.config.server import Listener, ListenerTls
from gateway.process.sockets import Bound
from gateway.web.connection_limits import Connections
from gateway.web.tls import over_tls

BACKLOG: Final = 1024
"""Maximum number of connections that wait in the queue of a listening socket, for example while another process takes
over.
"""
ACCEPTED_AT_ONCE: Final = 100
"""Maximum number of connections that asyncio accepts in one iteration of the event loop.

Connections are counted, and closed if there are too many, only after the iteration. The number is at most
`RESERVED_DESCRIPTORS`, so that one iteration cannot use up the file descriptors.
"""


Configured = Callable[[], Config]
"""A function that returns the current configuration."""


class Accepting(Protocol):
    """A server of one socket, which accepts connections until `close` is called."""

    def close(self) -> None:
        """Stop accepting, and close the socket."""


Accept = Callable[[socket.socket, Callable[[], asyncio.BaseProtocol]], Accepting]
"""A function that begins to accept connections on a socket. The second argument makes the protocol of each connection.
"""


class Site(web.SockSite):
    """A listener as a site of aiohttp. A connection begins with TLS or a PROXY header if the listener requires it.

    The site uses a copy of the socket, so that the socket still listens when the site is stopped. If `accept` is None,
    asyncio accepts the connections.
    """

    def __init__(
        self,
        runner: web.AppRunner,
        bound: Bound,
        modes: Modes,
        connections: Connections,
        configured: Configured,
        accept: Accept | None,
    ) -> None:
        super().__init__(runner, bound.socket)
        self._accept = accept
        self._accepting: Accepting | None = None
        self._connections = connections
        self._bound = bound
        self._modes = modes
        self._configured = configured
        self._copy = bound.socket

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None
        listener = self._bound.listener
        if (own := listener.tls) is None:
            factory = self._modes.protocol(listener, server, self._connections)
        else:
            factory = over_tls(
                server, self._connections, lambda: _current(own, listener, self._configured().server.listeners).context
            )
        self._copy = self._bound.socket.dup()
        if self._accept is None:
            loop = asyncio.get_running_loop()
            # asyncio uses the length of the queue also as the number of connections that it accepts at once
            self._server = await loop.create_server(factory, sock=self._copy, backlog=ACCEPTED_AT_ONCE)
        else:
            self._accepting = self._accept(self._copy, factory)
        self._copy.listen(BACKLOG)

    def stop_accepting(self) -> None:
        if self._accepting is None:
            asyncio.get_running_loop().remove_reader(self._copy.fileno())
        else:
            self._accepting.close()


class Sites:
    """All listeners for calls. Connections are accepted by the function `accept`, or by asyncio if `accept` is None."""

    def __init__(self, bounds: list[Bound], modes: Modes, accept: Accept | None = None) -> None:
        self._modes = modes
        self._accept = accept
        self._served: tuple[web.AppRunner, Connections, Configured] | None = None
        """The arguments of `start`. The value is None before `start`."""
        self._sites: list[Site] = []
        self.bounds: Final = bounds
        self._has_files = True
        """True if this process must remove the files of unix sockets when it closes the sockets."""

    async def start(self, runner: web.AppRunner, connections: Connections, configured: Configured) -> None:
        """Accept connections. `configured` returns the configuration whose certificates new connections use."""
        self._served = runner, connections, configured
        self._sites = [Site(runner, bound, self._modes, connections, configured, self._accept) for bound in self.bounds]
        for site in self._sites:
            await site.start()

    async def pause(self) -> None:
        """Stop accepting connections. New connections wait until this process or another one accepts them."""
        for site in self._sites:
            site.stop_accepting()
        # asyncio begins a connection in a task of its own, which fails once the server is closed
        await asyncio.sleep(0)
        while self._sites:
            await self._sites.pop().stop()

    async def resume(self) -> None:
        """Accept connections again. This is possible even if `pause` was cancelled before its end."""
        await self.pause()
        if self._served is not None:
            await self.start(*self._served)

    def own_files(self, names: Collection[str]) -> None:
        """Make `close` remove the files of these unix sockets, although another process has created them."""
        self.bounds[:] = [bound.owning() if bound.listener.listen in names else bound for bound in self.bounds]

    def give_up(self) -> None:
        """Close this process's sockets, but keep the files of unix sockets, because the process that replaces this one
        uses them.
        """
        self._has_files = False
        self.close()

    def close(self) -> None:
        """Close the sockets, and remove the files of unix sockets."""
        for bound in self.bounds:
            if self._has_files:
                bound.remove_file()
            bound.socket.close()
        self._has_files = False


def _current(own: ListenerTls, listener: Listener, listeners: Iterable[Listener]) -> ListenerTls:
    """Return the TLS settings of a listener in the current configuration.

    If the configuration has no listener with TLS at the same address, return `own`, the settings with which the
    listener was opened. A changed address needs a restart.
    """
    return next((one.tls for one in listeners if one.tls is not None and one.listen == listener.listen), own)
