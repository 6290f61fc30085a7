"""The pages at /ui/: providers with their models, sessions, and the calls of a session.

The pages show text chosen by clients (models, session ids, agents). A script in such text could call the gateway as an
admin from an admin's browser. So the pages are rendered on the server, have no script, and have a
Content-Security-Policy that allows only the gateway's own styles, images and forms. `web/admin/sessions.py` decides
which rows a caller may see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from hashlib import blake2b
from importlib.resources import files
from time import time
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from gateway.call.context import GATEWAY, Gateway, identity_of
from gateway.store.base import Ambiguous, BadCursor, StoreFailed, rfc3339
from gateway.web.admin.filters import PAGING, SESSION_FILTERS, filters
from gateway.web.admin.sessions import Denied, Missing, Scope, limit_of, scope
from gateway.web.dashboard import views, words
from gateway.web.query_parameters import BadQuery, check_names

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
PLACEHOLDER: Final = "<model>"

Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Asset:
    content_type: str
    body: bytes

    @property
    def version(self) -> str:
        return blake2b(self.body, digest_size=6).hexdigest()


def _asset(name: str, content_type: str) -> Asset:
    return Asset(content_type, files("gateway.web.dashboard").joinpath(name).read_bytes())


ASSETS: Final = {"style.css": _asset("style.css", "text/css"), "icon.svg": _asset("icon.svg", "image/svg+xml")}


def routes() -> list[web.RouteDef]:
    return [
        web.get("/ui", to_providers),
        web.get("/ui/", _errors_as_page(providers)),
        web.get("/ui/sessions", _errors_as_page(sessions)),
        web.get("/ui/sessions/{id}", _errors_as_page(session)),
        web.get("/ui/static/{name}", static),
    ]


async def to_providers(_request: web.Request) -> web.Response:
    raise web.HTTPFound("/ui/")


async def static(request: web.Request) -> web.Response:
    """Return an asset. Pages link to assets with a version in the URL, so that browsers may cache them for a year."""
    asset = ASSETS.get(request.match_info["name"])
    if asset is None:
        raise web.HTTPNotFound
    cache_control = "public, max-age=31536000, immutable" if request.query.get("v") == asset.version else "no-cache"
    headers = {"cache-control": cache_control, "x-content-type-options": "nosniff"}
    return web.Response(body=asset.body, content_type=asset.content_type, headers=headers)


async def providers(request: web.Request) -> web.Response:
    seen = scope(request)
    gateway = request.app[GATEWAY]
    config = gateway.runtime.config
    cards = views.provider_cards(
        config.providers.values(), _granted(request), gateway.runtime.prices, gateway.keys, everything=seen.admin
    )
    return await _page(
        request, "providers.html", seen, cards=cards, curl=_curl(request), config_error=_config_error(gateway, seen)
    )


async def sessions(request: web.Request) -> web.Response:
    seen = scope(request)
    check_names(request.query, (*PAGING, "identity", *SESSION_FILTERS))
    cursor = request.query.get("cursor")
    limit = limit_of(request.query)
    where = filters(request.query, SESSION_FILTERS)
    # in an admin's form, an empty field `identity` selects the sessions of all callers
    narrowed = (seen.identity or None) if seen.admin else seen.identity
    page = await request.app[GATEWAY].store.sessions(narrowed, limit, cursor, where)
    query = {name: request.query[name] for name in ("identity", "limit", *SESSION_FILTERS) if request.query.get(name)}
    return await _page(
        request, "sessions.html", seen,
        rows=page.rows, next=page.next, cursor=cursor, parameters=query, curl=_curl(request),
        narrowed=narrowed if seen.admin and narrowed else "", where=where,
    )  # fmt: skip


async def session(request: web.Request) -> web.Response:
    seen = scope(request)
    store = request.app[GATEWAY].store
    name = request.match_info["id"]
    row = await store.session(seen.identity, name)
    if row is None:
        raise Missing(f'There is no session "{name[:200]}", or it is not yours.')
    cursor = request.query.get("cursor")
    page = await store.calls(row.identity, row.id, limit_of(request.query), cursor)
    return await _page(request, "session.html", seen, session=row, rows=page.rows, next=page.next, cursor=cursor)


def _granted(request: web.Request) -> dict[tuple[str, str], None]:
    runtime = request.app[GATEWAY].runtime
    identity = identity_of(request)
    offers = runtime.catalog.visible(runtime.grants.access(identity)) if identity else []
    return dict.fromkeys((offer.provider_id, offer.model) for offer in offers)


def _curl(request: web.Request) -> str:
    """Return a `curl` command for a model that is granted to the caller, or for `PLACEHOLDER` if none is granted."""
    model = next((model for _, model in _granted(request)), PLACEHOLDER)
    return views.curl(f"{request.scheme}://{request.host}", model)


def _config_error(gateway: Gateway, seen: Scope) -> str:
    return gateway.config_error if seen.admin else ""


_PROBLEMS: Final[Mapping[type[Exception], tuple[int, str]]] = {
    Denied: (403, "No access"),
    Missing: (404, "Not found"),
    BadQuery: (400, "This address is not right"),
    BadCursor: (400, "This address is not right"),
    Ambiguous: (409, "Whose session?"),
    StoreFailed: (503, "The records cannot be read now"),
}


def _errors_as_page(handler: Handler) -> Handler:
    """Return a handler that converts the exceptions of `handler` to error pages."""

    @wraps(handler)
    async def telling(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except tuple(_PROBLEMS) as error:
            status, title = _PROBLEMS[type(error)]
            message = str(error)
            if isinstance(error, StoreFailed):
                request.app[GATEWAY].log.error("store.read_failed", reason=message)
                message = "The gateway goes on serving calls; its log says what is wrong with the store."
            identities = error.identities if isinstance(error, Ambiguous) else ()
            return await _page(
                request, "problem.html", None, status, title=title, message=message, identities=identities
            )

    return telling


async def _page(
    request: web.Request, template: str, seen: Scope | None, status: int = 200, **values: Any
) -> web.Response:
    """Return a page. A thread renders it, since two hundred rows would block the event loop for too long."""
    identity = identity_of(request)
    common = {
        "path": request.path,
        "login": identity.login if identity else "",
        "role": seen.role if seen else "",
        "admin": seen.admin if seen else False,
        "now": time(),
        "versions": {name: asset.version for name, asset in ASSETS.items()},
    }
    text = await asyncio.to_thread(_environment().get_template(template).render, {**common, **values})
    return web.Response(status=status, text=text, content_type="text/html", headers=HEADERS)


async def problem_page(request: web.Request, status: int, title: str, message: str) -> web.Response:
    """Return a page that says what went wrong."""
    return await _page(request, "problem.html", None, status, title=title, message=message, identities=())


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("gateway.web", "dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "money": words.money,
        "exact": words.exact,
        "count": words.count,
        "utc": words.utc,
        "ago": words.ago,
        "seconds": words.seconds,
        "rfc3339": rfc3339,
    }
    return environment
