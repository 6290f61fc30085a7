"""Errors in Google's form: statuses, codes and details.

An error is `{"error": {"code": 429, "message": "...", "status": "RESOURCE_EXHAUSTED", "details": [...]}}`.

Some clients read a stream as a JSON array. For them, an error is a list with one such object, even if the error comes
instead of a stream (googleapis/python-aiplatform#5010; caugner/gemdn, `src/fixtures.rs`: a 503). Exception: if the
request cannot be parsed, the error is the object without a list.

Sources: Google's API design guide (AIP-193), google.rpc.Code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.contract import errors, lenient_json, provider_errors
from gateway.contract.errors import Problem
from gateway.contract.flag import Head
from gateway.contract.provider_errors import error_headers
from gateway_plugins.shared import google_errors
from gateway_plugins.shared.lenient import mapping, text

_INVALID: Final = "INVALID_ARGUMENT"
_INTERNAL: Final = "INTERNAL"
_UNAVAILABLE: Final = "UNAVAILABLE"
_EXHAUSTED: Final = "RESOURCE_EXHAUSTED"
_DEADLINE: Final = "DEADLINE_EXCEEDED"
_TYPES: Final = "type.googleapis.com/google.rpc."

_BY_CODE: Final[Mapping[str, tuple[int, str]]] = {
    # the gateway's code: (status, Google's name) for a client
    errors.INVALID_REQUEST: (400, _INVALID),
    errors.PERMISSION: (403, "PERMISSION_DENIED"),
    errors.BLOCKED: (403, "PERMISSION_DENIED"),
    errors.NOT_FOUND: (404, "NOT_FOUND"),
    errors.NO_ROUTE: (404, "NOT_FOUND"),
    errors.TOO_LARGE: (413, _INVALID),
    errors.UNSUPPORTED_CODING: (415, _INVALID),
    errors.REQUEST_TIMEOUT: (408, _DEADLINE),
    errors.TIMEOUT: (504, _DEADLINE),
    errors.RATE_LIMIT: (429, _EXHAUSTED),
    errors.QUOTA: (429, _EXHAUSTED),
    errors.OVERLOADED: (503, _UNAVAILABLE),
    errors.UNAVAILABLE: (503, _UNAVAILABLE),
    errors.UPSTREAM: (502, _INTERNAL),
    errors.PLUGIN: (500, _INTERNAL),
    errors.INTERNAL: (500, _INTERNAL),
}
_BY_NAME: Final[Mapping[str, tuple[str, bool]]] = {
    # Google's name: (the gateway's code, whether a retry may help)
    _INVALID: (errors.INVALID_REQUEST, False),
    "FAILED_PRECONDITION": (errors.INVALID_REQUEST, False),
    "OUT_OF_RANGE": (errors.INVALID_REQUEST, False),
    "UNIMPLEMENTED": (errors.INVALID_REQUEST, False),
    "UNAUTHENTICATED": (errors.PERMISSION, False),
    "PERMISSION_DENIED": (errors.PERMISSION, False),
    "NOT_FOUND": (errors.NOT_FOUND, False),
    _EXHAUSTED: (errors.RATE_LIMIT, True),
    "ABORTED": (errors.OVERLOADED, True),
    "CANCELLED": (errors.UPSTREAM, True),
    _DEADLINE: (errors.TIMEOUT, True),
    _UNAVAILABLE: (errors.OVERLOADED, True),
    _INTERNAL: (errors.INTERNAL, True),
    "UNKNOWN": (errors.INTERNAL, True),
    "DATA_LOSS": (errors.INTERNAL, True),
}


def problem_for(head: Head, body: bytes) -> Problem | None:
    """Return the problem that a provider's reply reports, or None if the reply is no error."""
    problem = provider_errors.problem_of(head, body)
    return problem if problem is None else _refined(problem, lenient_json.loads_or_none(body))


def problem_in_event(data: Any) -> Problem:
    """Return the problem in a chunk of a stream that has the field `error`."""
    return _refined(provider_errors.reported_problem(data), data)


def _refined(problem: Problem, data: Any) -> Problem:
    """Return `problem` with the code and details that follow from `data`, the decoded body of Google's error."""
    data = google_errors.first(data)
    name = text(mapping(mapping(data).get("error")).get("status"))
    code, retryable = _BY_NAME.get(name, (problem.code, problem.retryable))
    named = replace(problem, code=code, native=name or problem.native, retryable=retryable)
    return google_errors.with_details(named, data)


def inner(problem: Problem) -> dict[str, Any]:
    """Return the value of `error` in an error reply."""
    status, name = _status_of(problem)
    shown: dict[str, Any] = {"code": status, "message": problem.message, "status": name}
    if details := _details(problem):
        shown["details"] = details
    return shown


def _status_of(problem: Problem) -> tuple[int, str]:
    """Return the HTTP status and Google's error name for a client.

    An error of a Google provider keeps both, unless the provider has refused the gateway's key. For all other errors,
    the gateway's error code decides.
    """
    if problem.native in _BY_NAME and problem.status >= 400 and not problem.key_refused:
        return problem.status, problem.native
    return _BY_CODE[problem.code]


def _details(problem: Problem) -> list[dict[str, Any]]:
    """Return the details of an error: the field that is wrong, and the seconds to wait before a retry."""
    details: list[dict[str, Any]] = []
    if problem.param:
        violation = {"field": problem.param, "description": problem.message}
        details.append({"@type": f"{_TYPES}BadRequest", "fieldViolations": [violation]})
    if problem.retry_after is not None:
        details.append({"@type": f"{_TYPES}RetryInfo", "retryDelay": f"{max(0.0, problem.retry_after):g}s"})
    return details


def error(problem: Problem) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an error reply."""
    return _status_of(problem)[0], error_headers(problem), orjson.dumps({"error": inner(problem)})
