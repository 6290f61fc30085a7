"""Creates and stops the HTTP server of a process."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from gateway.call.call_routes import CALL_ROUTES
from gateway.config.model import Config
from gateway.process.sites import Sites
from gateway.telemetry.http_log import server_logger
from gateway.telemetry.log import Logger
from gateway.web.connection_limits import Connections
from gateway.web.http_server import Calls, Runner

CLOSE_SECONDS: Final = 0.5
"""Seconds that unfinished responses may take after the wait for calls in flight has ended."""

SERVED_HEADER_BYTES: Final = 256 * 1024
"""Length in bytes up to which a header line is accepted if requests come from `tailscale serve`. If the configuration
has a lower limit, this number is used instead.

`tailscale serve` sends all of a caller's grants in the tailnet policy in one header, which can be long.
"""


def runner_of(
    app: web.Application, connections: Connections, config: Config, log: Logger, calls: Calls | None = None
) -> Runner:
    """Return a runner for the application.

    `calls` gets each request and a handler. It serves calls of models, and passes all other requests to the handler. By
    default, `calls` is `app[CALL_ROUTES].handle`.
    """
    header_bytes = _header_bytes(config)
    return Runner(
        app,
        connections,
        calls or app[CALL_ROUTES].handle,
        handler_cancellation=True,
        shutdown_timeout=CLOSE_SECONDS,
        logger=server_logger(log),
        auto_decompress=False,
        max_line_size=header_bytes,
        max_field_size=header_bytes,
    )


def _header_bytes(config: Config) -> int:
    """Return the maximum length of a header line. Behind `tailscale serve` it is at least `SERVED_HEADER_BYTES`."""
    served = any(listener.identity == "serve-headers" for listener in config.server.listeners)
    return max(config.server.limits.header_bytes, SERVED_HEADER_BYTES if served else 0)


async def stopped(sites: Sites, runner: web.AppRunner) -> None:
    """Accept no more connections, and no more requests on open connections."""
    await sites.pause()
    sites.close()
    # let requests that have just arrived begin, as aiohttp's `AppRunner.cleanup` does
    await asyncio.sleep(0)
    if runner.server is not None:
        runner.server.pre_shutdown()
