"""What a plugin gets for what it leaves out: a plain API of JSON bodies and server-sent events.

The classes here are also the bricks of the flags that are plain but for a detail.
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
    Usage,
)
from gateway.contract.framing import sse

CONTENT_TYPE: Final = "text/event-stream"

MAX_MODEL: Final = 2048
"""Characters of a model's name: the limit of Bedrock's `modelId` (botocore service model)."""
_UNNAMABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line ends and halves of characters: what no log, header or table should have to hold."""
_SHOWN: Final = 100
"""Characters of such a name that a refusal repeats."""

UNLIMITED: Final = 64_000
"""Tokens that one answer without a limit may have: what Claude's models can write, more than most, thinking included. A
translator that has to name a limit stays below it (`Caps.max_output` and a budget for thinking)."""

MAX_RETRY_AFTER: Final = 86_400
"""Seconds; a provider that says more, or what is no number of seconds, would have clients wait for ever."""


def parse(flag: str, dialect: str, request: HttpRequest) -> ClientRequest:
    """An ask whose body names model and stream at its top level."""
    top = Members(request.body)
    stream = top.decode("stream")
    if stream is not None and not isinstance(stream, bool):  # a provider might take it for true where we did not
        raise invalid("stream must be true or false", "stream")
    return asked(flag, dialect, request, top, model=model_of(top), stream=stream is True)


def asked(flag: str, dialect: str, request: HttpRequest, top: Members, *, model: str, stream: bool) -> ClientRequest:
    """An ask of a request whose model and way of answering have been found, wherever they stand."""
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


def kept(query: str, names: Collection[str]) -> str:
    """Those parts of a query that a provider's API knows; any other may be a client's credential or an address."""
    return "&".join(part for part in query.split("&") if part.partition("=")[0] in names)


def model_of(top: Members) -> str:
    """The body's model. A variant in other characters is refused: a provider may read it where we did not."""
    for name in top:
        if name != "model" and name.lower() == "model":
            raise invalid(f'the body has "{name}"; write "model"', name)
    model = top.decode("model")
    if not isinstance(model, str) or not model:
        raise invalid('the body must name a "model", as a string', "model")
    return model_name(model)


def model_name(name: str) -> str:
    """The name as it came, from a body or a path. Raises `Refused` for one that no provider could have."""
    if len(name) > MAX_MODEL:
        shown = _UNNAMABLE.sub("?", name[:_SHOWN])
        raise invalid(f'model: "{shown}..." has {len(name)} characters; at most {MAX_MODEL} are taken', "model")
    if _UNNAMABLE.search(name):
        shown = _UNNAMABLE.sub("?", name[:_SHOWN])
        raise invalid(f'model: "{shown}" has control characters; send the name without them', "model")
    return name


def no_steps(
    ask: ClientRequest, target: Target, drop: Drop
) -> Generator[UpstreamRequest | Fetch, StepResponse, ClientRequest | StepResponse]:
    """Nothing is asked or fetched before `build`."""
    _ = target, drop
    yield from ()
    return ask


def no_retry(ask: ClientRequest, target: Target, problem: Problem, drop: Drop) -> ClientRequest | None:
    """A refusal is a refusal."""
    _ = ask, target, problem, drop
    return None


def limit(ask: ClientRequest) -> int | None:
    """The limit of a body in OpenAI's or Anthropic's manner."""
    return limit_of(ask, "max_completion_tokens", "max_tokens", "max_output_tokens")


def limit_of(ask: ClientRequest, *names: str) -> int | None:
    """The number that stands under one of the names; the largest of several, whichever a provider goes by."""
    values = map(ask.top.decode, names)
    return max((value for value in values if isinstance(value, int) and not isinstance(value, bool)), default=None)


def problem_of(head: Head, body: bytes) -> Problem | None:
    """The error of a JSON API: any status of 400 and above, with a message wherever one is customary.

    Also a body that begins with an `error` under a 200, as some aggregators answer when a provider of theirs failed.
    """
    if head.status < 400:
        return None if _ERROR_FIRST.match(body) is None else replace(_error_of(Head(500, head.headers), body), status=0)
    return _error_of(head, body)


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
    )


def code_of(status: int) -> str:
    """Our code for a provider's HTTP status."""
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
    """Seconds of a Retry-After header; its date form is not used by any provider here."""
    try:
        seconds = float(head.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else None


def message_of(body: bytes) -> tuple[str, str]:
    """Message and native name of an error body: OpenAI's, Anthropic's, FastAPI's, or plain text."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body[:500].decode("utf-8", "replace").strip(), ""
    inner = data.get("error", data) if isinstance(data, dict) else data
    if isinstance(inner, dict):
        text = inner.get("message") or inner.get("Message") or inner.get("detail") or ""
        return str(text), str(inner.get("type") or inner.get("code") or "")
    return str(inner), ""


def decoded(body: bytes) -> dict[str, Any]:
    """The JSON object of a provider's reply. Raises `BadFrame` if it is none."""
    try:
        data = lenient_json.loads(body)
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise BadFrame("the provider's reply is not a JSON object")
    return data


def members(body: bytes) -> Members:
    """The members of a provider's JSON object. Raises `BadFrame` if it is none."""
    try:
        return Members(body)
    except Refused:
        raise BadFrame("the provider's reply is not a JSON object") from None


class SseDecoder:
    """Server-sent events to events. What differs between dialects comes in as functions.

    `is_last` tells the terminal event. What comes after it is for the meter alone: it has no bytes for the client, and
    neither an error nor half an event there makes a failure of a reply that is complete.
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
    """Events to server-sent events without names."""

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
    """`{"error": {...}}`, as most JSON APIs say it."""
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


def reply_headers(request_id: str, usage: Usage | None) -> dict[str, str]:
    """None but those that all replies have."""
    _ = request_id, usage
    return {}


ESTIMATED: Final = "x-irisgate-estimated"
"""A header of replies whose count of tokens was made here."""


def estimated(tokens: int) -> StepResponse:
    """The answer to `count_tokens` where no provider counts: `{"input_tokens": N}`, and a header that says so."""
    headers = {"content-type": "application/json", ESTIMATED: "true"}
    return StepResponse(200, headers, orjson.dumps({"input_tokens": tokens}))


def no_text(event: Event) -> str:
    _ = event
    return ""


def output_bytes(texts: Callable[[Event], str]) -> Callable[[Event], int]:
    """`output_bytes` of a flag that shows only its texts."""
    return lambda event: size(texts(event))


def size(*values: Any) -> int:
    """Bytes of those of the values that are texts."""
    return sum(len(value.encode(errors="replace")) for value in values if isinstance(value, str))


def same_event(event: Event, text: str) -> Event:
    """`with_text` of a flag that shows no text: there is nothing to write it to."""
    _ = text
    return event
