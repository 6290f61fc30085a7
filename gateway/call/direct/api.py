"""Reads the requests below `/direct/{provider}/`, and writes the errors for their clients.

The module has the same functions as the plugin of an API format, so `call/server.py` serves these requests like any
other call. But the module is no plugin, and the configuration cannot enable it for a provider.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Final
from urllib.parse import unquote_plus

from gateway.call.direct.headers import for_provider
from gateway.call.direct.paths import ROOT, direct_path
from gateway.call.operations import DIRECT, READ
from gateway.contract.codecs import Encoder
from gateway.contract.errors import Problem, Refused, invalid
from gateway.contract.facts import Facts
from gateway.contract.flag import (
    OPAQUE,
    ClientRequest,
    Drop,
    Event,
    Head,
    HttpRequest,
    Members,
    Meter,
    Route,
    Target,
    UpstreamRequest,
)
from gateway.contract.registry import Plugin, load_plugin
from gateway.contract.route_paths import METHODS

api = 1
dialects = (OPAQUE,)
routes = tuple(Route(method, f"{ROOT}{{provider}}/{{path:.*}}", DIRECT) for method in METHODS)

_READS: Final = frozenset({"GET"})
_CREDENTIALS: Final = frozenset(
    {
        "key", "api_key", "apikey", "api-key", "access_token", "auth_token", "token", "sig", "signature",
        "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-security-token", "x-amz-signature",
        "x-amz-signedheaders",
    }
)  # fmt: skip
"""Parameters of a query in which clients send a credential. A parameter such as `nextToken` is not a credential."""
_JSON: Final = "application/json"


def parse(request: HttpRequest) -> ClientRequest:
    """Return the parsed request. Raises `Refused` for a path that providers could read in several ways, and for the
    header `upgrade`, which asks for another protocol.
    """
    direct_path(request.path)
    if "upgrade" in request.headers:
        raise invalid("the header upgrade asks for another protocol; only HTTP/1.1 is passed on", "upgrade")
    return ClientRequest(
        flag=DIRECT,
        dialect=OPAQUE,
        operation=READ if request.route.method in _READS else DIRECT,
        method=request.route.method,
        path=request.path,
        query=_without_credentials(request.query),
        headers=request.headers,
        top=_top(request),
        model="",
        stream=False,
    )


class _PlainBody(Members):
    """A request body that need not be JSON. It counts as a body without JSON members."""

    __slots__ = ()

    def __init__(self, body: bytes) -> None:
        self.body = self.shortened = body
        self.has_halves = False
        self._mentioned, self._may_hide_names = {}, None
        self._spans, self._short = {}, None


def _top(request: HttpRequest) -> Members:
    """Return the keys and values of a body that is a JSON object. For any other body, return a `_PlainBody`, which has
    no keys.

    A body that begins with `{` may be malformed, or may repeat a key. Raises `Refused` for such a body if its content
    type is JSON.
    """
    body = request.body
    if body.lstrip()[:1] != b"{":
        return _PlainBody(body)
    try:
        return Members(body)
    except Refused:
        if request.headers.get("content-type", "").lower().startswith(_JSON):
            raise
        return _PlainBody(body)


def _without_credentials(query: str) -> str:
    return "&".join(
        part for part in query.split("&") if unquote_plus(part.partition("=")[0]).lower() not in _CREDENTIALS
    )


def build(request: ClientRequest, _target: Target, _drop: Drop) -> UpstreamRequest:
    """Return the request for the provider: the client's own request, with the headers that are passed on."""
    path = direct_path(request.path).rest
    return UpstreamRequest(request.method, path, request.top.body, request.query, for_provider(request.headers))


class _NoMeter:
    """The meter (usage reader) for replies whose format is not known. It reads nothing."""

    def feed(self, _event: Event) -> None:
        """Read nothing, because the format of the reply is not known."""

    def whole(self, _body: bytes) -> None:
        """Read nothing, because the format of the reply is not known."""

    def facts(self) -> Facts:
        return Facts()


def meter(_request: ClientRequest, _target: Target, _head: Head) -> Meter:
    return _NoMeter()


class _AsItIs:
    """The encoder of replies that are passed on unchanged.

    It writes nothing of its own, not even an error. If a reply breaks off, the connection is closed, so that no client
    takes the reply for complete.
    """

    def feed(self, _event: Event) -> bytes:
        return b""

    def whole(self, body: bytes) -> bytes:
        return body

    def ping(self) -> bytes:
        return b""

    def fail(self, _problem: Problem) -> bytes:
        return b""

    def close(self) -> bytes:
        return b""


def encoder(_request: ClientRequest) -> Encoder:
    return _AsItIs()


@cache
def direct_api() -> Plugin:
    """Return this module as a loaded plugin. It is checked once, because the checks take milliseconds."""
    return load_plugin(DIRECT, sys.modules[__name__])
