"""The health check, the redirect of the root, and functions for the routes of model lists.

The routes of model lists are in `model_lists.py` and `providers_list.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from aiohttp import web

from gateway.access.grants import Access
from gateway.call.context import GATEWAY, identity_of
from gateway.call.encoded_lists import LONG
from gateway.call.guard import json_error


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


def access_of(request: web.Request) -> Access | web.Response:
    """Return what the caller may access. For a caller without a role, return the error response that refuses the
    request.
    """
    identity = identity_of(request)
    access = None if identity is None else request.app[GATEWAY].runtime.grants.access(identity)
    return json_error(403, "access denied: no role granted") if access is None or access.role is None else access


async def encoded(request: web.Request, words: Hashable, make: Callable[[], bytes]) -> bytes:
    """Return the encoded list that `make` returns. It is cached as long as the configuration stays the same.

    `words` are the key of the list in the cache. They must contain all values on which the list depends, except for the
    configuration. Raises the exceptions of `make`.
    """
    runtime = request.app[GATEWAY].runtime
    size = len(runtime.catalog.offers) + len(runtime.catalog.aliases)
    return await runtime.lists.get(words, make, is_long=size > LONG)
