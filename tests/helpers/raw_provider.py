"""A provider for which a test writes the replies byte by byte."""

import asyncio
import re
from contextlib import asynccontextmanager, suppress

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")


class RawProvider:
    """A provider, with its address, the number of requests, and the number of connections that the gateway has
    closed.
    """

    def __init__(self, play):
        self._play = play
        self.url = ""
        self.requests = 0
        self.closed = 0

    async def _serve(self, reader, writer):
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if match := _LENGTH.search(head):
                await reader.readexactly(int(match[1]))
            self.requests += 1
            playing = asyncio.create_task(self._play(writer))
            with suppress(ConnectionError):
                while await reader.read(65536):
                    pass
            self.closed += 1
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        writer.close()


@asynccontextmanager
async def raw_provider(play):
    """Yield a provider that calls `play(writer)` for the first request of each connection."""
    provider = RawProvider(play)
    server = await asyncio.start_server(provider._serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.close()


def sends(*parts, first=b"", drip=b"", every=0.02):
    """Return a function `play` for `raw_provider`. It writes the parts, then `first`, and then `drip` once in `every`
    seconds.
    """

    async def play(writer):
        for part in (*parts, first):
            writer.write(part)
            await writer.drain()
        while drip:
            await asyncio.sleep(every)
            writer.write(drip)
            await writer.drain()

    return play


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)
