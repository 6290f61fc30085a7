"""GET /aperture/openapi.json: the OpenAPI description of the HTTP API for configuration and status.

The description is a file (`openapi.json`). A test compares it with a running gateway. Callers need no role, because the
description contains nothing from the gateway's configuration.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from aiohttp import web


def routes() -> list[web.RouteDef]:
    return [web.get("/aperture/openapi.json", openapi)]


async def openapi(request: web.Request) -> web.Response:
    _ = request
    return web.Response(body=description(), content_type="application/json")


@cache
def description() -> bytes:
    """Return the OpenAPI 3.1 description in JSON."""
    return files("gateway.web.admin").joinpath("openapi.json").read_bytes()
