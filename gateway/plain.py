"""What a plugin gets for what it leaves out: a plain API of JSON bodies and server-sent events.

The classes here are also the bricks of the flags that are plain but for a detail.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

import orjson

from gateway import errors
from gateway.errors import BadFrame, Problem, Refused, Truncated, UpstreamFailed, invalid
from gateway.flag import Ask, Event, Fetch, Head, Members, Reply, Request, Send, Target
from gateway.framing import sse

CONTENT_TYPE: Final = "text/event-stream"


def parse(flag: str, dialect: str, request: Request) -> Ask:
    """An ask whose body names model and stream at its top level."""
    top = Members(request.body)
    return Ask(
        flag=flag,
        dialect=dialect,
        operation=request.route.operation,
        method=request.route.method,
        path=request.path,
        query=request.query,
        headers=request.headers,
        top=top,
        model=model_of(top),
        stream=top.decode("stream") is True,
    )


def model_of(top: Members) -> str:
    """The body's model. A variant in other letters is refused: a provider may read it where we did not."""
    for name in top:
        if name != "model" and name.lower() == "model":
            raise invalid(f'the body has "{name}"; write "model"', name)
    model = top.decode("model")
    if not isinstance(model, str) or not model:
        raise invalid('the body must name a "model", as a string', "model")
    return model


def no_steps(ask: Ask, target: Target) -> Generator[Send | Fetch, Reply, Ask]:
    """Nothing is asked or fetched before `build`."""
    _ = target
    yield from ()
    return ask


def problem_of(head: Head, body: bytes) -> Problem | None:
    """The error of a JSON API: any status of 400 and above, with a message wherever one is customary."""
    if head.status < 400:
        return None
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
        return float(head.headers["retry-after"])
    except (KeyError, ValueError):
        return None


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
        data = orjson.loads(body)
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
    """Server-sent events to events. What differs between dialects comes in as functions."""

    def __init__(
        self,
        kind: Callable[[str, bytes], str],
        is_last: Callable[[Event], bool],
        failure: Callable[[Event], Problem | None] | None = None,
    ) -> None:
        self.done = False
        self._frames = sse.Decoder()
        self._kind = kind
        self._is_last = is_last
        self._failure = failure

    def feed(self, data: bytes) -> Iterator[Event]:
        for frame in self._frames.feed(data):
            kind = self._kind(frame.headers.get("event", ""), frame.payload) if frame.payload else ""
            event = Event(kind, frame.payload, frame.raw)
            if kind and self._failure and (problem := self._failure(event)):
                raise UpstreamFailed(problem, frame.raw)
            if kind and self._is_last(event):
                self.done = True
            yield event

    def close(self) -> Iterator[Event]:
        if not self.done or self._frames.pending:
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
        headers["retry-after"] = str(max(1, round(problem.retry_after)))
    return headers


def no_text(event: Event) -> str:
    _ = event
    return ""


def same_event(event: Event, text: str) -> Event:
    """`with_text` of a flag that shows no text: there is nothing to write it to."""
    _ = text
    return event
