"""The aiohttp server that creates a `Connection` (`connections.py`) for each client, and the server's runner.

This file uses private attributes of aiohttp: `_kwargs` of `Server`, and `_make_server` of `AppRunner`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, cast

from aiohttp import web

from gateway.call.reply import Reply
from gateway.web.connection_limits import Connections, Room
from gateway.web.connections import Connection

LINE_BYTES: Final = 8190
"""aiohttp's default for the maximum length of a header line in bytes."""
Others = Callable[[web.Request], Awaitable[web.StreamResponse]]
Calls = Callable[[Others, web.Request], Awaitable[web.StreamResponse | Reply]]
"""A function that handles calls to models. Its first argument is a handler, to which it passes any other request."""


class HttpServer(web.Server):
    """An aiohttp server that limits its connections. It has the settings of the aiohttp server `server`, which it
    replaces.

    If the function `calls` is given, it gets every request. It handles calls to models, and passes any other request to
    the handler of `server`.
    """

    def __init__(self, connections: Connections, server: web.Server, calls: Calls | None = None) -> None:
        others: Any = server.request_handler
        super().__init__(
            others if calls is None else cast("Any", partial(calls, others)),
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            **server._kwargs,  # noqa: SLF001 (this object takes the place of `server`)
        )
        self._limited = connections

    def __call__(self) -> web.RequestHandler:
        return self.connection(self._limited)

    def connection(self, room: Room) -> Connection:
        """Return a new HTTP/1.1 connection. It reads its limits from `room`, and reports to `room` when it is open,
        busy, idle or closed.
        """
        return Connection(room, self, loop=self._loop, **self._kwargs)

    def http2(self) -> asyncio.Protocol:
        """Return a connection of HTTP/2. The first call imports the modules of HTTP/2, which takes 15 milliseconds."""
        from gateway.web.http2.connection import Http2Connection  # noqa: PLC0415

        return Http2Connection(self._limited, self, self._kwargs.get("max_line_size", LINE_BYTES))


class Runner(web.AppRunner):
    """An aiohttp runner whose server limits its connections."""

    def __init__(
        self, app: web.Application, connections: Connections, calls: Calls | None = None, **options: Any
    ) -> None:
        super().__init__(app, access_log=None, **options)
        self._connections = connections
        self._calls = calls

    async def _make_server(self) -> web.Server:
        return HttpServer(self._connections, await super()._make_server(), self._calls)
