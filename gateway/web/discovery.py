"""The health check, the redirect of the root, and the function that returns the models that a caller may use.

Every list of models uses this function: those in `model_lists.py`, and `/api/providers` in `providers_list.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from gateway.call.context import GATEWAY, identity_of
from gateway.call.guard import json_error
from gateway.upstream.catalog import Offer


def routes() -> list[web.RouteDef]:
    return [
        web.head("/", alive),
        web.get("/", to_pages, allow_head=False),
        web.get("/healthz", alive),
    ]


async def alive(request: web.Request) -> web.Response:
    """Return 200. Claude Code sends `HEAD /` before its first call."""
    _ = request
    return web.Response(text="ok\n")


async def to_pages(request: web.Request) -> web.Response:
    _ = request
    raise web.HTTPFound("/ui/")


def granted_offers(request: web.Request) -> Sequence[Offer] | web.Response:
    """Return the models that the caller may use, or the error response for a caller without a role."""
    gateway = request.app[GATEWAY]
    identity = identity_of(request)
    runtime = gateway.runtime
    if identity is None or runtime.grants.access(identity).role is None:
        return json_error(403, "access denied: no role granted")
    return runtime.catalog.visible(runtime.grants.access(identity))
