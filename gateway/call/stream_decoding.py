"""Decodes the bytes of a provider's stream to batches of events. The gateway's API keys are removed from the events.

- Usually the decoder gets the bytes of one read, and yields the events that these bytes complete.
- A frame that is slow to decode (`costly` in the code) is decoded in a worker process (`provider_stream.py`). To find
  such frames, long reads are decoded frame by frame.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Final, cast

import msgspec

from gateway.call.key_redaction import EventRedaction
from gateway.call.responses import Batch
from gateway.call.turns import Turns
from gateway.contract.errors import GatewayError
from gateway.contract.flag import Decoder, Event, Frame, FrameDecoder
from gateway.contract.hooks import Hook
from gateway.upstream.process_pool import LARGE_REPLY, is_costly

BATCH_EVENTS: Final = 64
"""Maximum number of events in a batch. After a full batch, the stream lets other streams work (`call/turns.py`)."""
SHORT_READ_BYTES: Final = 2048
"""Maximum number of bytes of a short read. All events of a short read are one batch. Nearly all reads are short.
Decoding one takes at most a few milliseconds, because all its frames are small (`is_costly`).
"""


@dataclass(slots=True)
class Decoding:
    """Decodes the bytes of one stream to events, with the provider's decoder, and removes the gateway's keys."""

    decoder: Decoder
    redacted: EventRedaction
    by_frames: bool
    """True if the stream consists of frames that can be decoded one by one. A worker process can then decode a large
    frame.
    """
    turns: Turns

    @property
    def framed(self) -> FrameDecoder:
        return cast("FrameDecoder", self.decoder)

    def may_complete_costly(self, data: bytes, size: int) -> bool:
        """Return whether the read `data` may complete a frame that is slow to decode.

        `size` is the number of bytes since the last complete event, including `data`.
        """
        return self.by_frames and (size >= LARGE_REPLY or is_costly(data))

    def is_short(self, data: bytes, size: int) -> bool:
        """Return whether the read `data` is short (`SHORT_READ_BYTES`) and no part of a large frame.

        `size` is the number of bytes since the last complete event, including `data`.
        """
        return len(data) <= SHORT_READ_BYTES and size < LARGE_REPLY

    def read(self, hook: Hook, data: bytes) -> tuple[Batch, GatewayError | None]:
        """Return the events that a short read (`SHORT_READ_BYTES`) completes, and the error after them, or None."""
        self.redacted.look(data)
        events, fault = hook.listed(self.decoder.feed, (data,))
        return Batch([*self.redacted.clean(events)]), fault

    def feed(self, hook: Hook, data: bytes) -> AsyncGenerator[Batch, None]:
        """Yield, in batches, the events that became complete with `data`."""
        return batches_of(hook, self.redacted.feed(data, hook.each(self.decoder.feed, data)), self.turns)


class LightFrames(msgspec.Struct):
    """Decodes the frames of one read on the event loop, except frames that are slow to decode.

    `events` stops at each slow frame. The caller decodes that frame, and then calls `events` again.
    """

    hook: Hook
    decoding: Decoding
    data: bytes
    frames: Iterator[Frame] | None = None
    costly: Frame | None = None
    """The slow frame at which the previous call of `events` stopped. None if it reached the end of the read."""

    def events(self) -> Iterable[Event]:
        """Return the events of the next frames, up to a frame that is slow to decode (`costly`), without the gateway's
        keys.

        Raises `GatewayError` if a frame cannot be decoded or reports an error.
        """
        self.costly = None
        return self.decoding.redacted.clean(self.hook.each(self._events))

    def _events(self) -> Iterator[Event]:
        if self.frames is None:
            self.frames = iter(self.decoding.framed.frames(self.data))
        for frame in self.frames:
            if is_costly(frame.payload):
                self.costly = frame
                return
            yield from self.decoding.framed.events(frame)


async def batches_of(hook: Hook, events: Iterable[Event], turns: Turns) -> AsyncGenerator[Batch, None]:
    """Yield the events of one read in batches. Report to `hook` how long the decoder has run.

    A `GatewayError` of `events` is raised after the events before it were yielded.
    """
    batch: list[Event] = []
    began = perf_counter()
    try:
        for event in events:
            batch.append(event)
            if len(batch) >= BATCH_EVENTS:
                hook.ran(perf_counter() - began)
                yield Batch(batch)
                batch = []
                await turns.take()
                began = perf_counter()
    except GatewayError:
        hook.ran(perf_counter() - began)
        if batch:
            yield Batch(batch)
        raise
    hook.ran(perf_counter() - began)
    if batch:
        yield Batch(batch)
