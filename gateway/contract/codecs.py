"""Objects that a compatibility flag makes for one reply: its decoder, its meter and its encoder.

Plugins import these protocols from `flag.py`, with the rest of the contract.
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
    """

    def __call__(self, path: str) -> None: ...


class Decoder(Protocol):
    """A decoder from the provider's bytes to events of the dialect in which the request was sent."""

    done: bool
    """True after the terminal event. If it becomes False again, the stream goes on."""

    def feed(self, data: bytes) -> Iterable[Event]:
        """Yield the events that `data` completes.

        Raises `UpstreamFailed` for an error event and `BadFrame` for invalid bytes, after the events before them were
        yielded.
        """

    def close(self) -> Iterable[Event]:
        """Yield the events that are known only at the end of the stream.

        Raises `Truncated` if the stream ended too early.
        """

    def whole(self, body: bytes) -> bytes:
        """Return the body of a reply that is not a stream, as JSON of the target's dialect.

        Raises `BadFrame` if it is invalid.
        """


class FrameDecoder(Decoder, Protocol):
    """A decoder whose work on a large frame can be done in a worker process. `feed` joins `frames` and `events`."""

    framing: Any
    """The parser of frames, which stays in the gateway's process. It is None in a copy that was sent to a worker
    process."""

    def frames(self, data: bytes) -> Iterable[Frame]:
        """Yield the frames that `data` completes. Raises the exceptions of `feed`."""

    def events(self, frame: Frame) -> Iterable[Event]:
        """Yield the events in a frame. Raises the exceptions of `feed`."""


class Meter(Protocol):
    """A reader of tokens and other facts from the provider's reply. It does not change the reply."""

    def feed(self, event: Event) -> None: ...

    def whole(self, body: bytes) -> None: ...

    def facts(self) -> Facts: ...


class Encoder(Protocol):
    """An encoder of events of the client's dialect to the bytes that the client receives."""

    def feed(self, event: Event) -> bytes: ...

    def whole(self, body: bytes) -> bytes: ...

    def ping(self) -> bytes:
        """Return the bytes that keep an idle stream open; b"" if the format has no such bytes."""

    def fail(self, problem: Problem) -> bytes:
        """Return the bytes that report an error within a stream and end the stream.

        `close` is not called afterwards.
        """

    def close(self) -> bytes:
        """Return the bytes that end a stream without an error."""
