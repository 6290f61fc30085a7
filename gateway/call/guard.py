"""aiohttp middlewares in front of every route: request id, cross-site guard, identity, and errors in plain JSON.

A request that a proxy and the gateway could interpret differently is refused with 400. Examples are a request target
that includes a host, and an unusual transfer coding.

Callers are identified by their network address. So any web page that is open on a caller's machine could send requests
as that caller. Therefore every route except the health checks refuses requests whose Host or Origin is not this
gateway's, and requests that the browser marks as cross-site. The check of Host prevents DNS rebinding.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from os import urandom
from time import time_ns
from typing import Any, Final, NamedTuple

import msgspec
import orjson
from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.typedefs import Middleware
from multidict import MultiMapping

from gateway.access.identity.caller import Caller
from gateway.access.identity.modes import Modes
from gateway.call.context import IDENTITY, REQUEST_ID, Gateway
from gateway.contract.errors import PERMISSION, STATUS, Problem, Refused
from gateway.contract.provider_errors import error_headers
from gateway.contract.small_cache import small_cache
from gateway.telemetry.throttle import Throttle

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_LOCAL: Final = frozenset({"localhost"})
_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
"""The default ports of the URL schemes that an origin of this gateway can have."""
_PLACE: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?)\.?)"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


class Guard(msgspec.Struct, frozen=True):
    """The checks of every request, before anything else is done with it."""

    gateway: Gateway
    modes: Modes
    refusals: Throttle = msgspec.field(default_factory=Throttle)

    def ambiguous(self, request: web.Request) -> web.Response | None:
        """Return the reply to a request that a proxy may read differently from the gateway, or None for any other
        request.

        The connection is closed after the reply. Log lines are rate-limited.
        """
        if not (fault := ambiguous(request)):
            return None
        if count := self.refusals.due(_AMBIGUOUS):
            request_id = request[REQUEST_ID]
            self.gateway.log.warning("http.error", kind=_AMBIGUOUS, request_id=request_id, count=count)
        response = json_error(400, fault)
        self.complete_head(request, response)
        response.force_close()
        return response

    async def identify(self, request: web.Request) -> Refused | asyncio.CancelledError | None:
        """Identify the caller, and put the identity into the request. Return None if this succeeds.

        Otherwise return the exception, without raising it: `Refused` for a request from a page of another site or from
        an unknown caller, or `CancelledError` if the client has disconnected.
        """
        hosts = self.gateway.runtime.config.server.hosts
        refused = cross_site(request.headers, hosts, served=self.modes.is_served(_local(request)))
        if refused is not None:
            return refused
        try:
            request[IDENTITY] = await self.modes.identify(caller_of(request))
        except (Refused, asyncio.CancelledError) as error:
            return error
        return None

    def complete_head(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the headers that every reply has.

        If this process is stopping or being replaced, also mark the connection to be closed after the reply.
        """
        response.headers["x-request-id"] = request[REQUEST_ID]
        response.headers["server"] = "irisgate"
        if self.gateway.is_leaving:
            response.force_close()


def middlewares(guard: Guard) -> list[Middleware]:
    """Return the middlewares of the application, the outermost first. Calls do not pass through them
    (`call_routes.py`).
    """

    @web.middleware
    async def request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[REQUEST_ID] = new_id()
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = _json_response(error)
        if not response.prepared:
            guard.complete_head(request, response)
        return response

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (response := guard.ambiguous(request)) is not None:
            return response
        if request.path in _OPEN:
            return await handler(request)
        ended = await guard.identify(request)
        if ended is None:
            return await handler(request)
        if isinstance(ended, Refused):
            return _response_for(ended.problem)
        raise ended

    return [request_id, guarded]


_OPEN: Final = frozenset({"/healthz", "/readyz"})
"""Routes that need no identified caller, because monitoring systems request them. Their replies reveal nothing of the
configuration.
"""


def _local(request: web.Request) -> Any:
    """Return the address of the gateway's end of the connection, or "" for a closed connection."""
    return request.transport.get_extra_info("sockname") if request.transport else ""


def caller_of(request: web.Request) -> Caller:
    """Return the properties of a request and its connection that identify the caller.

    For a closed connection, the result has neither addresses nor headers.
    """
    transport = request.transport
    if transport is None:
        return Caller(None, "", "", ())
    ends = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    # the streams of an HTTP/2 connection share their connection
    return Caller(transport.get_extra_info("connection", transport), *ends, tuple(request.headers.items()))


def ambiguous(request: web.BaseRequest) -> str:
    """Return the reason why a proxy and aiohttp may interpret a request differently, or "" if there is none.

    aiohttp accepts these forms of requests, but some proxies read them in another way:

    - An HTTP version other than 1.0 and 1.1.
    - An absolute target. Its host would replace the Host header (RFC 9112, 3.2.2).
    - A fragment in the target.
    - Transfer codings other than a single `chunked`, and any transfer coding in HTTP/1.0.
    - A repeated header of `_SINGLE`.
    """
    if repeated := _repeated(request.headers):
        return f"the header {repeated} is there more than once; send it once"
    if request.version not in _VERSIONS:
        return "the request is of a version of HTTP that is not spoken here; use HTTP/1.1"
    if not request.raw_path.startswith("/") or "#" in request.raw_path:
        return "the request's target is no path; send the path and the query alone"
    codings = [coding.lower() for coding in request.headers.getall("Transfer-Encoding", ())]
    if codings and (codings != ["chunked"] or request.version != HttpVersion11):
        return "the request's Transfer-Encoding is not taken; there is chunked, in HTTP/1.1"
    return ""


def _repeated(headers: MultiMapping[str]) -> str:
    """Return the first header of `_SINGLE` that is repeated in the request, or "" if there is none."""
    if len(set(map(str.lower, headers))) == len(headers):  # no header is repeated, as in nearly all requests
        return ""
    return next((name for name in _SINGLE if len(headers.getall(name, ())) > 1), "")


_AMBIGUOUS: Final = "AmbiguousRequest"
_SINGLE: Final = ("Host", "Origin", "Content-Type", "Sec-Fetch-Site")
"""Headers that decide how a request is handled. If one of them is repeated, a proxy and the gateway could use different
values."""
_VERSIONS: Final = frozenset({HttpVersion10, HttpVersion11})


def cross_site(headers: Mapping[str, str], hosts: Collection[str], *, served: bool = False) -> Refused | None:
    """Return the refusal of a request that comes from a web page of another origin, or whose Host is not this
    gateway's. Return None for an allowed request.

    `served` is True for a listener behind `tailscale serve`. `tailscale serve` sets Host to `localhost`, and
    X-Forwarded-Host to the host that the client called. Then Origin is compared with X-Forwarded-Host. Clients cannot
    forge this header, because `tailscale serve` removes it from their requests.
    """
    host = headers.get("Host", "")
    place = _place(host)
    if place is None or not (place.name in hosts or place.name in _LOCAL or place.address):
        return _refusal(
            f'host "{_header_start(host)}" is not one of this gateway\'s; add it to "server": {{"hosts": [...]}}'
        )
    called = _place(headers.get("X-Forwarded-Host", host)) if served else place
    origin = headers.get("Origin")
    if origin is not None and not (called and _same(origin, called)):
        return _refusal(f'origin "{_header_start(origin)}" is not this gateway\'s')
    if headers.get("Sec-Fetch-Site") == "cross-site":
        return _refusal("the request comes from a page of another site")
    return None


def _refusal(message: str) -> Refused:
    return Refused(Problem(PERMISSION, f"access denied: {message}"))


def _header_start(value: str) -> str:
    """Return the first 100 characters of a header's value, for an error message. Other characters than ASCII become
    "?", because the message must be valid UTF-8.
    """
    return value[:100].encode("ascii", "replace").decode()


class _Place(NamedTuple):
    """The host and port of a `Host` header, or of an origin without its scheme."""

    name: str
    """The host name in lower case, or the IP address in its shortest form."""
    port: int | None
    address: bool


@small_cache(256, 300)
def _place(text: str) -> _Place | None:
    """Return the host and port in `text`, or None if the text has another form or is not ASCII.

    The host is a name, an IPv4 address or a bracketed IPv6 address. URL parsers are not used, because they correct
    malformed input (full-width digits, `/..`) differently from browsers.
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
    """Return a new unique id for a request.

    The id begins with the time in milliseconds. So later ids are greater, and a database index of ids only grows at its
    end.
    """
    return f"req_{time_ns() // 1_000_000:012x}{_random_bytes.take(_RANDOM).hex()}"


class _RandomBytes:
    """Source of random bytes for ids. It fetches many bytes at once, because a system call for each id would be
    slow.
    """

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._bytes):
            self._bytes, self._at = urandom(4096), 0
        self._at += size
        return self._bytes[self._at - size : self._at]


_RANDOM: Final = 6
"""Number of random bytes in an id."""
_random_bytes: Final = _RandomBytes()


def json_error(status: int, message: str) -> web.Response:
    """Return an error reply in the gateway's own JSON form, which belongs to no API format."""
    return web.Response(status=status, body=orjson.dumps({"error": message}), content_type="application/json")


def _response_for(problem: Problem) -> web.Response:
    response = json_error(STATUS[problem.code], problem.message)
    response.headers.update(error_headers(problem))
    return response


def _json_response(error: web.HTTPException) -> web.StreamResponse:
    """Return the reply for an exception of aiohttp: an error in JSON (no such route, wrong method), or a redirect.

    aiohttp has deprecated the use of the exception itself as the reply.
    """
    if error.status < 400:
        return web.Response(status=error.status, headers={"location": error.headers["Location"]})
    headers = {"allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    response = json_error(
        error.status, f"{error.reason or 'error'}: deploy/compatibility.md lists this gateway's routes"
    )
    response.headers.update(headers)
    return response
