"""Connections of the gateway over a fake transport, with a clock that a test sets.

So tests of deadlines do not wait. Such tests may not use `asyncio.sleep` with a time above 0, because the clock stands
still.
"""

import asyncio
from types import MappingProxyType, SimpleNamespace

import pytest
from aiohttp import web

from gateway.config.server import Limits
from gateway.telemetry.metrics import Metrics
from gateway.web import connection_limits
from gateway.web.connection_limits import Connections
from gateway.web.http_server import HttpServer

GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
PEER = ("100.64.0.1", 1234)


class Transport(asyncio.Transport):
    """A transport that stores what is written. A test sets the number of bytes that the other end has not read
    (`unread`).
    """

    def __init__(self):
        super().__init__({"peername": PEER})
        self.written = b""
        self.unread = 0
        self.end = ""
        self.protocol = None
        self.is_paused = False

    def set_protocol(self, protocol):
        self.protocol = protocol

    def pause_reading(self):
        self.is_paused = True

    def resume_reading(self):
        self.is_paused = False

    def write(self, data):
        self.written += data

    def get_write_buffer_size(self):
        return self.unread

    def is_closing(self):
        return bool(self.end)

    def close(self):
        self.end = self.end or "closed"

    def abort(self):
        self.end = "aborted"


class Log:
    """A log that stores its entries."""

    def __init__(self):
        self.entries = []

    def warning(self, event, **fields):
        self.entries.append((event, fields))


async def settled():
    """Let the event loop run until every task waits for a timer or for new bytes."""
    for _ in range(20):
        await asyncio.sleep(0)


class Opened:
    """A connection, and a clock for all its timers."""

    def __init__(self, monkeypatch, handler, options, limits):
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time()
        monkeypatch.setattr(self.loop, "time", lambda: self.now)
        monkeypatch.setattr(connection_limits, "monotonic", lambda: self.now)
        self.log, self.transport = Log(), Transport()
        self.metrics = Metrics(SimpleNamespace(providers={}, metrics=SimpleNamespace(users=0)))
        self.limits = Limits(**limits)
        self.connections = Connections(lambda: self.limits, self.metrics, self.log)
        self.server = HttpServer(self.connections, web.Server(handler, **options))
        self.connection = self.server()
        self.connection.connection_made(self.transport)

    async def receives(self, data):
        self.connection.data_received(data)
        await settled()

    async def passes(self, seconds):
        self.now += seconds
        await settled()

    def read(self):
        """Return what was written since the last call of this method."""
        data, self.transport.written = self.transport.written, b""
        return data

    @property
    def end(self):
        return self.transport.end

    def timers(self):
        """Return the functions of this connection for which a timer is set."""
        mine = (self.connection, self.connection._reading, self.transport)
        return [
            timer._callback.__name__
            for timer in self.loop._scheduled
            if not timer.cancelled() and getattr(timer._callback, "__self__", None) in mine
        ]


async def hello(_request):
    return web.Response(text="hello")


@pytest.fixture(name="opened")
async def opening(monkeypatch):
    """Yield a function that opens a connection, which is closed at the end."""
    made = []

    def make(handler=hello, options=MappingProxyType({}), **limits):
        made.append(Opened(monkeypatch, handler, options, limits))
        return made[-1]

    yield make
    for each in made:
        each.connection.connection_lost(None)
        await settled()
        if each.connections._sweep_timer is not None:
            each.connections._sweep_timer.cancel()


def status_of(reply):
    return int(reply.split(b" ", 2)[1])
