"""Errors in OpenAI's form, for both of its dialects: statuses, types and codes.

Source: OpenAI's API reference (Errors). The event that carries an error in a stream differs, and belongs to the flags.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from gateway.contract import errors, json_api
from gateway.contract.errors import Problem
from gateway_plugins.shared.lenient import mapping, text, whole_number

TOO_LONG: Final = "context_length_exceeded"
_ERROR_STATUSES: Final = range(400, 600)
"""HTTP statuses of errors, which OpenRouter puts into `code`."""

_ERRORS: Final = {
    errors.INVALID_REQUEST: (400, "invalid_request_error", None),
    errors.PERMISSION: (403, "permission_error", "permission_denied"),
    errors.NOT_FOUND: (404, "invalid_request_error", "model_not_found"),
    errors.NO_ROUTE: (404, "invalid_request_error", None),
    errors.TOO_LARGE: (413, "invalid_request_error", "request_too_large"),
    errors.TIMEOUT: (504, "server_error", "timeout"),
    errors.RATE_LIMIT: (429, "rate_limit_error", "rate_limit_exceeded"),
    errors.QUOTA: (429, "insufficient_quota", "insufficient_quota"),
    errors.OVERLOADED: (503, "server_error", "overloaded"),
    errors.UNAVAILABLE: (503, "server_error", "unavailable"),
    errors.UPSTREAM: (502, "server_error", "upstream"),
    errors.INTERNAL: (500, "server_error", None),
}
"""Status, type and code by the gateway's code."""
_CODES: Final = {
    "invalid_request_error": errors.INVALID_REQUEST,
    "invalid_prompt": errors.INVALID_REQUEST,
    TOO_LONG: errors.INVALID_REQUEST,
    "permission_error": errors.PERMISSION,
    "model_not_found": errors.NOT_FOUND,
    "rate_limit_error": errors.RATE_LIMIT,
    "rate_limit_exceeded": errors.RATE_LIMIT,
    "insufficient_quota": errors.QUOTA,
    "overloaded": errors.OVERLOADED,
    "overloaded_error": errors.OVERLOADED,
    "timeout": errors.TIMEOUT,
}
"""The gateway's code by a provider's code or type."""
_TOO_LONG: Final = re.compile(
    "input is too long|prompt is too long|exceeds? context limit|too many total text bytes|maximum context length",
    re.IGNORECASE,
)
"""Messages of providers without a code for it (bedrock.md 1.4). At OpenAI's code, agents shorten their history."""


def stream_problem(value: Any) -> Problem:
    """Return the problem of an `error` in a stream, by its code, its type, or an HTTP status in `code`."""
    given = mapping(value)
    number = whole_number(given.get("code"))
    names = [name for name in (text(given.get("code")), text(given.get("type"))) if name]
    code = next((_CODES[name] for name in names if name in _CODES), errors.INTERNAL)
    if number in _ERROR_STATUSES:
        code = json_api.code_of(number)
    message = text(given.get("message")) or text(value) or "the provider failed without a message"
    retryable = code not in {errors.INVALID_REQUEST, errors.PERMISSION, errors.NOT_FOUND}
    return Problem(code, message, names[0] if names else "", errors.STATUS[code], retryable=retryable)


def is_too_long(problem: Problem) -> bool:
    """Return whether the conversation does not fit into the model's context."""
    return problem.code == errors.INVALID_REQUEST and _TOO_LONG.search(problem.message) is not None


def inner(problem: Problem) -> dict[str, Any]:
    """Return the value of `error`."""
    _, kind, code = _ERRORS[problem.code]
    code = TOO_LONG if is_too_long(problem) else code
    return {"message": problem.message, "type": kind, "param": problem.param or None, "code": code}


def error(problem: Problem) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an error reply."""
    return _ERRORS[problem.code][0], json_api.error_headers(problem), orjson.dumps({"error": inner(problem)})
