"""Error pages in HTML, for browsers whose requests are refused by `call/guard.py` or by the router. If a page's own
handler refuses a request, `frame.py` makes the error page.

Errors of the API and of calls are JSON even for browsers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from importlib import import_module
from typing import Final

import orjson
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_JSON_PATHS: Final = ("/api/", "/aperture/", "/v1/")
_KEPT: Final = ("x-request-id", "server", "allow", "retry-after", "connection")
"""Headers of a JSON error response that are copied to the HTML page when the page replaces the response."""
_TITLES: Final[Mapping[int, str]] = {403: "Refused", 404: "Not found"}


@web.middleware
async def error_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Replace a JSON error response by an HTML page, if the client accepts HTML and the path does not belong to the
    API.
    """
    response = await handler(request)
    if not isinstance(response, web.Response) or response.status < 400 or response.content_type != "application/json":
        return response
    if "text/html" not in request.headers.get("Accept", "") or request.path.startswith(_JSON_PATHS):
        return response
    # imported here, because calls do without pages, and in a thread, because it takes long the first time
    frame = await asyncio.to_thread(import_module, "gateway.web.dashboard.frame")
    title = _TITLES.get(response.status) or HTTPStatus(response.status).phrase
    page: web.Response = await frame.problem_page(request, response.status, title, _message(request, response))
    page.headers.update({name: response.headers[name] for name in _KEPT if name in response.headers})
    return page


def _message(request: web.Request, response: web.Response) -> str:
    if response.status == web.HTTPNotFound.status_code:
        return f"There is no page at {request.path[:200]}."
    try:
        error = orjson.loads(response.body if isinstance(response.body, bytes) else b"").get("error")
    except (orjson.JSONDecodeError, AttributeError):
        error = None
    return error if isinstance(error, str) else HTTPStatus(response.status).description
