"""HTTP over connections whose addresses, first bytes and end a test can choose."""

import asyncio
import json
import socket
import struct
from contextlib import suppress

import pytest


class Raw:
    """A connection for several requests, one after the other."""

    opened = []  # noqa: RUF012 (of the running test; its fixture closes them)

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.opened.append(self)

    @classmethod
    async def open(cls, host, port, *, first=b"", local=None):
        """Open a connection.

        The bytes `first` are sent before the first request. `local` is the local port. It may be the port of a
        connection that was just closed.
        """
        opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # closing resets the connection, so that its port is free at once
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        opened.bind(("::1" if ":" in host else "127.0.0.1", local or 0))
        await asyncio.get_running_loop().sock_connect(opened, (host, port))
        raw = cls(*await asyncio.open_connection(sock=opened))
        raw.writer.write(first)
        return raw

    @classmethod
    async def unix(cls, path, first=b""):
        raw = cls(*await asyncio.open_unix_connection(path))
        raw.writer.write(first)
        return raw

    @property
    def port(self):
        return self.writer.get_extra_info("sockname")[1]

    async def ask(self, path, body=None, *, method=None, host="127.0.0.1", headers=()):
        """Send a request. Return the reply's status, its headers by lower-case name, and its body."""
        data = b"" if body is None else json.dumps(body).encode() if isinstance(body, dict | list) else body
        lines = [f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines += [f"Content-Length: {len(data)}"] if body is not None else []
        self.writer.write("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + data)
        return await self.reply()

    async def reply(self):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        status = int(head[0].split()[1])
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        return status, headers, await self._body(headers)

    async def _body(self, headers):
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(headers.get("content-length", 0)))
        parts = []
        while size := int(await self.reader.readline(), 16):
            parts.append(await self.reader.readexactly(size))
            await self.reader.readline()
        await self.reader.readline()
        return b"".join(parts)

    async def ended(self):
        """Return whether the other end closes or resets the connection without sending another byte."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 30) == b""
        except ConnectionError:
            return True

    async def close(self):
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    @classmethod
    async def close_all(cls):
        while cls.opened:
            await cls.opened.pop().close()


@pytest.fixture(autouse=True)
async def raw_connections():
    """Close the connections that a test has opened. Test modules that open connections must import this fixture."""
    yield
    await Raw.close_all()
