"""Paths, headers, errors and event-stream messages, which all operations of bedrock-runtime have in common.

Sources: botocore's service model of bedrock-runtime (operations, statuses of exceptions); the error header with its
suffix and the 200 that is an error from litellm#3805 and vercel/ai#17523.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import orjson

from gateway.contract import errors, json_api
from gateway.contract.errors import Problem, UpstreamFailed, invalid
from gateway.contract.flag import (
    ClientApi,
    ClientRequest,
    Drop,
    Frame,
    Head,
    Headers,
    HttpRequest,
    Members,
    Route,
    Target,
    UpstreamRequest,
    Usage,
)
from gateway.contract.framing import eventstream

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"
CLIENT_API: Final = ClientApi(
    bases=("/bedrock",),
    setting="endpoint_url or AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
    paths=(
        "/bedrock/model/{model}/invoke-with-bidirectional-stream", "/bedrock/async-invoke",
        "/bedrock/async-invoke/{id}", "/bedrock/guardrail/{id}/version/{version}/apply", "/bedrock/foundation-models",
        "/bedrock/foundation-models/{id}",
    ),
    headers=("amz-sdk-invocation-id", "amz-sdk-request"),
)  # fmt: skip
STREAMING: Final = frozenset({"converse-stream", "invoke-with-response-stream"})
"""Operations that stream."""

_EXCEPTIONS: Final[Mapping[str, tuple[str, int, bool]]] = {
    # exception: (the gateway's code, HTTP status in the service model, worth a retry)
    "ValidationException": (errors.INVALID_REQUEST, 400, False),
    "AccessDeniedException": (errors.PERMISSION, 403, False),
    "ResourceNotFoundException": (errors.NOT_FOUND, 404, False),
    "ModelTimeoutException": (errors.TIMEOUT, 408, True),
    "ThrottlingException": (errors.RATE_LIMIT, 429, True),
    "ServiceQuotaExceededException": (errors.QUOTA, 400, False),
    "ModelNotReadyException": (errors.OVERLOADED, 429, True),
    "ModelErrorException": (errors.INTERNAL, 424, False),
    "ModelStreamErrorException": (errors.INTERNAL, 424, True),
    "InternalServerException": (errors.INTERNAL, 500, True),
    "ServiceUnavailableException": (errors.OVERLOADED, 503, True),
    "ConflictException": (errors.INVALID_REQUEST, 400, False),
    "UnknownOperationException": (errors.NOT_FOUND, 404, False),
}
_BY_CODE: Final[Mapping[str, tuple[int, str]]] = {
    # the gateway's code: (status, exception) for a Bedrock client
    errors.INVALID_REQUEST: (400, "ValidationException"),
    errors.PERMISSION: (403, "AccessDeniedException"),
    errors.NOT_FOUND: (404, "ResourceNotFoundException"),
    errors.NO_ROUTE: (404, "UnknownOperationException"),
    errors.TOO_LARGE: (413, "ValidationException"),
    errors.TIMEOUT: (408, "ModelTimeoutException"),
    errors.RATE_LIMIT: (429, "ThrottlingException"),
    errors.QUOTA: (429, "ThrottlingException"),
    errors.OVERLOADED: (503, "ServiceUnavailableException"),
    errors.UNAVAILABLE: (503, "ServiceUnavailableException"),
    errors.UPSTREAM: (502, "InternalServerException"),
    errors.INTERNAL: (500, "InternalServerException"),
}
_IN_STREAM: Final[Mapping[str, str]] = {
    # exception that the service model does not know inside a stream: the nearest one that it knows
    "AccessDeniedException": "ValidationException",
    "ResourceNotFoundException": "ValidationException",
    "ConflictException": "ValidationException",
    "UnknownOperationException": "ValidationException",
    "ServiceQuotaExceededException": "ThrottlingException",
    "ModelNotReadyException": "ServiceUnavailableException",
    "ModelErrorException": "ModelStreamErrorException",
}
_IN_CONVERSE: Final[Mapping[str, str]] = {"ModelTimeoutException": "ModelStreamErrorException"}
"""The same for exceptions that only ConverseStream does not know."""
_KEY_FAULTS: Final = frozenset(
    {
        "ExpiredTokenException", "IncompleteSignature", "InvalidClientTokenId", "InvalidSignatureException",
        "MissingAuthenticationToken", "MissingAuthenticationTokenException", "UnrecognizedClientException",
    }
)  # fmt: skip
_KEY_REFUSED: Final = re.compile(
    "API Key|bearer token|security token|Authentication failed|CallWithBearerToken", re.IGNORECASE
)
"""Messages of a 403 for a bad key. The same exception has others for missing access to a model, and for a denied
`bedrock:InvokeModel`."""
_PADDING: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def routes(*operations: tuple[str, str]) -> tuple[Route, ...]:
    """Return routes for pairs of a path's last part and an operation, under Bedrock's own path and under /bedrock.

    Model ids are matched greedily: an ARN holds slashes, which some clients leave unescaped.
    """
    return tuple(
        Route("POST", f"{prefix}/model/{{model:.+}}/{last}", operation)
        for prefix in ("", "/bedrock")
        for last, operation in operations
    )


def last_part(path: str) -> str:
    """Return the last part of a path, such as `converse-stream`."""
    return path.rpartition("/")[2]


def parse(flag: str, dialect: str, request: HttpRequest, top: Members) -> ClientRequest:
    """Return the request with model and streaming from the path. Raises `Refused` for an impossible model name."""
    model = json_api.model_name(request.params["model"])
    return json_api.client_request(
        flag, dialect, request, top, model=model, stream=last_part(request.route.path) in STREAMING
    )


def upstream_request(target: Target, operation: str, body: bytes, headers: Headers) -> UpstreamRequest:
    """Return a request to bedrock-runtime, with the whole id quoted: an ARN's slash must not start a segment."""
    return UpstreamRequest("POST", f"/model/{quote(target.model, safe='')}/{operation}", body, headers=headers)


def request_headers(client: Headers) -> dict[str, str]:
    """Return the headers to send: of the client's, only Bedrock's own options, so no credentials or signatures."""
    options = {name: value for name, value in client.items() if name.startswith("x-amzn-bedrock-")}
    return {"content-type": "application/json", "accept": client.get("accept", "application/json"), **options}


_PROJECT: Final = "x-amzn-bedrock-projectidentifier"
"""InvokeModel's header for Converse's member `projectIdentifier`."""
_GUARDRAIL: Final = "x-amzn-bedrock-guardrailidentifier"
_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    # header of InvokeModel: values that request nothing
    _GUARDRAIL: (),
    "x-amzn-bedrock-guardrailversion": (),
    "x-amzn-bedrock-trace": ("DISABLED",),
    "x-amzn-bedrock-performanceconfig-latency": ("standard",),
    "x-amzn-bedrock-service-tier": ("default",),
    "x-amzn-bedrock-request-metadata": (),
    _PROJECT: ("default",),
}
_TRACES: Final = {"ENABLED": "enabled", "ENABLED_FULL": "enabled_full", "DISABLED": "disabled"}


def drop_headers(client: Headers, upstream: str, drop: Drop) -> None:
    """Report InvokeModel's options to a flag without them. Raises `Refused` for a guardrail.

    Converse has them all (`as_members`).
    """
    if upstream == "bedrock_converse":
        return
    if client.get(_GUARDRAIL):
        raise invalid(f"{_GUARDRAIL}: guardrails are applied by Bedrock only, and this model is not there", _GUARDRAIL)
    for name, neutral in _HEADERS.items():
        if client.get(name, "") not in ("", *neutral):
            drop(f"/{name}")


def as_members(headers: Mapping[str, str], top: Members) -> tuple[dict[str, str], dict[str, bytes | None]]:
    """Return the other headers, and InvokeModel's options as members of a Converse body (hermes#52179).

    A member that the body has already stays.
    """
    rest = {name: value for name, value in headers.items() if name not in _HEADERS}
    given = {name: headers[name] for name in _HEADERS if headers.get(name)}
    members: dict[str, Any] = {}
    if _GUARDRAIL in given:
        guardrail = {
            "guardrailIdentifier": given[_GUARDRAIL],
            "guardrailVersion": given.get("x-amzn-bedrock-guardrailversion"),
            "trace": _TRACES.get(given.get("x-amzn-bedrock-trace", "")),
        }
        members["guardrailConfig"] = {name: value for name, value in guardrail.items() if value}
    if latency := given.get("x-amzn-bedrock-performanceconfig-latency"):
        members["performanceConfig"] = {"latency": latency}
    if tier := given.get("x-amzn-bedrock-service-tier"):
        members["serviceTier"] = {"type": tier}
    if metadata := given.get("x-amzn-bedrock-request-metadata"):
        members["requestMetadata"] = _metadata(metadata)
    if project := given.get(_PROJECT):
        members["projectIdentifier"] = project
    return rest, {name: orjson.dumps(value) for name, value in members.items() if name not in top}


def _metadata(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        name = "x-amzn-bedrock-request-metadata"
        raise invalid(f'{name}: must be a JSON object, such as {{"team": "a"}}', name) from None


_UNKNOWN_NAME: Final = "UnknownOperationException"
_UNKNOWN_MESSAGE: Final = "the provider does not know this operation or path"
_UNKNOWN_OPERATION: Final = re.compile(
    rb'\s*\{\s*"Output"\s*:\s*\{\s*"__type"\s*:\s*"[^"]*' + _UNKNOWN_NAME.encode() + b'"'
)
"""Start of AWS's answer, under status 200, to an unknown path."""


def problem_for(head: Head, body: bytes) -> Problem | None:
    """Return the problem of an error reply, by the code in its header, its `__type`, or its status; None for no error.

    Under status 200, only an `Output` that names the exception is an error: an answer may begin with that word.
    """
    if head.status < 400 and _UNKNOWN_OPERATION.match(body) is None:
        return None
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return json_api.problem_of(head, body)
    data = data if isinstance(data, dict) else {}
    output = data.get("Output")
    inner = output if isinstance(output, dict) else data
    native = head.headers.get("x-amzn-errortype") or str(inner.get("__type") or inner.get("code") or "")
    native = native.partition(":")[0].rpartition("#")[2]
    default = _UNKNOWN_MESSAGE if native == _UNKNOWN_NAME else f"the provider answered {head.status} without a message"
    message = str(data.get("message") or data.get("Message") or default)
    code, status, retryable = _EXCEPTIONS.get(native, (json_api.code_of(head.status), head.status, head.status >= 500))
    return Problem(
        code=code,
        message=message,
        native=native,
        status=head.status if head.status >= 400 else status,
        retry_after=json_api.retry_after(head),
        retryable=retryable,
        key_refused=head.status in {401, 403} and (native in _KEY_FAULTS or _KEY_REFUSED.search(message) is not None),
    )


def stream_failure(frame: Frame) -> UpstreamFailed | None:
    """Return the failure in an exception or error frame; None for an event."""
    kind = frame.headers.get(":message-type", "event")
    if kind == "event":
        return None
    if kind == "error":
        native = frame.headers.get(":error-code", "")
        message = frame.headers.get(":error-message", "")
    else:
        native = frame.headers.get(":exception-type", "")
        message = json_api.message_of(frame.payload)[0]
    native = native[:1].upper() + native[1:]
    code, status, retryable = _EXCEPTIONS.get(native, (errors.INTERNAL, 500, True))
    return UpstreamFailed(Problem(code, message or native, native, status, retryable=retryable), frame.raw)


def exception_of(problem: Problem) -> tuple[int, str]:
    """Return status and exception for a Bedrock client: the provider's own if the provider was Bedrock."""
    if problem.native in _EXCEPTIONS:
        return problem.status or _EXCEPTIONS[problem.native][1], problem.native
    return _BY_CODE[problem.code]


def reply_headers(request_id: str, _usage: Usage | None) -> dict[str, str]:
    """Return the header in which botocore finds the `RequestId`, which its users log."""
    return {"x-amzn-requestid": request_id}


def error(problem: Problem) -> tuple[int, dict[str, str], bytes]:
    status, exception = exception_of(problem)
    headers = {**json_api.error_headers(problem), "x-amzn-errortype": exception}
    return status, headers, orjson.dumps({"message": problem.message})


def failure_frame(problem: Problem, *, converse: bool = False) -> bytes:
    """Return the exception frame that ends a stream."""
    exception = exception_of(problem)[1]
    exception = _IN_STREAM.get(exception, exception)
    if converse:
        exception = _IN_CONVERSE.get(exception, exception)
    name = exception[:1].lower() + exception[1:]
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return eventstream.encode(headers, orjson.dumps({"message": problem.message}))


def padded(payload: bytes) -> bytes:
    """Return an event's payload with Bedrock's `p`, which hides a token's length from an observer of frame lengths.

    `p` is a random-length beginning of the letters and digits (recorded traffic). A payload that has it is unchanged.
    """
    if b'"p":' in payload or payload[-1:] != b"}":
        return payload
    # hash() is salted in every process, so that the length is independent of the text
    padding = _PADDING[: 1 + hash(payload) % len(_PADDING)].encode()
    return b'%b%b"p":"%b"}' % (payload[:-1], b"" if payload == b"{}" else b",", padding)


def message(kind: str, payload: bytes) -> bytes:
    """Return the frame of one event."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return eventstream.encode(headers, payload)


def limit(request: ClientRequest, *path: str) -> int | None:
    """Return the number at this path of a body; None if there is none."""
    value = request.top.decode(path[0])
    for name in path[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
