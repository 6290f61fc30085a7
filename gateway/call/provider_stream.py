"""The stream of a provider's reply: its bytes, decoded to batches of events.

- The bytes of a short read are decoded and passed on as soon as they come, without waking the task of the call
  (`stages.py`).
- Events that came before an error are passed on before the error.
- The number of bytes of an incomplete event is limited, because an event may never end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.call.chain import Attempt, Call
from gateway.call.key_redaction import EventRedaction
from gateway.call.reply_work import decode
from gateway.call.responses import NO_EVENTS, Batch, Batches, Take
from gateway.call.stream_decoding import Decoding, LightFrames, batches_of
from gateway.contract.errors import BadFrame, GatewayError, PluginFailed, Stalled, Truncated, UpstreamFailed
from gateway.contract.flag import Decoder, Event
from gateway.contract.hooks import Hook
from gateway.upstream.process_pool import DropRelay, ProcessPool

AFTER_LAST: Final = 2.0
"""Maximum number of seconds for which a stream is read after its terminal event. A usage report may follow that
event."""
LONG_READ_BYTES: Final = 16 * 1024
"""Minimum size in bytes of a read for which the stream waits for its turn (`call/turns.py`) before the bytes are
decoded. Most reads are smaller.
"""
UNCOUNTED_BYTES: Final = 32 * 1024
"""Number of bytes of an incomplete event that do not count in the memory budget. If an event has more, all its bytes
count. Most events have fewer.
"""


class Reads(Protocol):
    """The bytes of a reply, one read at a time."""

    async def next(self, quick: Callable[[bytes], bool]) -> bytes:
        """Return the next bytes, or b"" at the end. Raises `GatewayError` if the reply breaks off.

        Bytes that come during the wait are first passed to `quick`. They are returned only if `quick` returns False.
        """

    def event_came(self) -> None:
        """Note that an event has become complete."""


class Received:
    """The bytes of a complete reply."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def next(self, _quick: Callable[[bytes], bool]) -> bytes:
        body, self._body = self._body, b""
        return body

    def event_came(self) -> None:
        """Do nothing: the whole reply has come already."""


@dataclass(slots=True)
class ProviderStream:
    """The stream of one reply. It yields batches of events, which then pass through the stages of the stream."""

    call: Call
    attempt: Attempt
    reads: Reads
    decoding: Decoding
    pool: ProcessPool
    failed: Callable[[Attempt, UpstreamFailed], None]
    """Called with the error if the stream ends with an error of the provider. It counts the failed attempt."""
    _feed: Hook = field(init=False)
    _take: Take = field(init=False)
    _size: int = 0
    """The number of bytes that have arrived since the last complete event."""
    _decoded: tuple[Batch, Exception | None] | None = None
    """Events that `_quick` has decoded but could not pass on, and the error that followed them, if any. None without
    such events.

    The task of the call passes the events on and raises the error.
    """

    def __post_init__(self) -> None:
        self._feed = self.attempt.candidate.flag.hooks["decoder.feed"]

    async def batches(self, take: Take) -> Batches:
        """Yield the events of the stream in batches, except the batches that `take` passes on (see
        `Source.batches`).
        """
        self._take = take
        fault: GatewayError | None = None
        try:
            async with aclosing(self._until_end()) as batches:
                async for batch in batches:
                    yield batch
                    self._passed(batch)
        except GatewayError as error:
            fault = error
        hook, decoding = self.attempt.candidate.flag.hooks["decoder.close"], self.decoding
        rest = _rest(hook, decoding.decoder, decoding.redacted, fault)
        try:
            async for batch in batches_of(hook, rest, decoding.turns):
                yield batch
        except UpstreamFailed as error:
            self.failed(self.attempt, self.attempt.redaction.failure(error))
            yield Batch((), error)
        except GatewayError as error:
            yield Batch((), error)

    async def _until_end(self) -> Batches:
        """Yield batches of events until the stream ends. Raises `GatewayError` if the stream fails."""
        deadline = None
        while data := await self._next(deadline):
            if self._decoded is None and not self._is_short(data):
                async for batch in self._long_read(data):
                    yield batch
            else:
                (batch, failure), self._decoded = self._decoded or self._read(data), None
                if batch.events:
                    yield batch
                if failure is not None:
                    raise failure
            if not self.decoding.decoder.done:
                deadline = None  # the event that looked like the last was not
            elif deadline is None:
                deadline = asyncio.get_running_loop().time() + AFTER_LAST

    async def _next(self, deadline: float | None) -> bytes:
        """Return the next bytes of the reply that `_quick` cannot handle. Return b"" at the end of the reply or at the
        deadline.

        Bytes that arrive while this method waits are passed to `_quick`. They are returned only if `_quick` returns
        False.
        """
        stopwatch = self.attempt.stopwatch
        reading: Awaitable[bytes] = self.reads.next(self._quick)
        if not stopwatch.stopped:
            reading = stopwatch.wait(reading)
        if deadline is None:
            return await reading
        try:
            async with asyncio.timeout_at(deadline):
                return await reading
        except TimeoutError:
            return b""

    def _quick(self, data: bytes) -> bool:
        """Decode a short read and pass its events on. Return True if nothing is left to do.

        Return False if the task of the call must do the rest: after a long read, after the final event, after an error,
        or if the next stage cannot take the events at once.
        """
        if not self._is_short(data):
            return False
        try:
            batch, failure = self._read(data)
            if failure is None and (not batch.events or self._take(batch)):
                if batch.events:
                    self._passed(batch)
                    batch = NO_EVENTS
                if not self.decoding.decoder.done:
                    return True
        except Exception as error:  # noqa: BLE001 (raised in the task of the call)
            batch, failure = NO_EVENTS, error
        self._decoded = batch, failure
        return False

    def _is_short(self, data: bytes) -> bool:
        return self.decoding.is_short(data, self._size + len(data))

    def _read(self, data: bytes) -> tuple[Batch, Exception | None]:
        """Return the events that became complete with the bytes of a short read, and the error after them or None."""
        self._grow(data)
        return self.decoding.read(self._feed, data)

    async def _long_read(self, data: bytes) -> Batches:
        """Decode the bytes of a long read, and yield in batches the events that became complete."""
        self._grow(data)
        if len(data) >= LONG_READ_BYTES:
            await self.decoding.turns.take()
        costly = self.decoding.may_complete_costly(data, self._size)
        async for batch in self._by_frames(data) if costly else self.decoding.feed(self._feed, data):
            yield batch

    async def _by_frames(self, data: bytes) -> AsyncGenerator[Batch, None]:
        """Yield batches of the events of one read. Frames that take long to decode are decoded in a worker process."""
        decoding, redaction = self.decoding, self.attempt.redaction
        light = LightFrames(self._feed, decoding, data)
        decoding.redacted.look(data)
        while True:
            async for batch in batches_of(self._feed, light.events(), decoding.turns):
                yield batch
            if (frame := light.costly) is None:
                return
            former, drop = decoding.framed, DropRelay(self.attempt.drop)
            state = former, decoding.redacted, redaction
            work = decode, self._feed, *state, frame.headers, frame.payload, frame.raw
            outcome = await self.pool.run_reply(frame.payload, drop, *work)
            decoding.decoder, decoding.redacted, events, fault = outcome
            decoding.framed.framing = former.framing
            if events:
                yield Batch(events, costly=True)
            if fault is not None:
                raise fault

    def _grow(self, data: bytes) -> None:
        """Count the bytes of a read. Raises `UpstreamFailed` if the memory budget is used up."""
        self._size += len(data)
        if self._size > UNCOUNTED_BYTES:
            self.call.hold_reply(self._size)

    def _passed(self, batch: Batch) -> None:
        """Release the memory that is reserved for the bytes of a batch, after the batch has been passed on."""
        if self._size > UNCOUNTED_BYTES:
            self.call.hold_reply(0)
        self._size = 0
        for event in batch.events:
            if event.payload:
                self.reads.event_came()
                return


def _rest(hook: Hook, decoder: Decoder, redacted: EventRedaction, fault: GatewayError | None) -> Iterator[Event]:
    """Yield the remaining events at the end of a stream. Then raise `fault`, the error with which the stream ended,
    unless the reply is complete.

    An event without a payload marks the end of a complete reply. The decoder may also return one at the end of an
    incomplete reply. Then it is left out.
    """
    try:
        for event in redacted.feed(b"", hook.each(decoder.close)):
            if event.payload or _is_complete(decoder, fault):
                yield event
    except Truncated as error:
        fault = fault or error
    except GatewayError as error:
        # a decoder that has failed may fail again at its close; the first failure is the cause, so it is raised
        fault = fault if isinstance(fault, PluginFailed) else error
    yield from redacted.rest()
    if fault is not None and not _is_complete(decoder, fault):
        raise fault


def _is_complete(decoder: Decoder, fault: GatewayError | None) -> bool:
    """Return whether a stream that ended with the error `fault` is complete nevertheless.

    It is complete if the decoder has read the final event, and `fault` is only an error of the connection after that
    event.
    """
    return fault is None or (decoder.done and isinstance(fault, Truncated | Stalled | BadFrame))
