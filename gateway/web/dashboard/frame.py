"""The frame of every page: templates, assets, headers, navigation, and error pages.

The pages show text chosen by clients (models, session ids, agents). A script in such text could call the gateway as an
admin from an admin's browser. So the server renders the pages and escapes every value. The Content-Security-Policy
allows only the gateway's own styles and images, and scripts with the nonce of the page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, wraps
from hashlib import blake2b
from importlib.resources import files
from secrets import token_urlsafe
from time import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from gateway.call.context import GATEWAY, identity_of
from gateway.store.base import Ambiguous, BadCursor, StoreFailed, TooManyCalls, rfc3339
from gateway.web.admin.sessions import Denied, Missing
from gateway.web.dashboard import links, words
from gateway.web.dashboard.visit import reader_zone
from gateway.web.query_parameters import BadQuery
from gateway.web.reports.page_filter import PARAMETERS

if TYPE_CHECKING:
    from jinja2 import Environment

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types irisgate"
)
_HEADERS: Final[Mapping[str, str]] = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Asset(msgspec.Struct, frozen=True):
    content_type: str
    body: bytes

    @property
    def version(self) -> str:
        return blake2b(self.body, digest_size=6).hexdigest()


def _asset(content_type: str, *names: str) -> Asset:
    folder = files("gateway.web.dashboard").joinpath("static")
    return Asset(content_type, b"".join(folder.joinpath(name).read_bytes() for name in names))


ASSETS: Final = {
    "style.css": _asset("text/css", "base.css", "parts.css", "charts.css", "texts.css"),
    "pages.js": _asset("text/javascript", "editor.js", "pages.js"),
    "icon.svg": _asset("image/svg+xml", "icon.svg"),
}


class Entry(NamedTuple):
    """An entry of the navigation."""

    path: str
    label: str
    icon: str
    filtered: bool = True
    """True if the page has the filter of calls. A link to the page then keeps the filter of the present page."""
    admins: bool = False
    """Whether only admins may see the page."""


NAVIGATION: Final = (
    (
        "Usage",
        (
            Entry("/ui/", "Overview", "overview"),
            Entry("/ui/sessions", "Sessions", "sessions"),
            Entry("/ui/people", "People", "people", admins=True),
            Entry("/ui/cache", "Cache", "cache"),
        ),
    ),
    (
        "Gateway",
        (
            Entry("/ui/now", "Now", "now", filtered=False),
            Entry("/ui/errors", "Errors", "errors"),
            Entry("/ui/providers", "Models and providers", "models"),
            Entry("/ui/quotas", "Quotas", "quotas", filtered=False),
            Entry("/ui/config", "Configuration", "config", filtered=False, admins=True),
        ),
    ),
    (
        "Use it",
        (
            Entry("/ui/connect", "Connect", "connect", filtered=False),
            Entry("/ui/access", "Access", "access", filtered=False),
        ),
    ),
)
"""The headings and entries of the navigation."""


async def static(request: web.Request) -> web.Response:
    """Return an asset. Pages link to assets with a version in the URL, so that browsers may cache them for a year."""
    asset = ASSETS.get(request.match_info["name"])
    if asset is None:
        raise web.HTTPNotFound
    cache_control = "public, max-age=31536000, immutable" if request.query.get("v") == asset.version else "no-cache"
    headers = {"cache-control": cache_control, "x-content-type-options": "nosniff"}
    return web.Response(body=asset.body, content_type=asset.content_type, headers=headers)


_PROBLEMS: Final[Mapping[type[Exception], tuple[int, str]]] = {
    Denied: (403, "No access"),
    Missing: (404, "Not found"),
    BadQuery: (400, "The URL has a wrong parameter"),
    BadCursor: (400, "The URL has a wrong parameter"),
    TooManyCalls: (400, "Too many calls for these figures"),
    Ambiguous: (409, "Whose session?"),
    StoreFailed: (503, "The records cannot be read now"),
}


def errors_as_page(handler: Handler) -> Handler:
    """Return a handler that converts the exceptions of `handler` to error pages."""

    @wraps(handler)
    async def telling(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except tuple(_PROBLEMS) as error:
            status, title = _PROBLEMS[type(error)]
            message = str(error)
            if isinstance(error, StoreFailed):
                request.app[GATEWAY].log.error("store.read_failed", reason=message)
                message = "The gateway goes on serving calls; its log says what is wrong with the store."
            return await page(
                request, "problem.html", status, title=title, message=message,
                owners=_owners(error) if isinstance(error, Ambiguous) else {},
            )  # fmt: skip

    return telling


def _owners(error: Ambiguous) -> dict[str, str]:
    """Return the URLs of the pages of all sessions with an ambiguous id. The keys are the logins of the sessions'
    owners.
    """
    return {identity: links.session_href(error.session_id, identity) for identity in error.identities}


async def page(request: web.Request, template: str, status: int = 200, **values: Any) -> web.Response:
    """Return a page. A thread renders it, since two hundred rows would block the event loop for too long."""
    identity = identity_of(request)
    role = request.app[GATEWAY].runtime.grants.access(identity).role if identity else None
    nonce = token_urlsafe(16)
    common = {
        "current": request.path,
        "kept": _kept(request),
        "navigation": NAVIGATION,
        "login": identity.login if identity else "",
        "role": role or "",
        "admin": role == "admin",
        "now": time(),
        "zone": reader_zone(request),
        "nonce": nonce,
        "versions": {name: asset.version for name, asset in ASSETS.items()},
    }
    text = await asyncio.to_thread(_rendered, template, {**common, **values})
    headers = {**_HEADERS, "content-security-policy": f"{_POLICY}; script-src 'nonce-{nonce}'"}
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


async def problem_page(request: web.Request, status: int, title: str, message: str) -> web.Response:
    """Return an error page."""
    return await page(request, "problem.html", status, title=title, message=message, owners={})


def _kept(request: web.Request) -> str:
    """Return the query string that keeps the filter in links to other pages, or "" if the request has no filter."""
    kept = {name: request.query[name] for name in PARAMETERS if request.query.get(name)}
    return f"?{urlencode(kept, errors='replace')}" if kept else ""


def _rendered(template: str, values: Mapping[str, Any]) -> str:
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 (calls do without pages)

    environment = Environment(
        loader=PackageLoader("gateway.web", "dashboard/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "money": words.money,
        "exact": words.exact,
        "decimal": words.decimal,
        "count": words.count,
        "short": words.short,
        "percent": words.percent,
        "brief": words.brief,
        "clock": words.clock,
        "ago": words.ago,
        "percentile": words.percentile,
        "seconds": words.seconds,
        "span": words.span,
        "rfc3339": rfc3339,
        "outcome_css": words.outcome_css,
        "session_href": links.session_href,
        "call_href": links.call_href,
    }
    return environment
