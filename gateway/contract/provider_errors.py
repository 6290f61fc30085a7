"""Reads errors in providers' replies: the message, the error code, and the seconds to wait before a retry.

- `problem_of` reads a reply with an error status. The status decides the error code.
- `reported_problem` reads an error in a stream or in a body with status 200. The number or name in the error decides
  the error code.
- `not_a_reply` makes the error for a reply with status 200 that cannot be read.

The names of errors come from OpenAI's and Anthropic's API references. Most compatible servers use them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Final

from gateway.contract import errors, lenient_json
from gateway.contract.errors import BadFrame, Problem, UpstreamFailed
from gateway.contract.flag import Head

MAX_RETRY_AFTER: Final = 86_400
"""Maximum seconds of a `Retry-After` that comes from a provider. A larger number is reduced to this maximum."""
LONGEST_RETRY_AFTER: Final = 32 * 86_400
"""Maximum seconds in a `Retry-After` header to a client. It is 32 days, because a monthly quota refills within this
time.
"""

MAX_WORDS: Final = 500
"""Maximum number of characters that an error message quotes from a provider's plain text."""

_UNAUTHORIZED: Final = 401
"""The status for invalid credentials (RFC 9110, 15.5.2)."""
_ERROR_STATUSES: Final = range(400, 600)
_CODES: Final[Mapping[int, str]] = {
    401: errors.PERMISSION,
    402: errors.QUOTA,
    403: errors.PERMISSION,
    404: errors.NOT_FOUND,
    408: errors.TIMEOUT,
    413: errors.TOO_LARGE,
    429: errors.RATE_LIMIT,
    502: errors.UNAVAILABLE,
    503: errors.OVERLOADED,
    504: errors.TIMEOUT,
    529: errors.OVERLOADED,
}
_CODES_BY_NAME: Final[Mapping[str, str]] = {
    "invalid_request_error": errors.INVALID_REQUEST,
    "invalid_prompt": errors.INVALID_REQUEST,
    "context_length_exceeded": errors.INVALID_REQUEST,
    "permission_error": errors.PERMISSION,
    "authentication_error": errors.PERMISSION,
    "invalid_api_key": errors.PERMISSION,
    "not_found_error": errors.NOT_FOUND,
    "model_not_found": errors.NOT_FOUND,
    "request_too_large": errors.TOO_LARGE,
    "rate_limit_error": errors.RATE_LIMIT,
    "rate_limit_exceeded": errors.RATE_LIMIT,
    "insufficient_quota": errors.QUOTA,
    "billing_error": errors.QUOTA,
    "overloaded": errors.OVERLOADED,
    "overloaded_error": errors.OVERLOADED,
    "timeout": errors.TIMEOUT,
    "timeout_error": errors.TIMEOUT,
}
"""The gateway's error code for each name that a provider sends in `code` or `type`."""
_KEY_FAULTS: Final = frozenset({"authentication_error", "invalid_api_key"})
_FINAL: Final = frozenset({errors.INVALID_REQUEST, errors.PERMISSION, errors.NOT_FOUND, errors.TOO_LARGE})
"""Error codes for which a retry is useless, because the same request would get the same error."""
_MESSAGES: Final = (
    "message", "Message", "msg", "detail", "error_msg", "errorMessage", "error_message", "error_description",
    "status_msg",
)  # fmt: skip
"""Keys for the message of an error at OpenAI, Anthropic, AWS, FastAPI (`detail`) and other servers."""
_NAMES: Final = ("code", "status_code", "error_code", "status", "type")
"""JSON keys whose value is the name or number of an error. The most specific key is first."""
_ENVELOPES: Final = ("error", "errors", "base_resp", "Output")
"""JSON keys whose value is an error object: `error` in most APIs, `errors` in JSON:API, `base_resp` at MiniMax,
`Output` at AWS."""
_ERROR_MEMBERS: Final = frozenset({*_MESSAGES, *_NAMES, *_ENVELOPES, "object", "success", "request_id", "requestId"})
_ERROR_FIRST: Final = re.compile(rb'\s*\{\s*(?:"type"\s*:\s*"error"\s*,\s*)?"error"\s*:\s*[{"]')
"""Pattern for a body that begins with an error: `{"error": ...` or `{"type": "error", "error": ...`."""
_PAGE: Final = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml|center|h1)", re.IGNORECASE)
_TITLE: Final = re.compile(r"<(title|h1)[^>]*>(.*?)</\1", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<(script|style).*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def problem_of(head: Head, body: bytes) -> Problem | None:
    """Return the problem that a provider's reply reports, or None.

    Every reply with a status of 400 or above is a problem. A reply with a lower status is a problem if its body begins
    with `{"error": ...`. Some aggregators of providers send such replies.

    >>> problem = provider_errors.problem_of(Head(429, {"retry-after": "3"}), b'{"error": {"message": "slow down"}}')
    >>> problem.code, problem.message, problem.retry_after
    ('rate_limit', 'slow down', 3.0)
    >>> provider_errors.problem_of(Head(200, {}), b'{"text": "hi"}')
    """
    if head.status < 400:
        if _ERROR_FIRST.match(body) is None:
            return None
        return reported_problem(lenient_json.loads_or_none(body), errors.UPSTREAM)
    message, native = message_of(body)
    return Problem(
        code=code_of(head.status),
        message=message or f"the provider answered {head.status} without a message",
        native=native,
        status=head.status,
        retryable=head.status in {408, 409, 429} or head.status >= 500,
        key_refused=head.status == _UNAUTHORIZED,
        **waits(head),
    )


def reported_problem(value: Any, otherwise: str = errors.INTERNAL) -> Problem:
    """Return the problem for an error that the provider reports in a stream, or in a body with status 200.

    `otherwise` is the error code for an error without a known number or name.

    >>> provider_errors.reported_problem({"error": {"type": "overloaded_error", "message": "busy"}}).code
    'overloaded'
    """
    message, names = _words(value)
    numbers = [int(name) for name in names if name.isdecimal() and len(name) == len("500")]
    number = next((number for number in numbers if number in _ERROR_STATUSES), 0)
    code = next((_CODES_BY_NAME[name] for name in names if name in _CODES_BY_NAME), errors.INTERNAL)
    if number:
        code = code_of(number)
    if code == errors.INTERNAL:
        code = otherwise
    return Problem(
        code=code,
        message=message or "the provider failed without a message",
        native=names[0] if names else "",
        status=number or errors.STATUS[code],
        retryable=code not in _FINAL,
        key_refused=number == _UNAUTHORIZED or not _KEY_FAULTS.isdisjoint(names),
    )


def problem_in_event(payload: bytes) -> Problem:
    """Return the problem in the payload of an error event. The payload may be JSON or plain text.

    >>> provider_errors.problem_in_event(b'{"error": {"code": 429, "message": "slow down"}}').code
    'rate_limit'
    """
    data = lenient_json.loads_or_none(payload)
    return reported_problem(_plain(payload) if data is None else data)


def is_error(data: Any) -> bool:
    """Return whether a decoded body has an error message, and no fields other than those of errors.

    >>> provider_errors.is_error({"error": {"message": "busy"}}), provider_errors.is_error({"text": "hi"})
    (True, False)
    """
    return isinstance(data, dict) and data.keys() <= _ERROR_MEMBERS and bool(_words(data)[0])


def is_cut(body: bytes) -> bool:
    """Return whether a body begins like JSON and is not valid JSON. Such a body is probably a cut output of a model,
    and no error.

    >>> provider_errors.is_cut(b'{"text": "h'), provider_errors.is_cut(b"hi")
    (True, False)
    """
    return body.lstrip()[:1] in (b"{", b"[") and lenient_json.loads_or_none(body) is None


def not_a_reply(body: bytes, fault: BadFrame) -> UpstreamFailed:
    """Return the error (502) for a reply with status 200 whose body cannot be read.

    `fault` has the reason. If the body has a text, such as "upstream is down", the message quotes it.

    >>> provider_errors.not_a_reply(b"upstream is down", BadFrame("the provider's reply is not JSON")).problem.message
    "the provider's reply is not JSON: upstream is down"
    """
    data = lenient_json.loads_or_none(body)
    message, _ = ("" if is_cut(body) else _plain(body), []) if data is None else _words(data)
    problem = fault.problem
    if isinstance(data, dict | list) and message:
        problem = replace(reported_problem(data, errors.UPSTREAM), message=problem.message)
    words = f"{problem.message}: {message[:MAX_WORDS]}" if message else problem.message
    return UpstreamFailed(replace(problem, message=words))


def code_of(status: int) -> str:
    """Return the error code for a provider's HTTP status.

    >>> provider_errors.code_of(404), provider_errors.code_of(418), provider_errors.code_of(500)
    ('not_found', 'invalid_request', 'internal')
    """
    return _CODES.get(status) or (errors.INTERNAL if status >= 500 else errors.INVALID_REQUEST)


def waits(head: Head) -> dict[str, Any]:
    """Return the fields `retry_after` and `should_retry` of a `Problem`, from the headers of a reply.

    >>> provider_errors.waits(Head(429, {"retry-after": "3"}))
    {'retry_after': 3.0, 'should_retry': None}
    """
    return {"retry_after": retry_after(head), "should_retry": _should_retry(head)}


def _should_retry(head: Head) -> bool | None:
    """Return the value of `x-should-retry`, a header for OpenAI's and Anthropic's SDKs, or None without this header."""
    return {"true": True, "false": False}.get(head.headers.get("x-should-retry", "").strip().lower())


def retry_after(head: Head) -> float | None:
    """Return the seconds that a client should wait, from 0 to `MAX_RETRY_AFTER`. Return None if no header names a time.

    `retry-after-ms` and `x-amz-retry-after` are in milliseconds. They have priority over `Retry-After`, as in the SDKs
    of OpenAI, Anthropic and AWS. If `Retry-After` is a date (RFC 9110, 10.2.3), the seconds are counted from the date
    of the reply, because the provider's clock may be wrong.

    >>> provider_errors.retry_after(Head(429, {"retry-after-ms": "1500"}))
    1.5
    """
    seconds = _number(head.headers.get("retry-after-ms"), 1000)
    if seconds is None:
        seconds = _number(head.headers.get("x-amz-retry-after"), 1000)
    if seconds is None:
        seconds = _number(head.headers.get("retry-after"), 1)
    if seconds is None and (until := _date(head.headers.get("retry-after"))) is not None:
        now = _date(head.headers.get("date"))
        seconds = until - (time() if now is None else now)
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _number(text: str | None, divisor: int) -> float | None:
    try:
        value = float(text or "") / divisor
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _date(text: str | None) -> float | None:
    """Return the Unix time of an HTTP date, or None for any other text."""
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def error_headers(problem: Problem) -> dict[str, str]:
    """Return the headers of an error reply, such as its content type and the time to wait before a retry.

    `Retry-After` is rounded up to whole seconds. If this changes the number, the exact time is sent as
    `retry-after-ms`, for OpenAI's and Anthropic's SDKs.

    >>> provider_errors.error_headers(Problem(RATE_LIMIT, "slow down", retry_after=1.5))
    {'content-type': 'application/json', 'retry-after': '2', 'retry-after-ms': '1500'}
    """
    headers = {"content-type": "application/json"}
    if problem.accept_encoding:  # RFC 9110, 15.5.16
        headers["accept-encoding"] = problem.accept_encoding
    if problem.retry_after is not None:
        # the order of the arguments matters: max(1, NaN) is 1, while max(NaN, 1) is NaN
        seconds = min(LONGEST_RETRY_AFTER, max(0, problem.retry_after))
        headers["retry-after"] = str(max(1, math.ceil(seconds)))
        if seconds != int(seconds):
            headers["retry-after-ms"] = str(math.ceil(seconds * 1000))
    if problem.should_retry is not None:
        headers["x-should-retry"] = "true" if problem.should_retry else "false"
    return headers


def message_of(body: bytes) -> tuple[str, str]:
    """Return the message of an error, and the provider's name for the error. A missing message or name is "".

    `body` may be JSON of OpenAI, Anthropic, AWS or FastAPI, an HTML page, or plain text.

    >>> provider_errors.message_of(b'{"error": {"type": "overloaded_error", "message": "busy"}}')
    ('busy', 'overloaded_error')
    """
    data = lenient_json.loads_or_none(body)
    if data is None:
        return _plain(body), ""
    message, names = _words(data, _NAMES[::-1])
    return message, names[0] if names else ""


def _plain(body: bytes) -> str:
    """Return the message of a body that is not JSON: the title of an HTML page, or the beginning of the text."""
    text = body[: MAX_WORDS * 20].decode("utf-8", "replace")
    if "\ufffd" in text[:MAX_WORDS]:  # compressed, or another binary format
        return ""
    if _PAGE.match(text):
        title = _TITLE.search(text)
        text = " ".join(_TAG.sub(" ", title[2] if title else text).split())
    return "".join(character if character.isprintable() else " " for character in text[:MAX_WORDS]).strip()


def _words(value: Any, members: tuple[str, ...] = _NAMES) -> tuple[str, list[str]]:
    """Return the message of a decoded error, and a list of its codes, types and statuses, such as `rate_limit_error`
    and `429`.

    `members` are the JSON keys that are read for the list, in this order. If error objects are nested, the innermost
    object is read first.
    """
    message, names = "", []
    for part in reversed(_layers(value)):
        if not isinstance(part, dict):
            message = message or (part if isinstance(part, str) else "")
            continue
        message = message or next(filter(None, (_text(part.get(name)) for name in _MESSAGES)), "")
        names += [str(part[name]) for name in members if isinstance(part.get(name), str | int) and part[name] != ""]
    return message, [name for name in names if name not in {"error", "True", "False"}]


def _layers(value: Any) -> list[Any]:
    """Return an error and the errors inside it, the outermost first. In a list of errors, only the first is read."""
    layers = [value]
    while len(layers) <= len(_ENVELOPES):
        last = layers[-1]
        if isinstance(last, list):
            inner = last[0] if last else None
        elif isinstance(last, dict):
            inner = next((last[name] for name in _ENVELOPES if last.get(name)), None)
        else:
            inner = None
        if not isinstance(inner, dict | list | str):
            break
        layers.append(inner)
    return layers


def _text(value: Any) -> str:
    """Return the text of a value. For a list of faults, such as FastAPI's `detail`, return the joined texts."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, dict):
        return _words(value)[0]
    faults = [fault for fault in value[:10] if isinstance(fault, dict)] if isinstance(value, list) else []
    return "; ".join(filter(None, map(_fault, faults)))


def _fault(fault: dict[str, Any]) -> str:
    place = fault.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    text = fault.get("msg") or fault.get("message")
    return ": ".join(part for part in (where, text) if isinstance(part, str) and part)
