"""GET /aperture/openapi.json: what the HTTP API of configuration and status looks like, for tools and readers.

The description is data (`openapi.json`); a test asks a running gateway whether it is true. It says nothing of the
configuration, so no role is needed.
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
    """OpenAPI 3.1, in JSON."""
    return files("gateway.web.admin").joinpath("openapi.json").read_bytes()
