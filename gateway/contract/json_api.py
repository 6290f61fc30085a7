"""Bricks for flags that speak JSON bodies and server-sent events.

- A flag that differs from a plain JSON API in a detail takes the rest from here.
- Functions that read a client's request raise `Refused`; functions that read a provider's reply raise `BadFrame`.
- No flag's name and no dialect's events are known here. Hooks that a flag leaves out are in `defaults.py`.

For example, a flag with event names of its own and an error in mid-stream:

    def decoder(request, target, head):
        return SseDecoder(lambda name, payload: name, lambda event: event.kind == "end", failure_of)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.contract import errors, lenient_json
from gateway.contract.errors import (
    BadFrame,
    Problem,
    Refused,
    Truncated,
    UpstreamFailed,
    invalid,
)
from gateway.contract.flag import (
    ClientRequest,
    Drop,
    Event,
    Fetch,
    Head,
    HttpRequest,
    Members,
    StepResponse,
    Target,
    UpstreamRequest,
)
from gateway.contract.framing import sse

CONTENT_TYPE: Final = "text/event-stream"

MAX_MODEL: Final = 2048
"""Most characters of a model's name: the limit of Bedrock's `modelId` (botocore service model)."""
_UNNAMABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line ends and lone surrogates, which would break a log line, a header or a table."""
_SHOWN: Final = 100
"""Characters of a refused name that the refusal repeats."""

UNLIMITED: Final = 64_000
"""Tokens that are assumed for an answer without a limit: the most that Claude's models write, thinking included.

A translator that has to name a limit stays below this number (`Caps.max_output` and a budget for thinking)."""

MAX_RETRY_AFTER: Final = 86_400
"""Most seconds that a client is told to wait: a provider may send any number, and clients obey it."""


def parse(flag: str, dialect: str, request: HttpRequest) -> ClientRequest:
    """Return the request of a client whose body has `model` and `stream` at its top level. Raises `Refused`."""
    top = Members(request.body)
    stream = top.decode("stream")
    if stream is not None and not isinstance(stream, bool):  # a provider might take it for true where we did not
        raise invalid("stream must be true or false", "stream")
    return client_request(flag, dialect, request, top, model=model_of(top), stream=stream is True)


def client_request(
    flag: str, dialect: str, request: HttpRequest, top: Members, *, model: str, stream: bool
) -> ClientRequest:
    """Return the request of a client, given its model and whether it streams, wherever these two stand."""
    return ClientRequest(
        flag=flag,
        dialect=dialect,
        operation=request.route.operation,
        method=request.route.method,
        path=request.path,
        query=request.query,
        headers=request.headers,
        top=top,
        model=model,
        stream=stream,
    )


def known_query(query: str, names: Collection[str]) -> str:
    """Return the named parts of a query. Any other part may be a client's credential, and is left out."""
    return "&".join(part for part in query.split("&") if part.partition("=")[0] in names)


def model_of(top: Members) -> str:
    """Return the body's model. Raises `Refused` without one, or for `Model`, which some providers read as well."""
    for name in top:
        if name != "model" and name.lower() == "model":
            raise invalid(f'the body has "{name}"; write "model"', name)
    model = top.decode("model")
    if not isinstance(model, str) or not model:
        raise invalid('the body must name a "model", as a string', "model")
    return model_name(model)


def model_name(name: str) -> str:
    """Return a model's name unchanged. Raises `Refused` for a name that no provider could have."""
    if len(name) > MAX_MODEL:
        shown = _UNNAMABLE.sub("?", name[:_SHOWN])
        raise invalid(f'model: "{shown}..." has {len(name)} characters; at most {MAX_MODEL} are taken', "model")
    if _UNNAMABLE.search(name):
        shown = _UNNAMABLE.sub("?", name[:_SHOWN])
        raise invalid(f'model: "{shown}" has control characters; send the name without them', "model")
    return name


def no_steps(
    request: ClientRequest, target: Target, drop: Drop
) -> Generator[UpstreamRequest | Fetch, StepResponse, ClientRequest | StepResponse]:
    """Ask and fetch nothing before `build`, and return the request unchanged."""
    _ = target, drop
    yield from ()
    return request


def limit(request: ClientRequest) -> int | None:
    """Return the output limit of a body by the names that OpenAI and Anthropic use."""
    return limit_of(request, "max_completion_tokens", "max_tokens", "max_output_tokens")


def limit_of(request: ClientRequest, *names: str) -> int | None:
    """Return the largest number under any of the names, or None: which one a provider obeys is not known."""
    values = map(request.top.decode, names)
    return max((value for value in values if isinstance(value, int) and not isinstance(value, bool)), default=None)


def problem_of(head: Head, body: bytes) -> Problem | None:
    """Return the problem that a reply reports, or None.

    A status of 400 and above is a problem. So is a body that begins with `error` under a 200, which some aggregators
    send when a provider of theirs failed.
    """
    if head.status < 400:
        return None if _ERROR_FIRST.match(body) is None else replace(_error_of(Head(500, head.headers), body), status=0)
    return _error_of(head, body)


_UNAUTHORIZED: Final = 401
"""RFC 9110, 15.5.2: the credentials are not valid; a 403 says that they do not suffice."""
_ERROR_FIRST: Final = re.compile(rb'\s*\{\s*"error"\s*:\s*[{"]')


def _error_of(head: Head, body: bytes) -> Problem:
    message, native = message_of(body)
    return Problem(
        code=code_of(head.status),
        message=message or f"the provider answered {head.status} without a message",
        native=native,
        status=head.status,
        retry_after=retry_after(head),
        retryable=head.status in {408, 409, 429} or head.status >= 500,
        key_refused=head.status == _UNAUTHORIZED,
    )


def code_of(status: int) -> str:
    """Return the problem code for a provider's HTTP status."""
    return _CODES.get(status) or (errors.INTERNAL if status >= 500 else errors.INVALID_REQUEST)


_CODES: Final = {
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


def retry_after(head: Head) -> float | None:
    """Return the seconds of a Retry-After header, or None. No provider here uses its date form."""
    try:
        seconds = float(head.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else None


def message_of(body: bytes) -> tuple[str, str]:
    """Return message and native name of an error body in OpenAI's, Anthropic's or FastAPI's form, or in plain text."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body[:500].decode("utf-8", "replace").strip(), ""
    inner = data.get("error", data) if isinstance(data, dict) else data
    if isinstance(inner, dict):
        text = inner.get("message") or inner.get("Message") or inner.get("detail") or ""
        return str(text), str(inner.get("type") or inner.get("code") or "")
    return str(inner), ""


def json_object(body: bytes) -> dict[str, Any]:
    """Return a provider's reply as a decoded JSON object. Raises `BadFrame` if the reply is none."""
    try:
        data = lenient_json.loads(body)
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise BadFrame("the provider's reply is not a JSON object")
    return data


def json_members(body: bytes) -> Members:
    """Return the top-level members of a provider's JSON object. Raises `BadFrame` if the reply is none."""
    try:
        return Members(body)
    except Refused:
        raise BadFrame("the provider's reply is not a JSON object") from None


class SseDecoder:
    """Decodes server-sent events. Functions say in what a dialect differs.

    - `kind` returns an event's kind for its SSE name and its payload.
    - `is_last` returns whether an event is the terminal one. Later events are for the meter alone: they have no bytes
      for the client, and an error or half an event among them does not make a complete reply fail.
    - `failure` returns the problem of an error event.
    """

    def __init__(
        self,
        kind: Callable[[str, bytes], str],
        is_last: Callable[[Event], bool],
        failure: Callable[[Event], Problem | None] | None = None,
    ) -> None:
        self.done = False
        self._over = False
        self._frames = sse.Decoder()
        self._kind = kind
        self._is_last = is_last
        self._failure = failure

    def feed(self, data: bytes) -> Iterator[Event]:
        for frame in self._frames.feed(data):
            kind = self._kind(frame.headers.get("event", ""), frame.payload) if frame.payload else ""
            event = Event(kind, frame.payload, b"" if self._over else frame.raw)
            if kind and not self._over:
                if self._failure and (problem := self._failure(event)):
                    raise UpstreamFailed(problem, frame.raw)
                if self._is_last(event):
                    self.done = self._over = True
            yield event

    def close(self) -> Iterator[Event]:
        if not self.done:
            raise Truncated
        return iter(())

    def whole(self, body: bytes) -> bytes:
        return body


class SseEncoder:
    """Encodes events as server-sent events without names."""

    def feed(self, event: Event) -> bytes:
        return sse.encode(event.payload) if event.payload else b""

    def whole(self, body: bytes) -> bytes:
        return body

    def ping(self) -> bytes:
        return sse.comment("ping")

    def fail(self, problem: Problem) -> bytes:
        return sse.encode(error(problem)[2])

    def close(self) -> bytes:
        return b""


def error(problem: Problem) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and the body `{"error": {...}}` that most JSON APIs send."""
    body: dict[str, Any] = {"message": problem.message, "type": problem.native or problem.code}
    if problem.param:
        body["param"] = problem.param
    return errors.STATUS[problem.code], error_headers(problem), orjson.dumps({"error": body})


def error_headers(problem: Problem) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if problem.retry_after is not None:
        # in this order a NaN, which compares with nothing, becomes the 1
        headers["retry-after"] = str(round(min(MAX_RETRY_AFTER, max(1, problem.retry_after))))
    return headers


ESTIMATED: Final = "x-irisgate-estimated"
"""The header of replies whose tokens were counted by the gateway."""


def estimated_count(tokens: int) -> StepResponse:
    """Return the reply to `count_tokens` with the gateway's own count, and the header that marks it as an estimate."""
    headers = {"content-type": "application/json", ESTIMATED: "true"}
    return StepResponse(200, headers, orjson.dumps({"input_tokens": tokens}))


def text_bytes(*values: Any) -> int:
    """Return the UTF-8 bytes of all values that are strings."""
    return sum(len(value.encode(errors="replace")) for value in values if isinstance(value, str))
