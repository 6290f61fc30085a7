"""A decoder and an encoder for API formats whose streams are server-sent events.

This is the decoder of an API with named events, a terminal event `end`, and error events:

    def decoder(request, target, head):
        return SseDecoder(lambda name, payload: name, lambda event: event.kind == "end", failure_of)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from gateway.contract import json_api, lenient_json, provider_errors
from gateway.contract.errors import BadFrame, Problem, Truncated, UpstreamFailed
from gateway.contract.flag import Event, Frame
from gateway.contract.framing import json_array, sse

MAX_START: Final = 65_536
"""Number of bytes that are kept from the start of a stream. If the stream has no events, the error quotes them."""
SHORTEST_WORDS: Final = 8
"""Minimum size in bytes of an invalid stream that an error message quotes.

A shorter stream is not quoted, because it may be the beginning of an event that was cut.
"""
NO_EVENTS: Final = "the provider's stream has no events"
"""The error message for a stream without any server-sent event."""
_SSE_LINE: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?:data|event|id|retry)?:")
_JSON: Final = re.compile(rb"[\[{]")
_TYPE_FIRST: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"([^"\\]*)"')


def typed_kind(name: str, payload: bytes, is_kind: Callable[[str], bool]) -> str:
    """Return the kind of an event, from its `name` and the `type` in its payload.

    If `is_kind(type)` is true, the kind is the `type`. If not, the kind is the name. Some servers and proxies omit
    names. So if the name is missing or is the default name `message`, the kind is the `type`, even if it is unknown.

    >>> sse_api.typed_kind("message", b'{"type": "delta"}', {"delta", "end"}.__contains__)
    'delta'
    >>> sse_api.typed_kind("end", b"{}", {"delta", "end"}.__contains__)
    'end'
    """
    match = _TYPE_FIRST.match(payload)
    if match is not None:
        kind = match[1].decode("utf-8", "replace")
    else:
        kind = _type_of(payload) if b'"type"' in payload else ""
    if is_kind(kind):
        return kind
    return name if name not in {"", _UNNAMED} else kind or _UNNAMED


_UNNAMED: Final = "message"
"""The kind of an event whose name is missing (WHATWG HTML, 9.2.6)."""


def _type_of(payload: bytes) -> str:
    try:
        data = lenient_json.loads(payload)
    except orjson.JSONDecodeError:
        return ""
    kind = data.get("type") if isinstance(data, dict) else None
    return kind if isinstance(kind, str) else ""


class SseDecoder:
    r"""A decoder of server-sent events. Its arguments are:

    - `kind(name, payload)` returns the kind of an event. `name` is the event's SSE name.
    - `is_last(event)` returns whether an event is the terminal event. Later events are read only for their usage: the
      client does not get them, and their errors are ignored.
    - `failure(event)` returns the problem that an event reports, or None.
    - `named` is true if clients need the name of each event. If the provider's name is missing or wrong, clients get
      the kind as the name.
    - `framing` is a `json_array.Decoder` for a stream that is a JSON array. By default, it is an `sse.Decoder`.

    The last event is decoded even if the blank line after it is missing.

    >>> decoder = sse_api.SseDecoder(lambda name, payload: name or "message", lambda event: event.kind == "end")
    >>> [event.kind for event in decoder.feed(b'data: {"text": "hi"}\n\nevent: end\ndata: {}\n\n')]
    ['message', 'end']
    >>> list(sse_api.SseDecoder(lambda name, payload: name, lambda event: event.kind == "end").close())
    Traceback (most recent call last):
        ...
    Truncated: the provider's stream ended before its final event
    """

    def __init__(
        self,
        kind: Callable[[str, bytes], str],
        is_last: Callable[[Event], bool],
        failure: Callable[[Event], Problem | None] | None = None,
        *,
        named: bool = False,
        framing: sse.Decoder | json_array.Decoder | None = None,
    ) -> None:
        self.done = False
        self._over = False
        self.framing: sse.Decoder | json_array.Decoder | None = framing or sse.Decoder()
        self._kind = kind
        self._is_last = is_last
        self._failure = failure
        self._named = named
        is_array = isinstance(framing, json_array.Decoder)
        self._first = _JSON if is_array else _SSE_LINE
        self._end = json_array.END if is_array else b""
        """The bytes that end the stream after an error event."""
        self._start = b""
        """The first bytes of the stream. They are b"" after the first event."""
        self._begun = False

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, without the parser that splits the stream into frames."""
        return {**self.__dict__, "framing": None}

    def frames(self, data: bytes) -> Iterator[Frame]:
        assert self.framing is not None
        if not self._begun and len(self._start) < MAX_START:
            self._start += data
        return self.framing.feed(data)

    def events(self, frame: Frame) -> Iterator[Event]:
        yield self._event(frame)

    def feed(self, data: bytes) -> Iterator[Event]:
        for frame in self.frames(data):
            yield self._event(frame)

    def close(self) -> Iterator[Event]:
        yield from self._last_events()
        if not self.done:
            raise self._truncated()

    def _last_events(self) -> list[Event]:
        """Return the event of the stream's last frame if its payload is complete. A fault in this frame does not fail a
        stream that was complete before.
        """
        was_done, was_over = self.done, self._over
        try:
            frame = self.framing.rest() if self.framing else None
            return [self._event(frame)] if frame is not None and self._is_complete(frame) else []
        except (BadFrame, UpstreamFailed):
            if not was_done:
                raise
            self._over = was_over
            return []

    def whole(self, body: bytes) -> bytes:
        return body

    def _event(self, frame: Frame) -> Event:
        name = frame.headers.get("event", "").strip()
        kind = self._kind(name, frame.payload) if frame.payload else ""
        # the LF that ends the terminal event's last line may arrive in a separate read
        raw: bytes | None = frame.raw if not self._over or frame.raw == sse.LF else b""
        if self._named and kind and kind != name and not self._over:
            raw = None
        event = Event(kind, frame.payload, raw)
        if kind and not self._over:
            self._begun, self._start = True, b""
            if self._failure and (problem := self._failure(event)):
                self._over = self.done
                raise UpstreamFailed(problem, frame.raw + self._end)
            if self._is_last(event):
                self.done = self._over = True
        return event

    def _is_complete(self, frame: Frame) -> bool:
        """Return whether the stream's last frame has a complete payload: a whole JSON object, or the terminal event."""
        payload = frame.payload
        if payload.lstrip()[:1] != b"{":
            kind = self._kind("", payload) if payload else ""
            return bool(kind) and self._is_last(Event(kind, payload))
        try:
            lenient_json.loads(payload)
        except orjson.JSONDecodeError:
            return False
        return True

    def _truncated(self) -> UpstreamFailed:
        """Return the error for a stream that ended too early. If the stream has no events, quote its text."""
        start = self._start.lstrip()
        if self._begun or len(start) < SHORTEST_WORDS or self._first.match(start):
            return Truncated()
        return provider_errors.not_a_reply(start, BadFrame(NO_EVENTS))


class SseEncoder:
    r"""An encoder of server-sent events without names.

    >>> encoder = sse_api.SseEncoder()
    >>> encoder.feed(event("chunk", {"text": "hi"})), encoder.ping()
    (b'data: {"text":"hi"}\n\n', b': ping\n\n')
    """

    def feed(self, event: Event) -> bytes:
        return sse.encode(event.payload) if event.payload else b""

    def whole(self, body: bytes) -> bytes:
        return body

    def ping(self) -> bytes:
        return sse.comment("ping")

    def fail(self, problem: Problem) -> bytes:
        return sse.encode(json_api.error(problem)[2])

    def close(self) -> bytes:
        return b""
