"""Reads the details of an error of Google's APIs: whether the key was refused, and how long to wait.

The Gemini API and its OpenAI-compatible endpoint send these details in the body only, without a header. The
OpenAI-compatible endpoint sends a list with one error.

Sources: Google's API design guide (AIP-193), google.rpc.RetryInfo, google.api.ErrorReason.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from gateway.contract import errors, provider_errors
from gateway.contract.errors import Problem
from gateway_plugins.shared.lenient import mapping, sequence, text

_KEY_FAULTS: Final = frozenset(
    {
        "API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "ACCESS_TOKEN_EXPIRED",
        "ACCESS_TOKEN_TYPE_UNSUPPORTED", "CREDENTIALS_MISSING",
    }
)  # fmt: skip
"""Values of `reason` in the details of an error about a bad key (google.api.ErrorReason).

The status of such an error may be 400 instead of 401."""
MARK: Final = b'"details"'
"""Bytes that every error with details contains, for a quick search before decoding."""
_SECONDS: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
"""Pattern of a duration in ProtoJSON, such as `34.074824224s` in the field `retryDelay`."""


def first(data: Any) -> Any:
    """Return the error in a decoded body, which may be a list with one error."""
    return data[0] if isinstance(data, list) and data else data


def with_details(problem: Problem, data: Any) -> Problem:
    """Return a copy of `problem` with facts from the details of the error: that the key was refused, or how long to
    wait.

    `data` is the decoded body of the error.
    """
    error = mapping(mapping(first(data)).get("error"))
    details = [mapping(detail) for detail in sequence(error.get("details"))]
    if any(text(detail.get("reason")) in _KEY_FAULTS for detail in details):
        name = text(error.get("status"))
        return replace(problem, code=errors.PERMISSION, native=name, retryable=False, key_refused=True)
    waits = [_SECONDS.fullmatch(text(detail.get("retryDelay"))) for detail in details]
    wait = next((float(match[1]) for match in waits if match), None)
    if wait is None or problem.retry_after is not None:
        return problem
    return replace(problem, retry_after=min(wait, provider_errors.MAX_RETRY_AFTER))
