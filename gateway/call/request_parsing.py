"""Turns an HTTP request with its decoded body into a `ClientRequest` of the client's API (compatibility flag).

A body with very much text is parsed in a worker process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from aiohttp import web

from gateway.contract.flag import ClientRequest, HttpRequest, Route
from gateway.contract.http_headers import joined_headers
from gateway.contract.long_strings import text_size
from gateway.contract.registry import Plugin
from gateway.upstream.process_pool import NO_DROP, ProcessPool

PARSED_ELSEWHERE: Final = 4 * 1024 * 1024
"""Minimum size in bytes of a body that is parsed in a worker process. Long strings without escapes are not counted.

Parsing a body of this size takes 6 ms. It takes 40 ms if the whole text consists of escaped UTF-16 surrogates. Long
strings, such as the base64 of images, take only 0.3 ms a megabyte.
"""
_OF_THE_SENT_BODY: Final = frozenset({"content-encoding", "content-length"})


def http_request(route: Route, request: web.Request, params: Mapping[str, str], body: bytes) -> HttpRequest:
    """Return the request with the decoded body.

    Headers that only describe the encoded body are removed. If the path has two slashes behind the client's base URL
    (`call_routes.py`), one of them is removed.
    """
    headers = joined_headers(request.headers.items())
    if "content-encoding" in headers:
        headers = {name: value for name, value in headers.items() if name not in _OF_THE_SENT_BODY}
    return HttpRequest(
        route=route,
        path=_of_route(route, request.raw_path.partition("?")[0]),
        query=request.rel_url.raw_query_string,
        headers=headers,
        params=dict(params),
        body=body,
    )


def _of_route(route: Route, path: str) -> str:
    return path if path.startswith(route.path.partition("{")[0]) else path.replace("//", "/", 1)


async def parse_request(pool: ProcessPool, flag: Plugin, message: HttpRequest) -> ClientRequest:
    """Return the request `message` as parsed by the plugin `flag`. A large body is parsed in a worker process.

    Raises `Refused` if the request is invalid, and `PluginFailed` if the plugin fails.
    """
    body = message.body
    if len(body) < PARSED_ELSEWHERE or text_size(body) < PARSED_ELSEWHERE:
        return flag.parse(message)
    return await pool.run(len(body), NO_DROP, _parse, flag.parse, replace(message, body=b""), body)


def _parse(parse: Callable[[HttpRequest], ClientRequest], message: HttpRequest, body: bytes) -> ClientRequest:
    """Parse a request. `message` is the request without its body, and `body` is this body.

    The function may run in a worker process. Its result contains the body. The body is an argument of its own, because
    a worker process does not send back objects that are arguments (`upstream/process_pool.py`).
    """
    return parse(replace(message, body=body))
