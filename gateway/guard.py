"""aiohttp middlewares in front of every route: request id, cross-site guard, identity, and errors in plain JSON.

Since the network is the identity, any web page that is open on a caller's machine is a caller too. So a Host that is
not ours (DNS rebinding), a foreign Origin, and what a browser itself calls cross-site are refused on every route.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import lru_cache
from typing import Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware
from yarl import URL

from gateway.config.model import Listener
from gateway.context import GATEWAY, IDENTITY, REFUSED, REQUEST_ID
from gateway.errors import PERMISSION, Problem, Refused
from gateway.identity.static import identify

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_LOCAL: Final = frozenset({"localhost"})


def middlewares(calls: Collection[web.AbstractRoute], listeners: Mapping[int | str, Listener]) -> list[Middleware]:
    """Outermost first. `calls` are the routes whose refusals the server says in the client's dialect."""

    @web.middleware
    async def request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[REQUEST_ID] = f"req_{secrets.token_hex(12)}"
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = _plain(error)
        if not response.prepared:
            response.headers["x-request-id"] = request[REQUEST_ID]
            response.headers["server"] = "irisgate"
        return response

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts = request.app[GATEWAY].runtime.config.server.hosts
        refused = cross_site(request.headers, hosts)
        if refused is None:
            refused = _identify(request, listeners)
        if refused is None or request.path in _OPEN:
            return await handler(request)
        if request.match_info.route in calls:
            request[REFUSED] = refused
            return await handler(request)
        return json_error(403, refused.problem.message)

    return [request_id, guard]


_OPEN: Final = frozenset({"/healthz", "/readyz"})
"""Say nothing of the configuration, and are asked by monitors that have no identity."""


def _identify(request: web.Request, listeners: Mapping[int | str, Listener]) -> Refused | None:
    """Put the caller's identity into the request, by the mode of the listener that it came through."""
    transport = request.transport
    local = transport.get_extra_info("sockname") if transport else None
    listener = listeners.get(local[1] if isinstance(local, tuple) else str(local or ""))
    if listener is None:
        return _refused("the caller is not known")
    request[IDENTITY] = identify(listener)
    return None


def cross_site(headers: Mapping[str, str], hosts: Collection[str]) -> Refused | None:
    """Refuse what a web page of another origin sent, and names that are not this gateway's."""
    host = headers.get("Host", "")
    name = _host_name(host)
    if name is None or not (name in hosts or name in _LOCAL or _is_address(name)):
        return _refused(f'host "{host[:100]}" is not one of this gateway\'s; add it to "server": {{"hosts": [...]}}')
    origin = headers.get("Origin")
    if origin is not None and not _same(origin, host):
        return _refused(f'origin "{origin[:100]}" is not this gateway\'s')
    if headers.get("Sec-Fetch-Site") == "cross-site":
        return _refused("the request comes from a page of another site")
    return None


def _refused(message: str) -> Refused:
    return Refused(Problem(PERMISSION, f"access denied: {message}"))


@lru_cache(maxsize=256)
def _host_name(host: str) -> str | None:
    try:
        url = URL(f"http://{host}")
    except ValueError:
        return None
    if url.user or url.path not in {"", "/"} or url.query_string or url.fragment:
        return None
    return (url.host or "").rstrip(".").lower() or None


def _same(origin: str, host: str) -> bool:
    try:
        url = URL(origin)
        ours = URL(f"{url.scheme}://{host}")
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and (url.host, url.port) == (ours.host, ours.port)


@lru_cache(maxsize=256)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def json_error(status: int, message: str) -> web.Response:
    """An error outside of any dialect."""
    return web.Response(status=status, body=orjson.dumps({"error": message}), content_type="application/json")


def _plain(error: web.HTTPException) -> web.StreamResponse:
    """The answers that aiohttp gives itself (no such route, wrong method) as JSON; redirects stay as they are."""
    if error.status < 400:
        return error
    headers = {"allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    response = json_error(error.status, f"{error.reason or 'error'}: see the README for this gateway's routes")
    response.headers.update(headers)
    return response
