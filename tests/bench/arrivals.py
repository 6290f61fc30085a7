"""Requests over real connections to listeners of every identity mode, for measurements. The connections stay open.

The gateway's own classes (`Modes` and `Site`) read the requests and identify the callers. The tailscaled is simulated.
It runs in another thread, so that its work is not counted.
"""

import asyncio
import threading
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from aiohttp import web

from gateway.access.identity.modes import Modes
from gateway.config.model import Config
from gateway.config.server import Listener
from gateway.process.sites import Site
from gateway.process.sockets import bind
from gateway.telemetry.log import configure
from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.tailnet_nodes import Node, User
from tests.bench.measure import Nowhere

ALICE = Node("laptop.example.ts.net", ("100.64.0.7",), User("alice@example.com"))
PROXY_LINE = b"PROXY TCP4 100.64.0.7 100.64.0.1 4711 80\r\n"
REQUEST = (
    b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: ai.example.ts.net\r\nAccept: application/json\r\n"
    b"Accept-Encoding: gzip, deflate\r\nAccept-Language: *\r\nUser-Agent: claude-cli/2.0.50 (external, cli)\r\n"
    b"Anthropic-Version: 2023-06-01\r\nAnthropic-Beta: interleaved-thinking-2025-05-14\r\nX-App: cli\r\n"
    b"X-Stainless-Lang: js\r\nX-Stainless-Runtime: node\r\nX-Stainless-Retry-Count: 0\r\nX-Forwarded-Proto: https\r\n"
    b"Tailscale-User-Login: alice@example.com\r\nTailscale-User-Name: Alice\r\n"
    b'Tailscale-App-Capabilities: {"tailscale.com/cap/aperture": [{"role": "user"}, {"models": "**"}]}\r\n'
    b"Content-Type: application/json\r\nContent-Length: 0\r\n\r\n"
)
"""A request with the headers of an agent behind `tailscale serve`. It is used in every mode, so that the gateway always
reads the same headers.
"""


class Endless:
    """A stand-in for the gateway's limit of connections. It admits every connection."""

    def admit(self, _connection, _peer):
        return True

    def remove(self, _connection):
        pass


class Connection:
    """A stand-in for the transport of a new connection. Unlike a plain object, it can be weakly referenced."""


@contextmanager
def tailscaled(path):
    """Run a simulated tailscaled in a thread of its own."""
    started, ended = threading.Event(), []

    async def run():
        ended.extend([asyncio.get_running_loop(), asyncio.Event()])
        async with LocalApiSim(path) as sim:
            ended.append(sim)
            started.set()
            await ended[1].wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    started.wait()
    try:
        yield ended[2]
    finally:
        ended[0].call_soon_threadsafe(ended[1].set)
        thread.join()


@asynccontextmanager
async def arrivals(folder):
    """Yield the simulated tailscaled, the gateway's `Modes`, and a dict from each identity mode to a request."""
    async with AsyncExitStack() as stack:
        sim = stack.enter_context(tailscaled(folder / "tailscaled.sock"))
        sim.add(ALICE)
        modes = Modes(configure(Nowhere()))
        stack.push_async_callback(modes.close)
        hall = Hall()
        stack.push_async_callback(hall.close)
        await hall.open()
        rates = {}
        for listener in _listeners(folder, sim.path):
            preface = PROXY_LINE if listener.identity == "proxy-protocol" else b""
            rates[listener.identity], port = await hall.receive(listener, modes, preface)
            if listener.identity == "whois":
                sim.proxied(port, ALICE)
        yield sim, modes, rates


def _listeners(folder, tailscaled_at):
    by_address = {"listen": "127.0.0.1:0", "port": 0, "tailscaled": str(tailscaled_at)}
    at_socket = str(folder / "http.sock")
    return [
        Listener(**by_address, identity="static", login="team@example.com"),
        Listener(**by_address, identity="whois"),
        Listener(**by_address, identity="proxy-protocol"),
        Listener(f"unix:{at_socket}", "", 0, at_socket, "serve-headers"),
    ]


class Hall:
    """A server that answers no request until it is closed, so that all connections stay open."""

    def __init__(self):
        self._came = asyncio.Queue()
        self._over = asyncio.Event()
        self._writers = []
        self._bounds = []
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._hold)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)

    async def open(self):
        await self._runner.setup()

    async def receive(self, listener, modes, preface):
        """Open a listener, connect to it, and send `preface` and `REQUEST`. Return the request that arrives, and the
        client's port.

        The port is None for a unix socket.
        """
        bound = bind(listener, [])
        self._bounds.append(bound)
        modes.listen(bound.endpoint, listener)
        await Site(self._runner, bound, modes, Endless(), Config, None).start()
        if listener.unix:
            _, writer = await asyncio.open_unix_connection(listener.unix)
        else:
            _, writer = await asyncio.open_connection(*bound.socket.getsockname())
        self._writers.append(writer)
        writer.write(preface + REQUEST)
        port = None if listener.unix else writer.get_extra_info("sockname")[1]
        return await asyncio.wait_for(self._came.get(), 10), port

    async def close(self):
        self._over.set()
        for writer in self._writers:
            writer.close()
            await writer.wait_closed()
        await self._runner.cleanup()
        for bound in self._bounds:
            bound.remove_file()
            bound.socket.close()

    async def _hold(self, request):
        self._came.put_nowait(request)
        await self._over.wait()
        return web.Response()
