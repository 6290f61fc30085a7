"""aiohttp middlewares in front of every route: request id, cross-site guard, identity, and errors in plain JSON.

What two programs could read in two ways (another host in the target, an unusual coding of the body) is a 400. And
since the network is the identity, any web page that is open on a caller's machine is a caller too. So a Host that is
not ours (DNS rebinding), a foreign Origin, and what a browser itself calls cross-site are refused on every route.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import lru_cache
from time import time_ns
from typing import Final, NamedTuple

import orjson
from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.typedefs import Middleware

from gateway.access.identity.caller import Caller
from gateway.access.identity.modes import Modes
from gateway.call.context import GATEWAY, IDENTITY, REFUSED, REQUEST_ID
from gateway.contract.errors import PERMISSION, STATUS, Problem, Refused
from gateway.contract.json_api import error_headers

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_LOCAL: Final = frozenset({"localhost"})
_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
"""The schemes that an origin of ours may have, and the port that each means when it says none."""
_PLACE: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?)\.?)"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


def middlewares(calls: Collection[web.AbstractRoute], modes: Modes) -> list[Middleware]:
    """Outermost first. `calls` are the routes whose refusals the server says in the client's dialect."""

    @web.middleware
    async def request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[REQUEST_ID] = new_id()
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = _json_response(error)
        if not response.prepared:
            response.headers["x-request-id"] = request[REQUEST_ID]
            response.headers["server"] = "irisgate"
        return response

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if fault := ambiguous(request):
            response = json_error(400, fault)
            response.force_close()
            return response
        hosts = request.app[GATEWAY].runtime.config.server.hosts
        refused = cross_site(request.headers, hosts)
        if request.path not in _OPEN and refused is None:
            try:
                request[IDENTITY] = await modes.identify(_caller(request))
            except Refused as error:
                refused = error
        if refused is None or request.path in _OPEN:
            return await handler(request)
        if request.match_info.route in calls:
            request[REFUSED] = refused
            return await handler(request)
        return _response_for(refused.problem)

    return [request_id, guard]


_OPEN: Final = frozenset({"/healthz", "/readyz"})
"""Say nothing of the configuration, and are asked by monitors that have no identity."""


def _caller(request: web.Request) -> Caller:
    """Return what the connection and the request tell about their sender. A connection that is gone has no end here."""
    transport = request.transport
    if transport is None:
        return Caller(None, "", "", ())
    ends = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    return Caller(transport, *ends, tuple(request.headers.items()))


def ambiguous(request: web.BaseRequest) -> str:
    """Return the fault of a request that aiohttp accepts and another program on the way may read differently; or "".

    aiohttp lets these pass (peers.md 5.2): versions that do not exist here, an absolute target, whose host would
    replace the Host header's (RFC 9112, 3.2.2), a fragment in the target, and codings before `chunked`.
    """
    if request.version not in _VERSIONS:
        return "the request is of a version of HTTP that is not spoken here; use HTTP/1.1"
    if not request.raw_path.startswith("/") or "#" in request.raw_path:
        return "the request's target is no path; send the path and the query alone"
    codings = [coding.lower() for coding in request.headers.getall("Transfer-Encoding", ())]
    if codings and (codings != ["chunked"] or request.version != HttpVersion11):
        return "the request's Transfer-Encoding is not taken; there is chunked, in HTTP/1.1"
    return ""


_VERSIONS: Final = frozenset({HttpVersion10, HttpVersion11})


def cross_site(headers: Mapping[str, str], hosts: Collection[str]) -> Refused | None:
    """Refuse what a web page of another origin sent, and names that are not this gateway's."""
    host = headers.get("Host", "")
    place = _place(host)
    if place is None or not (place.name in hosts or place.name in _LOCAL or place.address):
        return _refusal(
            f'host "{_header_start(host)}" is not one of this gateway\'s; add it to "server": {{"hosts": [...]}}'
        )
    origin = headers.get("Origin")
    if origin is not None and not _same(origin, place):
        return _refusal(f'origin "{_header_start(origin)}" is not this gateway\'s')
    if headers.get("Sec-Fetch-Site") == "cross-site":
        return _refusal("the request comes from a page of another site")
    return None


def _refusal(message: str) -> Refused:
    return Refused(Problem(PERMISSION, f"access denied: {message}"))


def _header_start(value: str) -> str:
    """Return the beginning of a header. Bytes that are no UTF-8 could not be sent back as JSON."""
    return value[:100].encode("ascii", "replace").decode()


class _Place(NamedTuple):
    """The host that `Host`, or the rest of an origin, names."""

    name: str
    """The name in lower case; an address in its shortest form."""
    port: int | None
    address: bool


@lru_cache(maxsize=256)
def _place(text: str) -> _Place | None:
    """Return a name, IPv4 or bracketed IPv6 address with or without a port, in ASCII; None for anything else.

    No URL parser is used: parsers repair what they read (full-width digits, `/..`), a browser differently.
    """
    match = _PLACE.fullmatch(text)
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 1 <= port <= 65535:
        return None
    if match["six"] is None:
        name = match["name"].lower()
        return _Place(name, port, _is_address(name))
    try:
        return _Place(str(ipaddress.IPv6Address(match["six"])), port, address=True)
    except ValueError:
        return None


def _same(origin: str, host: _Place) -> bool:
    scheme, separator, rest = origin.partition("://")
    if not separator or scheme not in _PORTS or (place := _place(rest)) is None:
        return False
    default = _PORTS[scheme]
    return (place.name, place.port or default) == (host.name, host.port or default)


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def new_id() -> str:
    """Unique, and later ones are greater: an index of them grows at its end, not all over."""
    return f"req_{time_ns() // 1_000_000:012x}{secrets.token_hex(6)}"


def json_error(status: int, message: str) -> web.Response:
    """Return an error outside of any dialect."""
    return web.Response(status=status, body=orjson.dumps({"error": message}), content_type="application/json")


def _response_for(problem: Problem) -> web.Response:
    response = json_error(STATUS[problem.code], problem.message)
    response.headers.update(error_headers(problem))
    return response


def _json_response(error: web.HTTPException) -> web.StreamResponse:
    """Return aiohttp's own errors (no such route, wrong method) as JSON, and redirects with their target.

    An exception itself must not be returned: aiohttp deprecates that.
    """
    if error.status < 400:
        return web.Response(status=error.status, headers={"location": error.headers["Location"]})
    headers = {"allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    response = json_error(error.status, f"{error.reason or 'error'}: see the README for this gateway's routes")
    response.headers.update(headers)
    return response
