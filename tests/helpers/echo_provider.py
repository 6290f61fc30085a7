"""A provider that records every request byte by byte, and answers what a test wants."""

import asyncio
import re
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Seen(NamedTuple):
    """One request, as it came over the connection."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def names(self):
        return {name for name, _ in self.headers}

    def __getitem__(self, name):
        (value,) = [value for key, value in self.headers if key == name]
        return value


class EchoProvider:
    """A provider, with its address, the requests so far, and the reply to the next requests.

    `reply` is bytes, or a coroutine function that gets the request and the writer.
    """

    def __init__(self):
        self.url = ""
        self.seen = []
        self.reply = OK
        self._open = set()

    def _accept(self, reader, writer):
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def close(self):
        """Close all connections."""
        tasks = [*self._open]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(match[1]) if (match := _LENGTH.search(head)) else 0
            line, *rest = head.decode("utf-8", "surrogateescape").split("\r\n")[:-2]
            pairs = [(name.lower(), value) for name, _, value in (each.partition(": ") for each in rest)]
            seen = Seen(line, pairs, await reader.readexactly(size))
            self.seen.append(seen)
            if isinstance(self.reply, bytes):
                writer.write(self.reply)
                await writer.drain()
            else:
                await self.reply(seen, writer)


@asynccontextmanager
async def echo_provider():
    provider = EchoProvider()
    server = await asyncio.start_server(provider._accept, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.close()
        await provider.close()


def whole(body, *headers, status="200 OK"):
    """Return the bytes of a reply with a `Content-Length`."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def in_chunks(parts, *headers):
    """Return a function that writes a reply in chunked encoding. Each part is a chunk, and is written separately."""

    async def play(_seen, writer):
        writer.write("\r\n".join(["HTTP/1.1 200 OK", *headers, "Transfer-Encoding: chunked", "", ""]).encode())
        for part in parts:
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
            await asyncio.sleep(0.003)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return play
