"""The protocols of decoders, meters and encoders. Each object of these protocols handles one reply.

A compatibility flag (the plugin of one API format) makes the objects. Plugins import the protocols from `flag.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from gateway.contract.errors import Problem
from gateway.contract.facts import Facts
from gateway.contract.messages import Event, Frame


class Drop(Protocol):
    """A callback by which plugins report that a field of the request or the reply is left out.

    `path` is the JSON pointer of the field.

    >>> drop("/prompt/0/image")
    >>> dropped
    ['/prompt/0/image']
    """

    def __call__(self, path: str) -> None: ...


class Decoder(Protocol):
    r"""A decoder from the provider's bytes to events of the dialect in which the request was sent.

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
    """True after the terminal event. A decoder may set it back to False when later events show that the stream goes
    on."""

    def feed(self, data: bytes) -> Iterable[Event]:
        """Yield the events that `data` completes.

        Raises `UpstreamFailed` for an error event and `BadFrame` for invalid bytes. Earlier events are yielded first.
        """

    def close(self) -> Iterable[Event]:
        """Yield the events that are known only at the end of the stream.

        Raises `Truncated` if the stream ended too early.
        """

    def whole(self, body: bytes) -> bytes:
        """Return the body of an unstreamed reply as JSON of the dialect in which the request was sent.

        Raises `BadFrame` if it is invalid.
        """


class FrameDecoder(Decoder, Protocol):
    r"""A decoder that can decode a large frame in a worker process.

    `feed(data)` is the same as `frames(data)` followed by `events(frame)` for each frame.

    >>> decoder = sse_api.SseDecoder(lambda name, payload: "chunk", lambda event: event.payload == b"[DONE]")
    >>> (frame,) = decoder.frames(b'data: {"text": "hi"}\n\n')
    >>> [event.data for event in decoder.events(frame)]
    [{'text': 'hi'}]
    """

    framing: Any
    """The parser of frames, which stays in the gateway's process. It is None in a copy that was sent to a worker
    process."""

    def frames(self, data: bytes) -> Iterable[Frame]:
        """Yield the frames that `data` completes. Raises the exceptions of `feed`."""

    def events(self, frame: Frame) -> Iterable[Event]:
        """Yield the events in a frame. Raises the exceptions of `feed`."""


class Meter(Protocol):
    """A reader of tokens and other facts from the provider's reply. It does not change the reply.

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

        Raises `BadFrame` if the event cannot be read. The reply then ends with an error, unless the client gets the
        provider's bytes unchanged.
        """

    def whole(self, body: bytes) -> None:
        """Read a reply that is not a stream, as the provider sent it. Raises `BadFrame` if it cannot be read."""

    def facts(self) -> Facts:
        """Return the facts that were read so far.

        The gateway may call this method at any time, also after a reply that broke off.
        """


class Encoder(Protocol):
    r"""An encoder of events of the client's dialect to the bytes that the client receives.

    >>> encoder = sse_api.SseEncoder()
    >>> encoder.feed(event("chunk", {"text": "hi"})), encoder.ping(), encoder.close()
    (b'data: {"text":"hi"}\n\n', b': ping\n\n', b'')
    >>> sse_api.SseEncoder().fail(problem)
    b'data: {"error":{"message":"prompt must be a string","type":"invalid_request","param":"prompt"}}\n\n'
    >>> encoder.whole(b'{"text": "hi"}')
    b'{"text": "hi"}'
    """

    def feed(self, event: Event) -> bytes:
        """Return the bytes of one event that the gateway made or changed.

        Events that keep the provider's bytes (`Event.raw`) are not encoded.
        """

    def whole(self, body: bytes) -> bytes:
        """Return the body that the client gets for an unstreamed reply. `body` is JSON of the client's dialect."""

    def ping(self) -> bytes:
        """Return the bytes that keep an idle stream open; b"" if the format has no such bytes."""

    def fail(self, problem: Problem) -> bytes:
        """Return the bytes that report an error within a stream and end the stream.

        `close` is not called afterwards.
        """

    def close(self) -> bytes:
        """Return the bytes that end a stream without an error."""
