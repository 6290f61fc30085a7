"""Error replies in the format of the client's API.

If the plugin of that API fails, the reply has the gateway's own format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from gateway.contract import json_api
from gateway.contract.errors import GatewayError, UpstreamFailed
from gateway.contract.flag import ClientRequest
from gateway.contract.framing import json_array
from gateway.contract.registry import Plugin

T = TypeVar("T")

Report = Callable[[GatewayError], None]
"""A function that logs and counts a plugin's failure, and ignores any other error."""


def error_reply(
    flag: Plugin,
    request_id: str,
    error: GatewayError,
    report: Report,
    *,
    native: bool = False,
    request: ClientRequest | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers and the body of an error reply. Call this only while no byte of a reply has been
    sent.

    `native` is true if client and provider use the same format. Then an error of the provider is returned as the
    provider sent it. `request` is None if the error came before the request was parsed.
    """
    report(error)
    if native and isinstance(error, UpstreamFailed) and error.headers and error.status >= 400:
        status, headers, body = error.status, dict(error.headers), error.raw
    else:
        own = json_api.error(error.problem)
        status, headers, body = result_of(error, report, own, flag.error, error.problem)
        if request is not None and request.stream:
            body = _in_array(flag, request, error, report, body)
    none: dict[str, str] = {}
    common = result_of(error, report, none, flag.reply_headers, request_id, None)
    return status, {**common, **headers}, body


def _in_array(flag: Plugin, request: ClientRequest, error: GatewayError, report: Report, body: bytes) -> bytes:
    """Return the `body` of an error in the form that a client of a stream expects.

    If the stream would be a JSON array, the error becomes an array with one item, as in Google's API
    (googleapis/python-aiplatform#5010). Otherwise `body` is returned unchanged.
    """
    is_array = result_of(error, report, "", flag.stream_type, request) == json_array.CONTENT_TYPE
    return json_array.encode(body, first=True) + json_array.END if is_array else body


def result_of(error: GatewayError, report: Report, otherwise: T, hook: Callable[..., T], *args: Any) -> T:
    """Call a plugin's hook that makes a part of an error reply, and return its result. If the hook fails, return
    `otherwise`.

    The failure of the hook is reported, unless it is the same problem as `error`. `error` is the error that the client
    gets, and was reported before.
    """
    try:
        return hook(*args)
    except GatewayError as failure:
        if failure.problem != error.problem:
            report(failure)
        return otherwise
