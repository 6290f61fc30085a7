"""A server that sends prepared replies as bytes, and a function that calls it with the gateway's client for
providers.
"""

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress

from gateway.config.model import Provider, Timeouts
from gateway.contract.flag import UpstreamRequest
from gateway.upstream.client import Upstream
from tests.helpers.waiting import SECONDS

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
REQUEST = UpstreamRequest("POST", "/v1/chat", b'{"a": 1}', headers={"content-type": "application/json"})


class Server:
    """A server that answers the n-th request with the n-th reply. Further requests get the last reply again.

    `heads` has the head of each request, and `bodies` its body. A reply may also be a function, which is called with
    the connection's reader and writer.
    """

    def __init__(self, *replies):
        self.replies = replies
        self.heads, self.bodies, self.connections, self.serving = [], [], 0, set()
        self.port = 0

    async def serve(self, reader, writer):
        self.connections += 1
        self.serving.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                await self.answer(reader, writer)
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    async def close(self):
        for task in self.serving:
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)

    async def answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        reply = self.replies[min(len(self.heads), len(self.replies) - 1)]
        self.heads.append(head)
        length = [int(line.partition(":")[2]) for line in head.split("\r\n") if line.startswith("content-length:")]
        if callable(reply):
            await reply(reader, writer)
            return
        self.bodies.append(await reader.readexactly(length[0] if length else 0))
        writer.write(reply)
        await writer.drain()


@asynccontextmanager
async def serving(*replies, tls=None, host="127.0.0.1"):
    server = Server(*replies)
    listening = await asyncio.start_server(server.serve, host, 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.close()


@asynccontextmanager
async def client():
    upstream = Upstream()
    try:
        yield upstream
    finally:
        await upstream.close()


def provider(url, **options):
    return Provider("p", url, **options)


def to(server, scheme="http", host="127.0.0.1", **options):
    return provider(f"{scheme}://{host}:{server.port}", **options)


async def call(upstream, where, request=REQUEST, **seconds):
    """Send a request, and return the status and the body of the reply."""
    async with asyncio.timeout(SECONDS):
        reply = await upstream.open(where, request, {}, Timeouts(**seconds))
        try:
            return reply.head.status, await reply.read(10**7, lambda _: None)
        finally:
            reply.close()
