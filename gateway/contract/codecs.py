"""The protocols of decoders, meters and encoders. Each such object handles one reply.

The hooks `decoder`, `meter` and `encoder` of a compatibility flag (plugin of an API format) return these objects.
Plugins import the protocols from `flag.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from gateway.contract.errors import Problem
from gateway.contract.facts import Facts
from gateway.contract.messages import Event, Frame


class Drop(Protocol):
    """A callback with which a plugin reports that it leaves out a field. `path` is the field's JSON pointer.

    >>> drop("/prompt/0/image")
    >>> dropped
    ['/prompt/0/image']
    """

    def __call__(self, path: str) -> None: ...


class Decoder(Protocol):
    r"""A decoder that turns the provider's bytes into events.

    The events have the same dialect (format of bodies) as the request to the provider.

    The example uses the decoder of server-sent events. `plugins/examples/ollama_chat.py` has a decoder of JSON lines.

    >>> decoder = sse_api.SseDecoder(lambda name, payload: "chunk", lambda event: event.payload == b"[DONE]")
    >>> [event.payload for event in decoder.feed(b'data: {"text": "hi"}\n\ndata: [DO')], decoder.done
    ([b'{"text": "hi"}'], False)
    >>> [event.payload for event in decoder.feed(b"NE]\n\n")], decoder.done
    ([b'[DONE]'], True)
    >>> list(decoder.close()), decoder.whole(b'{"text": "hi"}')
    ([], b'{"text": "hi"}')
    """

    done: bool
    """True after the terminal event. If more events follow, the decoder may set this to False again."""

    def feed(self, data: bytes) -> Iterable[Event]:
        """Yield the events that `data` completes.

        Raises `UpstreamFailed` for an error event and `BadFrame` for invalid bytes. The events before are yielded
        first.
        """

    def close(self) -> Iterable[Event]:
        """Yield the last events, if the decoder needs the end of the stream to know them.

        Raises `Truncated` if the stream ended before its terminal event.
        """

    def whole(self, body: bytes) -> bytes:
        """Return the body of a reply that is not a stream, as JSON. Raises `BadFrame` if the body is invalid."""


class FrameDecoder(Decoder, Protocol):
    r"""A decoder that works in two steps: `frames` splits the stream into frames, and `events` decodes one frame. If a
    frame is large, `events` can run in a worker process.

    `feed(data)` does both steps: it calls `frames(data)`, and then `events(frame)` for each frame.

    >>> decoder = sse_api.SseDecoder(lambda name, payload: "chunk", lambda event: event.payload == b"[DONE]")
    >>> (frame,) = decoder.frames(b'data: {"text": "hi"}\n\n')
    >>> [event.data for event in decoder.events(frame)]
    [{'text': 'hi'}]
    """

    framing: Any
    """The parser that splits the stream into frames. It is None in a worker process, which only calls `events`."""

    def frames(self, data: bytes) -> Iterable[Frame]:
        """Yield the frames that `data` completes. Raises `BadFrame` for invalid bytes."""

    def events(self, frame: Frame) -> Iterable[Event]:
        """Yield the events in a frame. Raises `UpstreamFailed` for an error event and `BadFrame` for invalid data."""


class Meter(Protocol):
    """A reader of the tokens and other facts in the provider's reply.

    >>> class StopMeter:
    ...     def __init__(self):
    ...         self._facts = Facts()
    ...     def feed(self, event):
    ...         self.whole(event.payload)
    ...     def whole(self, body):
    ...         self._facts.stop = json_api.json_object(body).get("stop", "")
    ...     def facts(self):
    ...         return self._facts
    >>> meter = StopMeter()
    >>> meter.whole(b'{"text": "hi", "stop": "end"}')
    >>> meter.facts().stop
    'end'
    """

    def feed(self, event: Event) -> None:
        """Read one event of the stream.

        Raises `BadFrame` if the event cannot be read. Then the client gets an error, unless the gateway forwards the
        provider's bytes unchanged.
        """

    def whole(self, body: bytes) -> None:
        """Read the provider's body of a reply that is not a stream. Raises `BadFrame` if it cannot be read."""

    def facts(self) -> Facts:
        """Return the facts that were read so far. The gateway may call this at any time, even after a cut reply."""


class Encoder(Protocol):
    r"""An encoder that makes the client's bytes from events of the client's dialect (format of bodies).

    >>> encoder = sse_api.SseEncoder()
    >>> encoder.feed(event("chunk", {"text": "hi"})), encoder.ping(), encoder.close()
    (b'data: {"text":"hi"}\n\n', b': ping\n\n', b'')
    >>> sse_api.SseEncoder().fail(problem)
    b'data: {"error":{"message":"prompt must be a string","type":"invalid_request","param":"prompt"}}\n\n'
    >>> encoder.whole(b'{"text": "hi"}')
    b'{"text": "hi"}'
    """

    def feed(self, event: Event) -> bytes:
        """Return the client's bytes for one event.

        The gateway calls this only for an event that it has made or changed. For any other event, it sends the
        provider's bytes (`Event.raw`).
        """

    def whole(self, body: bytes) -> bytes:
        """Return the body to send to the client for a reply that is not a stream.

        `body` is the reply as JSON of the client's dialect.
        """

    def ping(self) -> bytes:
        """Return bytes that keep an idle connection open, or b"" if the format has no such bytes."""

    def fail(self, problem: Problem) -> bytes:
        """Return the bytes that end a stream with an error. `close` is not called afterwards."""

    def close(self) -> bytes:
        """Return the bytes that end a stream without an error."""
