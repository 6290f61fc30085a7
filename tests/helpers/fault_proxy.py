"""A TCP proxy in front of a provider, which breaks one exchange at a chosen byte of the request or of the reply.

- The bytes are counted as on the network: request line or status line, headers, body, and framing of chunks.
- A fault applies only to the next exchange. Other exchanges pass unchanged.
- The proxy records whether the gateway closes a broken connection, and whether it uses the connection again.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Self

READ_BYTES = 65536
GARBAGE = bytes(range(255, 0, -1))
"""The bytes that the fault "insert" adds."""
TURNS = 3
"""Number of iterations of the event loop between the two writes of the faults "split" and "insert". So the gateway
reads the first piece alone.
"""

Kind = Literal["close", "reset", "stall", "split", "corrupt", "insert"]
ENDS = ("close", "reset", "stall")
"""The kinds of faults after which nothing more crosses the connection."""


@dataclass(frozen=True)
class Fault:
    """A fault that breaks an exchange after `at` bytes of its request or reply have crossed the proxy."""

    side: Literal["request", "reply"]
    kind: Kind
    at: int

    @property
    def mask(self) -> int:
        """The bit that a corruption inverts in the byte at `at`. The bit differs between neighbouring bytes."""
        return 1 << (self.at % 7)


class _Exchange:
    """One request and its reply, as far as they have crossed the proxy."""

    def __init__(self, fault: Fault | None) -> None:
        self.fault = fault
        self.crossed = {"request": 0, "reply": 0}

    def cut(self, side: str, data: bytes) -> int | None:
        """Count `data`. Return the offset in `data` at which the fault occurs, or None if it does not occur in
        `data`.
        """
        start = self.crossed[side]
        self.crossed[side] += len(data)
        fault = self.fault
        if fault is None or fault.side != side or not start <= fault.at < start + len(data):
            return None
        return fault.at - start


class FaultProxy:
    """A proxy on a port of its own: `async with FaultProxy(provider_url) as proxy: proxy.url`."""

    def __init__(self, target: str) -> None:
        self._target = int(target.rpartition(":")[2])
        self.url = ""
        self.fault: Fault | None = None
        """The fault of the next exchange."""
        self.last: _Exchange | None = None
        """The exchange that began last."""
        self.exchanges = 0
        """Number of requests that have begun to arrive."""
        self.reused = 0
        """Number of requests over a connection on which a fault had ended an earlier exchange."""
        self.open: set[asyncio.StreamWriter] = set()
        """The connections that the gateway has not closed yet."""
        self.broken: set[asyncio.StreamWriter] = set()
        """The open connections that a fault has ended."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open.add(writer)
        with suppress(ConnectionError, asyncio.CancelledError):
            await _Connection(self, reader, writer).run(self._target)
        self._tasks.discard(task)
        self.open.discard(writer)
        self.broken.discard(writer)
        writer.close()


class _Connection:
    """One connection from the gateway to the proxy, and the connection from the proxy to the provider."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._exchange: _Exchange | None = None
        self._ended = False
        """Whether a fault has ended the connection."""

    async def run(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        replies = asyncio.create_task(self._replies(reader, writer))
        try:
            await self._requests(writer)
        finally:
            writer.close()
            replies.cancel()
            await asyncio.gather(replies, return_exceptions=True)

    async def _requests(self, writer: asyncio.StreamWriter) -> None:
        while data := await self._reader.read(READ_BYTES):
            if self._ended:
                self._proxy.reused += self._exchange is not None and self._exchange.crossed["reply"] > 0
                continue
            if self._exchange is None or self._exchange.crossed["reply"]:
                self._exchange = self._proxy.last = _Exchange(self._proxy.fault)
                self._proxy.fault = None
                self._proxy.exchanges += 1
            await self._pass("request", data, writer)

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await reader.read(READ_BYTES)) and not self._ended:
            await self._pass("reply", data, self._writer)
        if not self._ended:
            self._writer.close()

    async def _pass(self, side: str, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Write `data`, which was read from one side, to the other side. If the exchange's fault occurs within `data`,
        apply the fault.
        """
        assert self._exchange is not None
        cut = self._exchange.cut(side, data)
        fault = self._exchange.fault
        if cut is None or fault is None:
            writer.write(data)
        elif fault.kind == "corrupt":
            writer.write(data[:cut] + bytes([data[cut] ^ fault.mask]) + data[cut + 1 :])
        else:
            writer.write(data[:cut])
            await writer.drain()
            if fault.kind in {"split", "insert"}:
                for _ in range(TURNS):
                    await asyncio.sleep(0)
                writer.write((GARBAGE if fault.kind == "insert" else b"") + data[cut:])
            else:
                self._end(fault.kind)
        await writer.drain()

    def _end(self, kind: Kind) -> None:
        self._ended = True
        self._proxy.broken.add(self._writer)
        if kind == "close":
            self._writer.write_eof()
        elif kind == "reset":
            opened = self._writer.get_extra_info("socket")
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.close()
