"""The routes of the pages at /ui/.

Each page has a module of its own. `frame.py` has the parts that all pages share. These modules are imported at the
first request for a page, because a gateway that only serves calls does without them. The import takes half a second of
CPU time. It runs in a thread, so that it does not block the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Final

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PAGES: Final = (
    ("/ui/", "overview", "overview"),
    ("/ui/providers", "providers", "providers"),
    ("/ui/now", "now", "now"),
    ("/ui/errors", "errors", "errors"),
    ("/ui/people", "people", "people"),
    ("/ui/cache", "cache", "cache"),
    ("/ui/sessions", "sessions", "sessions"),
    ("/ui/sessions/{id}", "sessions", "session"),
    ("/ui/session", "sessions", "session"),
    ("/ui/calls", "calls", "call"),
    ("/ui/quotas", "quotas", "quotas"),
    ("/ui/config", "config", "config"),
    ("/ui/connect", "connect", "connect"),
    ("/ui/access", "access", "access"),
    ("/ui/find", "find", "find"),
    ("/ui/live", "live", "live"),
    ("/ui/static/{name}", "frame", "static"),
)
"""The path of each page, its module in this package, and its handler in the module."""


def routes() -> list[web.RouteDef]:
    pages = [web.get(path, _handler(module, name)) for path, module, name in _PAGES]
    refill = web.post("/ui/quotas/refill", _handler("quotas", "refill"))
    edit = web.post("/ui/config", _handler("config", "edit"))
    return [web.get("/ui", to_overview), *pages, refill, edit]


def _handler(module: str, name: str) -> Handler:
    """Return a handler that imports its module at the first request."""
    imported: Handler | None = None

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal imported
        if imported is None:
            imported = await asyncio.to_thread(_imported, module, name)
        return await imported(request)

    return handler


def _imported(module: str, name: str) -> Handler:
    """Import and return a handler. Its exceptions become error pages."""
    frame = import_module("gateway.web.dashboard.frame")
    handler: Handler = frame.errors_as_page(getattr(import_module(f"gateway.web.dashboard.{module}"), name))
    return handler


async def to_overview(_request: web.Request) -> web.Response:
    raise web.HTTPFound("/ui/")
