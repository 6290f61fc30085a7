"""Paths, headers, errors and event-stream messages that all operations of bedrock-runtime have in common.

Sources: botocore's service model of bedrock-runtime (operations, statuses of exceptions); litellm#3805 (the suffix in
the error header); vercel/ai#17523 (errors with status 200).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, urlsplit

import orjson

from gateway.contract import errors, json_api, lenient_json, provider_errors
from gateway.contract.aws_domains import AWS_DOMAIN
from gateway.contract.errors import BadFrame, Problem, Refused, UpstreamFailed
from gateway.contract.flag import (
    ClientApi,
    ClientRequest,
    Event,
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
        "/bedrock/model/{model}/invoke-with-bidirectional-stream", "/bedrock/guardrail/{id}/version/{version}/apply",
        "/bedrock/foundation-models", "/bedrock/foundation-models/{id}",
    ),
    headers=("amz-sdk-invocation-id", "amz-sdk-request"),
)  # fmt: skip
STREAMING: Final = frozenset({"converse-stream", "invoke-with-response-stream"})
"""Last path segment of each streaming operation."""
_JSON: Final = "application/json"

_HOST: Final = re.compile(rf"bedrock-[a-z-]+\.[a-z0-9-]+\.(?:{AWS_DOMAIN})")
"""Pattern for the hosts of Bedrock's endpoints."""

_EXCEPTIONS: Final[Mapping[str, tuple[str, int, bool]]] = {
    # exception: (the gateway's code, HTTP status in the service model, whether a retry may help)
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
    errors.BLOCKED: (403, "AccessDeniedException"),
    errors.NOT_FOUND: (404, "ResourceNotFoundException"),
    errors.NO_ROUTE: (404, "UnknownOperationException"),
    errors.TOO_LARGE: (413, "ValidationException"),
    errors.UNSUPPORTED_CODING: (415, "ValidationException"),
    errors.REQUEST_TIMEOUT: (408, "RequestTimeoutException"),
    errors.TIMEOUT: (408, "ModelTimeoutException"),
    errors.RATE_LIMIT: (429, "ThrottlingException"),
    errors.QUOTA: (429, "ThrottlingException"),
    errors.OVERLOADED: (503, "ServiceUnavailableException"),
    errors.UNAVAILABLE: (503, "ServiceUnavailableException"),
    errors.UPSTREAM: (502, "InternalServerException"),
    errors.PLUGIN: (500, "InternalServerException"),
    errors.INTERNAL: (500, "InternalServerException"),
}
_IN_STREAM: Final[Mapping[str, str]] = {
    # exception that no stream has in the service model: the nearest exception that a stream has
    "AccessDeniedException": "ValidationException",
    "ResourceNotFoundException": "ValidationException",
    "ConflictException": "ValidationException",
    "UnknownOperationException": "ValidationException",
    "ServiceQuotaExceededException": "ThrottlingException",
    "ModelNotReadyException": "ServiceUnavailableException",
    "ModelErrorException": "ModelStreamErrorException",
}
_IN_CONVERSE: Final[Mapping[str, str]] = {"ModelTimeoutException": "ModelStreamErrorException"}
"""Exceptions that ConverseStream lacks, each with the exception that ConverseStream sends instead."""
_KEY_FAULTS: Final = frozenset(
    {
        "ExpiredTokenException", "IncompleteSignature", "InvalidClientTokenId", "InvalidSignatureException",
        "MissingAuthenticationToken", "MissingAuthenticationTokenException", "UnrecognizedClientException",
    }
)  # fmt: skip
_KEY_REFUSED: Final = re.compile(
    "API Key|bearer token|security token|Authentication failed|CallWithBearerToken", re.IGNORECASE
)
"""Pattern for the error message of a 403 that refuses the key.

AWS sends the same exception for missing access to the model. Only the message tells the two apart.
"""
_PADDING: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def routes(*operations: tuple[str, str]) -> tuple[Route, ...]:
    """Return two routes for each operation: Bedrock's own path, and the same path below /bedrock.

    `operations` are pairs of the last path segment and the operation's name. The routes accept slashes in a model
    id, because some clients do not escape the slashes of an ARN.
    """
    return tuple(
        Route("POST", f"{prefix}/model/{{model:.+}}/{last}", operation)
        for prefix in ("", "/bedrock")
        for last, operation in operations
    )


def base_url_fault(url: str) -> str:
    parts = urlsplit(url)
    if _HOST.fullmatch(parts.hostname or "") and parts.path.rstrip("/").endswith("/v1"):
        return 'Bedrock\'s own paths have no "/v1"; end the address behind the host'
    return ""


def last_part(path: str) -> str:
    """Return the last segment of a path, such as `converse-stream`."""
    return path.rpartition("/")[2]


def parse(flag: str, dialect: str, request: HttpRequest, top: Members) -> ClientRequest:
    """Return the request. The path names the model, and tells whether the reply is to be a stream.

    Raises `Refused` for a malformed model name.
    """
    model = json_api.model_name(request.params["model"])
    return json_api.client_request(
        flag, dialect, request, top, model=model, stream=last_part(request.route.path) in STREAMING
    )


def upstream_request(target: Target, operation: str, body: bytes, headers: Headers) -> UpstreamRequest:
    """Return a request to bedrock-runtime."""
    return UpstreamRequest("POST", f"/model/{_segment(target.model)}/{operation}", body, headers=headers)


@lru_cache(256)
def _segment(model: str) -> str:
    """Return a model's id as one path segment. The slashes of an ARN are escaped."""
    return quote(model, safe="")


def request_headers(client: Headers, *, is_invoke: bool = False) -> dict[str, str]:
    """Return the headers to send to Bedrock.

    Of the client's headers, only `x-amzn-bedrock-*` are passed on, and `accept` if the request goes to InvokeModel
    (`is_invoke`).
    """
    options = {name: value for name, value in client.items() if name.startswith("x-amzn-bedrock-")}
    accept = client.get("accept", _JSON) if is_invoke else _JSON  # other clients mean the gateway's reply
    return {"content-type": _JSON, "accept": accept, **options}


MAX_FAILURE: Final = 64 * 1024
"""Maximum number of bytes that are read of an exception frame. Messages of exceptions have a few hundred bytes."""
_ERROR_HEADER: Final = "x-amzn-errortype"
_UNKNOWN_NAME: Final = "UnknownOperationException"
_UNKNOWN_MESSAGE: Final = "the provider does not know this operation or path"
_EXCEPTION: Final = re.compile(
    rb'\s*\{\s*(?:"Output"\s*:\s*\{\s*"__type"\s*:\s*"[^"]*%b"|"__type"\s*:\s*"[^"]*(?:Exception|Error)")'
    % _UNKNOWN_NAME.encode()
)
"""Pattern for the beginning of a body that reports an exception.

For an unknown path, AWS answers with status 200 and an exception in the field `Output`."""


def problem_for(head: Head, body: bytes) -> Problem | None:
    """Return the problem in an error reply, or None if the reply is no error.

    The error header names the problem. Without this header, `__type` or `code` in the body names the problem. If the
    body has neither field, the status decides.

    A reply with status 200 is an error if it has the error header, or if its body begins with an exception. A body with
    the field `Output` is an error only if the field has an exception, because a model's reply may have this field too.
    """
    if head.status < 400 and _ERROR_HEADER not in head.headers and _EXCEPTION.match(body) is None:
        return None
    try:
        data = lenient_json.loads(body)
    except orjson.JSONDecodeError:
        return provider_errors.problem_of(head, body)
    data = data if isinstance(data, dict) else {}
    output = data.get("Output")
    inner = output if isinstance(output, dict) else data
    native = head.headers.get(_ERROR_HEADER) or str(inner.get("__type") or inner.get("code") or "")
    native = native.partition(":")[0].rpartition("#")[2]
    default = _UNKNOWN_MESSAGE if native == _UNKNOWN_NAME else f"the provider answered {head.status} without a message"
    message = str(data.get("message") or data.get("Message") or default)
    status = head.status if head.status >= 400 else errors.STATUS[errors.UPSTREAM]
    unknown = provider_errors.code_of(status) if head.status >= 400 else errors.UPSTREAM
    code, usual_status, retryable = _EXCEPTIONS.get(native, (unknown, status, status >= 500))
    return Problem(
        code=code,
        message=message,
        native=native,
        status=head.status if head.status >= 400 else usual_status,
        retryable=retryable,
        key_refused=head.status in {401, 403} and (native in _KEY_FAULTS or _KEY_REFUSED.search(message) is not None),
        **provider_errors.waits(head),
    )


class EventStreamReader(ABC):
    """Base class of stream decoders: reads the frames of an AWS event stream."""

    def __init__(self) -> None:
        self.done = False
        """True if the reply is complete."""
        self.framing: eventstream.Decoder | None = eventstream.Decoder()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, without the frame parser (`framing`)."""
        return {**self.__dict__, "framing": None}

    def frames(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes.

        Raises `UpstreamFailed` for a frame that reports a failure, and `BadFrame` for invalid bytes. After a complete
        reply, raises nothing.
        """
        assert self.framing is not None
        try:
            for frame in self.framing.feed(data):
                failure = stream_failure(frame)
                if failure is None:
                    yield frame
                elif not self.done:
                    raise failure
        except BadFrame:
            if not self.done:
                raise

    @abstractmethod
    def events(self, frame: Frame) -> Iterable[Event]:
        """Return the events of a frame."""

    def feed(self, data: bytes) -> Iterator[Event]:
        for frame in self.frames(data):
            yield from self.events(frame)


def stream_failure(frame: Frame) -> UpstreamFailed | None:
    """Return the error that an exception frame or error frame reports. Return None for a frame with an event."""
    kind = frame.headers.get(":message-type", "event")
    if kind == "event":
        return None
    if kind == "error":
        native = frame.headers.get(":error-code", "")
        message = frame.headers.get(":error-message", "")
    else:
        native = frame.headers.get(":exception-type", "")
        message = provider_errors.message_of(frame.payload[:MAX_FAILURE])[0]
    native = native[:1].upper() + native[1:]
    code, status, retryable = _EXCEPTIONS.get(native, (errors.INTERNAL, 500, True))
    return UpstreamFailed(Problem(code, message or native, native, status, retryable=retryable), frame.raw)


def exception_of(problem: Problem) -> tuple[int, str]:
    """Return the HTTP status and the exception name that a Bedrock client gets for `problem`.

    If the provider sent a Bedrock exception, its name is kept. Otherwise the gateway's error code decides.
    """
    if problem.native in _EXCEPTIONS:
        return problem.status or _EXCEPTIONS[problem.native][1], problem.native
    return _BY_CODE[problem.code]


def reply_headers(request_id: str, _usage: Usage | None) -> dict[str, str]:
    """Return the header with the request's id. botocore reads it as `RequestId`."""
    return {"x-amzn-requestid": request_id}


def error(problem: Problem) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an error reply.

    boto3 reads the time to wait before a retry from the header `x-amz-retry-after`, in milliseconds.
    """
    status, exception = exception_of(problem)
    headers = {**provider_errors.error_headers(problem), _ERROR_HEADER: exception}
    if seconds := headers.get("retry-after"):
        headers["x-amz-retry-after"] = headers.get("retry-after-ms") or f"{seconds}000"
    return status, headers, orjson.dumps({"message": problem.message})


def failure_frame(problem: Problem, *, converse: bool = False) -> bytes:
    """Return the exception frame that ends a failed stream.

    ConverseStream and InvokeModel name some exceptions differently. `converse` is true for ConverseStream.
    """
    exception = exception_of(problem)[1]
    exception = _IN_STREAM.get(exception, exception)
    if converse:
        exception = _IN_CONVERSE.get(exception, exception)
    name = exception[:1].lower() + exception[1:]
    headers = {":exception-type": name, ":content-type": _JSON, ":message-type": "exception"}
    return eventstream.encode(headers, orjson.dumps({"message": problem.message}))


def padded(payload: bytes) -> bytes:
    """Return an event's payload with the padding field `p`, so that a frame's length does not reveal its text's length.

    Bedrock does the same (recorded traffic). The value of `p` is a prefix of `_PADDING`, of varying length. A payload
    that already has `p` is unchanged.
    """
    if b'"p":' in payload or payload[-1:] != b"}":
        return payload
    # Python salts hash() of bytes in every process, so the length does not depend on the text alone
    padding = _PADDING[: 1 + hash(payload) % len(_PADDING)].encode()
    return b'%b%b"p":"%b"}' % (payload[:-1], b"" if payload == b"{}" else b",", padding)


def message(kind: str, payload: bytes) -> bytes:
    """Return the frame of one event, with its type and payload."""
    headers = {":event-type": kind, ":content-type": _JSON, ":message-type": "event"}
    return eventstream.encode(headers, payload)


def limit(request: ClientRequest, *path: str) -> int | None:
    """Return the output limit: the integer in the body at a path of field names. Return None if there is no integer."""
    top = request.top
    try:
        for name in path[:-1]:
            if (value := top.get(name)) is None:
                return None
            top = Members(value)
        return json_api.integer(top.small(path[-1]))
    except Refused:  # the provider reports the fault
        return None
