"""Errors in OpenAI's form, for Chat Completions and Responses: statuses, types and codes.

Within a stream, Chat Completions and Responses have different error events, which the plugins of the two APIs write.
Source: OpenAI's API reference (Errors).
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from gateway.contract import errors
from gateway.contract.errors import Problem
from gateway.contract.provider_errors import error_headers

TOO_LONG: Final = "context_length_exceeded"
_ERRORS: Final = {
    errors.INVALID_REQUEST: (400, "invalid_request_error", None),
    errors.PERMISSION: (403, "permission_error", "permission_denied"),
    errors.BLOCKED: (403, "guardrail_blocked", "blocked"),
    errors.NOT_FOUND: (404, "invalid_request_error", "model_not_found"),
    errors.NO_ROUTE: (404, "invalid_request_error", None),
    errors.TOO_LARGE: (413, "invalid_request_error", "request_too_large"),
    errors.UNSUPPORTED_CODING: (415, "invalid_request_error", "unsupported_content_encoding"),
    errors.REQUEST_TIMEOUT: (408, "invalid_request_error", "request_timeout"),
    errors.TIMEOUT: (504, "server_error", "timeout"),
    errors.RATE_LIMIT: (429, "rate_limit_error", "rate_limit_exceeded"),
    errors.QUOTA: (429, "insufficient_quota", "insufficient_quota"),
    errors.OVERLOADED: (503, "server_error", "overloaded"),
    errors.UNAVAILABLE: (503, "server_error", "unavailable"),
    errors.UPSTREAM: (502, "server_error", "upstream"),
    errors.PLUGIN: (500, "server_error", "plugin"),
    errors.INTERNAL: (500, "server_error", None),
}
"""Error codes of the gateway, each with the HTTP status, type and code of the OpenAI error."""
_TOO_LONG: Final = re.compile(
    "input is too long|prompt is too long|exceeds? context limit|too many total text bytes|maximum context length"
    "|token count .{1,40}exceeds the maximum number of tokens",
    re.IGNORECASE,
)
"""Pattern for error messages about a prompt that is too long.

Some providers have no error code for this. Clients get OpenAI's code, because agents then shorten their history."""


def is_too_long(problem: Problem) -> bool:
    """Return whether the prompt does not fit into the model's context."""
    return problem.code == errors.INVALID_REQUEST and _TOO_LONG.search(problem.message) is not None


def inner(problem: Problem) -> dict[str, Any]:
    """Return the value of `error` in an error reply."""
    _, kind, code = _ERRORS[problem.code]
    if problem.code == errors.BLOCKED:
        code = problem.reason or code
    code = TOO_LONG if is_too_long(problem) else code
    return {"message": problem.message, "type": kind, "param": problem.param or None, "code": code}


def error(problem: Problem) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an error reply."""
    return _ERRORS[problem.code][0], error_headers(problem), orjson.dumps({"error": inner(problem)})
