"""The routes of the pages at /ui/.

Each page has a module of its own. `frame.py` has the parts that all pages share.
"""

from __future__ import annotations

from aiohttp import web

from gateway.web.dashboard.access import access
from gateway.web.dashboard.cache import cache
from gateway.web.dashboard.calls import call
from gateway.web.dashboard.config import config, edit
from gateway.web.dashboard.connect import connect
from gateway.web.dashboard.errors import errors
from gateway.web.dashboard.find import find
from gateway.web.dashboard.frame import Handler, errors_as_page, static
from gateway.web.dashboard.live import live
from gateway.web.dashboard.now import now
from gateway.web.dashboard.overview import overview
from gateway.web.dashboard.people import people
from gateway.web.dashboard.providers import providers
from gateway.web.dashboard.quotas import quotas, refill
from gateway.web.dashboard.sessions import session, sessions

_PAGES: tuple[tuple[str, Handler], ...] = (
    ("/ui/", overview),
    ("/ui/providers", providers),
    ("/ui/now", now),
    ("/ui/errors", errors),
    ("/ui/people", people),
    ("/ui/cache", cache),
    ("/ui/sessions", sessions),
    ("/ui/sessions/{id}", session),
    ("/ui/session", session),
    ("/ui/calls", call),
    ("/ui/quotas", quotas),
    ("/ui/config", config),
    ("/ui/connect", connect),
    ("/ui/access", access),
    ("/ui/find", find),
    ("/ui/live", live),
)


def routes() -> list[web.RouteDef]:
    pages = [web.get(path, errors_as_page(handler)) for path, handler in _PAGES]
    pages.append(web.post("/ui/quotas/refill", errors_as_page(refill)))
    pages.append(web.post("/ui/config", errors_as_page(edit)))
    return [web.get("/ui", to_overview), *pages, web.get("/ui/static/{name}", static)]


async def to_overview(_request: web.Request) -> web.Response:
    raise web.HTTPFound("/ui/")
