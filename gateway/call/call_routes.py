"""Passes calls from their connections directly to `server.py`, without aiohttp's router and middlewares.

aiohttp's router, middlewares and `Response` objects would take an eighth of a call's time. Only requests for pages and
for the gateway's own API go through them. The same `Guard` checks calls and all other requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import msgspec
from aiohttp import web

from gateway.call.context import REQUEST_ID
from gateway.call.guard import Guard, new_id
from gateway.call.reply import Reply
from gateway.call.server import Server
from gateway.contract.flag import Route
from gateway.contract.registry import Plugin

Others = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""The handler of all requests that are not calls: aiohttp's application."""


class _Target(msgspec.Struct, frozen=True):
    """A route of an API: its plugin (`flag`), its aiohttp route, and the server that handles its requests."""

    flag: Plugin
    route: Route
    http: web.AbstractRoute
    server: Server


class CallRoutes(msgspec.Struct, frozen=True):
    """The routes of all APIs. They are also added to `router`, the router of the application."""

    server: Server
    guard: Guard
    router: web.UrlDispatcher
    _plain: dict[tuple[str, str], _Target] = msgspec.field(default_factory=dict)
    """Routes whose path has no parameters, by method and path."""
    _all: dict[web.AbstractRoute, _Target] = msgspec.field(default_factory=dict)

    def add(self, flag: Plugin, route: Route, server: Server | None = None) -> None:
        """Add a route of an API. A request with the route's path and another method, for which there is no route, gets
        a 405.

        - `server` serves the requests of the route. If it is None, `CallRoutes.server` serves them.
        - The route is also added with a second slash after the base URL. Some clients send it if the base URL in their
          settings ends with a slash (AWS's SDK for JavaScript).
        """
        for path in (route.path, *_doubled(flag, route.path)):
            http = self.router.add_route(route.method, path, _not_reached)
            self._all[http] = target = _Target(flag, route, http, server or self.server)
            if "{" not in path:
                self._plain[route.method, path] = target

    async def handle(self, others: Others, request: web.Request) -> web.StreamResponse | Reply:
        """Return the response to a request. A request that is not a call is passed on to `others`."""
        params: Mapping[str, str] = {}
        target = self._plain.get((request.method, request.raw_path.partition("?")[0]))
        if target is None:
            match = await self.router.resolve(request)
            target, params = self._all.get(match.route), match
        if target is None:
            return await others(request)
        request[REQUEST_ID] = new_id()
        if (response := self.guard.ambiguous(request)) is not None:
            return response
        if "Expect" in request.headers:
            await target.http.handle_expect_header(request)
            await request.writer.drain()
        ended = await self.guard.identify(request)
        return await target.server.handle(target.flag, target.route, request, params, ended)


def _doubled(flag: Plugin, path: str) -> Iterator[str]:
    """Yield the path of a route with a second slash after the base URL, such as `/v1//models`.

    There is one path for each base URL of the API's clients, and one for the root. `request_parsing.http_request`
    removes the second slash again.
    """
    for base in dict.fromkeys(("", *flag.client_api.bases) if flag.client_api else ()):
        if path.startswith(f"{base}/"):
            yield f"{base}/{path.removeprefix(base)}"


CALL_ROUTES: Final = web.AppKey("call_routes", CallRoutes)


async def _not_reached(_request: web.Request) -> web.StreamResponse:
    raise AssertionError("calls are handled by `CallRoutes.handle`")
