"""What all of bedrock-runtime has in common: paths, headers, errors, event-stream messages.

Facts: botocore's service model of bedrock-runtime (operations, statuses of exceptions); the error header with its
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

_EXCEPTIONS: Final[Mapping[str, tuple[str, int, bool]]] = {
    # exception: (our code, HTTP status in the service model, worth another try)
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

_OURS: Final[Mapping[str, tuple[int, str]]] = {
    # our code: (status, exception) for a Bedrock client
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
    # those that the service model does not know inside a stream, and what says the nearest there
    "AccessDeniedException": "ValidationException",
    "ResourceNotFoundException": "ValidationException",
    "ConflictException": "ValidationException",
    "UnknownOperationException": "ValidationException",
    "ServiceQuotaExceededException": "ThrottlingException",
    "ModelNotReadyException": "ServiceUnavailableException",
    "ModelErrorException": "ModelStreamErrorException",
}
_IN_CONVERSE: Final[Mapping[str, str]] = {"ModelTimeoutException": "ModelStreamErrorException"}
"""ConverseStream does not know this one either."""


_PADDING: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def routes(*operations: tuple[str, str]) -> tuple[Route, ...]:
    """Routes of (path's last part, operation), under Bedrock's own path and under /bedrock.

    Ids are matched greedily: an ARN holds slashes, which some clients leave unescaped.
    """
    return tuple(
        Route("POST", f"{prefix}/model/{{model:.+}}/{last}", operation)
        for prefix in ("", "/bedrock")
        for last, operation in operations
    )


def last_part(path: str) -> str:
    """`converse-stream` of `/bedrock/model/x/converse-stream`."""
    return path.rpartition("/")[2]


def parse(flag: str, dialect: str, request: HttpRequest, top: Members) -> ClientRequest:
    """An ask whose model and way of answering stand in the path. Raises `Refused` for a name that cannot be one."""
    model = json_api.model_name(request.params["model"])
    return json_api.client_request(
        flag, dialect, request, top, model=model, stream=last_part(request.route.path) in STREAMING
    )


def send(target: Target, operation: str, body: bytes, headers: Headers) -> UpstreamRequest:
    """A request to bedrock-runtime. The id is quoted whole, so that an ARN's slash cannot start a new segment."""
    return UpstreamRequest("POST", f"/model/{quote(target.model, safe='')}/{operation}", body, headers=headers)


def request_headers(client: Headers) -> dict[str, str]:
    """What goes along from the client: Bedrock's own options. Credentials, signatures and the rest stay here."""
    kept = {name: value for name, value in client.items() if name.startswith("x-amzn-bedrock-")}
    return {"content-type": "application/json", "accept": client.get("accept", "application/json"), **kept}


_PROJECT: Final = "x-amzn-bedrock-projectidentifier"
"""InvokeModel's header for what is the member `projectIdentifier` on Converse."""
_GUARDRAIL: Final = "x-amzn-bedrock-guardrailidentifier"
_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    # a client's header for InvokeModel: values that ask for nothing
    _GUARDRAIL: (),
    "x-amzn-bedrock-guardrailversion": (),
    "x-amzn-bedrock-trace": ("DISABLED",),
    "x-amzn-bedrock-performanceconfig-latency": ("standard",),
    "x-amzn-bedrock-service-tier": ("default",),
    "x-amzn-bedrock-request-metadata": (),
    _PROJECT: ("default",),
}
_TRACES: Final = {"ENABLED": "enabled", "ENABLED_FULL": "enabled_full", "DISABLED": "disabled"}


def lose_headers(client: Headers, upstream: str, drop: Drop) -> None:
    """Options of InvokeModel on the way to a flag that has no words for them: a guardrail is a 400, others are told.

    Converse has words for all of them (`as_members`).
    """
    if upstream == "bedrock_converse":
        return
    if client.get(_GUARDRAIL):
        raise invalid(f"{_GUARDRAIL}: guardrails are applied by Bedrock only, and this model is not there", _GUARDRAIL)
    for name, neutral in _HEADERS.items():
        if client.get(name, "") not in ("", *neutral):
            drop(f"/{name}")


def as_members(headers: Mapping[str, str], top: Members) -> tuple[dict[str, str], dict[str, bytes | None]]:
    """Options of InvokeModel as Converse has them, in the body (hermes#52179): other headers, and members to add.

    What the body says itself stays.
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
_UNKNOWN: Final = "the provider does not know this operation or path"
_UNKNOWN_OPERATION: Final = re.compile(
    rb'\s*\{\s*"Output"\s*:\s*\{\s*"__type"\s*:\s*"[^"]*' + _UNKNOWN_NAME.encode() + b'"'
)
"""How AWS answers a path that it does not know, under a 200."""


def problem_for(head: Head, body: bytes) -> Problem | None:
    """An error reply; the code comes from the header, then `__type`, then the status.

    Under a 200, only an `Output` that names the exception is one: an answer may well begin with that word.
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
    silent = _UNKNOWN if native == _UNKNOWN_NAME else f"the provider answered {head.status} without a message"
    message = str(data.get("message") or data.get("Message") or silent)
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


_KEY_FAULTS: Final = frozenset(
    {
        "ExpiredTokenException", "IncompleteSignature", "InvalidClientTokenId", "InvalidSignatureException",
        "MissingAuthenticationToken", "MissingAuthenticationTokenException", "UnrecognizedClientException",
    }
)  # fmt: skip
_KEY_REFUSED: Final = re.compile(
    "API Key|bearer token|security token|Authentication failed|CallWithBearerToken", re.IGNORECASE
)
"""What a 403 says of a bad key; missing access to a model, and a denied `bedrock:InvokeModel`, are other sentences of
the same exception."""


def stream_failure(frame: Frame) -> UpstreamFailed | None:
    """The error of an exception or error frame; None for an event."""
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


def exception_of(what: Problem) -> tuple[int, str]:
    """Status and exception name for a Bedrock client: the provider's own where it was a Bedrock."""
    if what.native in _EXCEPTIONS:
        return what.status or _EXCEPTIONS[what.native][1], what.native
    return _OURS[what.code]


def reply_headers(request_id: str, usage: Usage | None) -> dict[str, str]:
    """Where botocore finds the `RequestId`, which its users log."""
    _ = usage
    return {"x-amzn-requestid": request_id}


def error(what: Problem) -> tuple[int, dict[str, str], bytes]:
    status, exception = exception_of(what)
    headers = {**json_api.error_headers(what), "x-amzn-errortype": exception}
    return status, headers, orjson.dumps({"message": what.message})


def failure_frame(what: Problem, *, converse: bool = False) -> bytes:
    """The exception frame that ends a stream."""
    exception = exception_of(what)[1]
    exception = _IN_STREAM.get(exception, exception)
    if converse:
        exception = _IN_CONVERSE.get(exception, exception)
    name = exception[:1].lower() + exception[1:]
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return eventstream.encode(headers, orjson.dumps({"message": what.message}))


def padded(payload: bytes) -> bytes:
    """An event's payload with Bedrock's `p`, which hides a token's length from who sees only the lengths of frames.

    It is a beginning of random length of the letters and digits (recorded traffic). One that has it stays as it is.
    """
    if b'"p":' in payload or payload[-1:] != b"}":
        return payload
    # salted anew in every process, so that a length tells nothing of the text
    padding = _PADDING[: 1 + hash(payload) % len(_PADDING)].encode()
    return b'%b%b"p":"%b"}' % (payload[:-1], b"" if payload == b"{}" else b",", padding)


def message(kind: str, payload: bytes) -> bytes:
    """One event of a stream."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return eventstream.encode(headers, payload)


def limit(ask: ClientRequest, *path: str) -> int | None:
    """The number that stands in a body where this path leads; None if there is none."""
    value = ask.top.decode(path[0])
    for name in path[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
