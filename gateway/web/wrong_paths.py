"""Error responses for paths without a route, in the format of the API that the client probably meant to call.

- The plugin of each API declares the paths and headers of the API's clients (`contract/client_api.py`).
- The message names the path that was called. It also names the base URL to set, or the paths that are served.
- If no plugin recognizes the request, the plain JSON error of `call/guard.py` is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from aiohttp import web

from gateway.call.context import GATEWAY, REQUEST_ID, identity_of
from gateway.call.error_replies import error_reply
from gateway.contract.client_api import ClientApi, Slip, slip_of
from gateway.contract.errors import NO_ROUTE, GatewayError, Problem
from gateway.contract.registry import Plugin, Registry

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_SHOWN: Final = 200
"""Maximum number of characters that an error message quotes from the request's method and path."""


@web.middleware
async def wrong_paths(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return an error in the format of the client's API if no route matches the path or the method."""
    try:
        return await handler(request)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        if request.match_info.http_exception is None:
            raise
        answer = _answer(request, error)
        # the request is not a call and gets no record, so it is logged here
        request.app[GATEWAY].log.info(
            "request.no_route", request_id=request[REQUEST_ID], method=request.method, path=_shown(request.path),
            status=error.status, identity=identity.login if (identity := identity_of(request)) else "",
        )  # fmt: skip
        if answer is None:
            raise
        return answer


def in_dialect(request: web.Request, problem: Problem, otherwise: Plugin) -> web.Response:
    """Return an error response in the format of the API whose client sent the request.

    Some headers are sent only by the clients of one API. If the request has none of these headers, the plugin
    `otherwise` determines the format.
    """
    flags = request.app[GATEWAY].registry.flags.values()
    shown = (
        flag for flag in flags if flag.client_api and any(name in request.headers for name in flag.client_api.headers)
    )
    return _said(request, next(shown, otherwise), problem)


def _answer(request: web.Request, error: web.HTTPException) -> web.Response | None:
    registry = request.app[GATEWAY].registry
    plugin, slip = _recognized(registry, request.path, request.headers)
    if plugin is None or plugin.client_api is None:
        return None
    called = _shown(f"{request.method} {request.path}")
    if isinstance(error, web.HTTPMethodNotAllowed):
        response = _said(request, plugin, Problem(NO_ROUTE, f"{called}: send it with {error.headers['Allow']}"))
        response.set_status(error.status)
        response.headers["allow"] = error.headers["Allow"]
        return response
    api = plugin.client_api
    base = api.bases[0]
    # below the right base URL, the path itself is what is wrong
    is_unserved = slip.template in api.paths if slip else bool(base) and request.path.startswith(f"{base}/")
    if is_unserved:
        served = ", ".join(_served(registry, api))
        return _said(request, plugin, Problem(NO_ROUTE, f"{called} is not served by this gateway; it serves {served}"))
    url = f"{request.scheme}://{request.host}{slip.base if slip else base}"
    return _said(request, plugin, Problem(NO_ROUTE, f"{called} is no path of this gateway; set {api.setting} to {url}"))


def _recognized(registry: Registry, path: str, headers: Mapping[str, str]) -> tuple[Plugin | None, Slip | None]:
    """Return the plugin of the API whose client probably sent the request, and the path that the client should have
    used. Either is None if it is not known.

    Some headers are sent only by the clients of one API. If the request has such a header, only this API can be the
    result. If not, the result is the first API that has a path like `path`.
    """
    known = [(plugin, plugin.client_api) for plugin in registry.flags.values() if plugin.client_api is not None]
    marked = [(plugin, api) for plugin, api in known if any(name in headers for name in api.headers)]
    for plugin, api in marked or known:
        if slip := slip_of(path, [route.path for route in plugin.routes], api.bases):
            return plugin, slip
    for plugin, api in marked or known:
        if slip := slip_of(path, api.paths, api.bases):
            return plugin, slip
    return (marked[0][0], None) if marked else (None, None)


def _served(registry: Registry, api: ClientApi) -> list[str]:
    """Return the method and path of each route that clients of an API may call. Paths outside of the API's usual base
    URL are left out.
    """
    routes = [route for plugin in registry.flags.values() if plugin.client_api == api for route in plugin.routes]
    served = (f"{route.method} {route.path}" for route in routes if route.path.startswith(f"{api.bases[0]}/"))
    return list(dict.fromkeys(text.replace("{model:.+}", "MODEL") for text in served))


def _said(request: web.Request, plugin: Plugin, problem: Problem) -> web.Response:
    request_id = request[REQUEST_ID]
    report = partial(request.app[GATEWAY].reports.report, request_id=request_id)
    status, headers, body = error_reply(plugin, request_id, GatewayError(problem), report)
    return web.Response(status=status, headers=headers, body=body)


def _shown(text: str) -> str:
    safe = text.encode("ascii", "replace").decode()
    return safe if len(safe) <= MAX_SHOWN else f"{safe[:MAX_SHOWN]}..."
