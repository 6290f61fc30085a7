"""Error replies in the format of the client's API, or in the gateway's own format if the plugin of that API fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from gateway.contract import json_api
from gateway.contract.errors import GatewayError, UpstreamFailed
from gateway.contract.registry import Plugin

T = TypeVar("T")

Report = Callable[[GatewayError], None]
"""A function that logs and counts an error that is a plugin's failure, and ignores any other error."""


def error_reply(
    flag: Plugin, request_id: str, error: GatewayError, report: Report, *, native: bool = False
) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers and the body of the reply for an error before the first byte is sent.

    If `native` is true, client and provider use the same format, and the provider's own error reply is returned
    unchanged.
    """
    report(error)
    if native and isinstance(error, UpstreamFailed) and error.headers and error.status >= 400:
        status, headers, body = error.status, dict(error.headers), error.raw
    else:
        own = json_api.error(error.problem)
        status, headers, body = result_of(error, report, own, flag.error, error.problem)
    none: dict[str, str] = {}
    common = result_of(error, report, none, flag.reply_headers, request_id, None)
    return status, {**common, **headers}, body


def result_of(error: GatewayError, report: Report, otherwise: T, hook: Callable[..., T], *args: Any) -> T:
    """Return the result of a plugin's hook that helps to write the reply to `error`; `otherwise` if the hook fails.

    The failure is reported, except if it is `error` itself, which was reported before.
    """
    try:
        return hook(*args)
    except GatewayError as failure:
        if failure.problem != error.problem:
            report(failure)
        return otherwise
