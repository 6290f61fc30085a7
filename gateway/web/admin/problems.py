"""Error responses of /aperture/* in the form of RFC 9457, `application/problem+json`.

Handlers raise a `Refusal`. The outermost middleware, `problems`, converts errors of `call/guard.py` and of aiohttp to
the same form. Errors of other paths stay `{"error": ...}` (`guard.json_error`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import web

PREFIX: Final = "/aperture/"
REPLACED: Final = "another process is taking the place of this gateway; try again"
"""The error message that an admin gets for a change while a new process of the gateway replaces this one."""
CONTENT_TYPE: Final = "application/problem+json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refusal(Exception):
    """The error that is sent to the client as a response with the status `status`, which is 400 or above.

    If a configuration is refused, `errors` has one object for each of its faults.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[Mapping[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Convert every error response under /aperture/ to `application/problem+json`."""
    response = await handler(request)
    if not request.path.startswith(PREFIX) or response.status < 400 or not isinstance(response, web.Response):
        return response
    if response.content_type == CONTENT_TYPE:
        return response
    headers = {name: value for name, value in response.headers.items() if name.lower() not in _REPLACED_HEADERS}
    return problem_response(Refusal(response.status, _message(response), headers=headers))


_REPLACED_HEADERS: Final = frozenset({"content-type", "content-length", "cache-control"})


def problem_response(refusal: Refusal) -> web.Response:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(refusal.status).phrase,
        "status": refusal.status,
        "detail": refusal.detail,
    }
    if refusal.errors is not None:
        body["errors"] = list(refusal.errors)
    headers = {"cache-control": "no-store", **refusal.headers, "content-type": CONTENT_TYPE}
    return web.Response(status=refusal.status, body=orjson.dumps(body), headers=headers)


def _message(response: web.Response) -> str:
    """Return the message in a response of `guard.json_error`. For other responses, return the status's description."""
    try:
        error = orjson.loads(response.body if isinstance(response.body, bytes) else b"").get("error")
    except (orjson.JSONDecodeError, AttributeError):
        error = None
    return error if isinstance(error, str) else HTTPStatus(response.status).description
