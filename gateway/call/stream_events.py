"""Turns the events of a stream into the bytes that the client gets, until the stream ends or fails.

- Events that came before an error are written before the error.
- After the headers of a stream were sent, an error can only be reported by an event in the stream. If the plugin of the
  client's API cannot write that event, the stream is aborted, so that no client takes the reply for complete.
- A native stream consists of the provider's own bytes. If its meter (usage reader) fails at the end, the client gets no
  error, because it already has the whole reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from gateway.call.chain import Call
from gateway.call.reply_work import encode
from gateway.call.responses import Batch
from gateway.call.stages import Staged
from gateway.call.stream_writer import PassedEvents, StreamWriter
from gateway.contract.errors import INTERNAL, UNAVAILABLE, GatewayError, Problem, UpstreamFailed
from gateway.contract.flag import Encoder, Event
from gateway.telemetry.log import Logger
from gateway.upstream.process_pool import NO_DROP, ProcessPool

CRASHED: Final = Problem(INTERNAL, "the gateway failed on this call; its log has the cause under the request id")
STOPPING: Final = Problem(UNAVAILABLE, "the gateway is being stopped; try again", retryable=True)


class StreamEvents(msgspec.Struct):
    call: Call
    encoder: Encoder
    native: bool
    """Whether the client gets the provider's own bytes."""
    pool: ProcessPool
    stopping: Callable[[], bool]
    """A function that returns True if the task was cancelled because the gateway is stopping. It then also undoes the
    cancellation, so that an error can still be sent.
    """
    report: Callable[[GatewayError], None]
    """A function that logs and counts a plugin's failure, and ignores any other error."""
    log: Logger
    _failure: GatewayError | None = None
    """The error of the encoder in the last call of `_write_now`. It is None if the encoder did not fail."""

    async def write(self, writer: StreamWriter, first: Batch, staged: Staged) -> tuple[bytes | None, Problem | None]:
        """Write the events of the stream.

        Return the last bytes of the stream, which the caller must write, and the problem that ended the stream. The
        bytes are None if the stream must be aborted. The problem is None if the stream is complete.
        """
        passed = PassedEvents(() if first.costly else first.events)
        fault: GatewayError | None
        try:
            fault = await self._pass_on(writer, first, staged, passed)
            if fault is None:
                return self._end()
        except ConnectionError:
            raise
        except GatewayError as error:
            fault = error
        except asyncio.CancelledError:
            if not self.stopping():
                raise
            fault = GatewayError(STOPPING)
        except (Exception, SystemExit, KeyboardInterrupt):  # the last two would otherwise end the process
            self.log.exception("call.crashed", request_id=self.call.id)
            fault = GatewayError(CRASHED)
        return self.last_words(fault, passed), fault.problem

    async def _pass_on(
        self, writer: StreamWriter, first: Batch, staged: Staged, passed: PassedEvents
    ) -> GatewayError | None:
        """Write the events of the stream until it ends. Return the error with which it ends, or None if it is
        complete.
        """
        fault = await self._write_batch(writer, first, passed)
        if fault is None:
            staged.sink = partial(self._write_now, writer, passed)
            async for batch in staged.batches:
                fault = self._failure or await self._write_batch(writer, batch, passed)
                if fault is not None:
                    break
        return fault

    def _write_now(self, writer: StreamWriter, passed: PassedEvents, batch: Batch) -> bool:
        """Write a batch without waiting. Return False if this is not possible, or if the encoder fails."""
        if batch.costly or not writer.takes_more:
            return False
        passed.note(batch.events)
        data, self._failure = self._encoded(batch.events)
        if data:
            writer.write_now(data)
        return self._failure is None

    async def _write_batch(self, writer: StreamWriter, batch: Batch, passed: PassedEvents) -> GatewayError | None:
        if batch.costly:
            data, failure = await self._encoded_elsewhere(batch)
        else:
            passed.note(batch.events)
            data, failure = self._encoded(batch.events)
        if data:
            await writer.write(data)
        return failure or batch.fault

    def last_words(self, fault: GatewayError, passed: PassedEvents | None = None) -> bytes | None:
        """Return the bytes that report an error in the stream, or None if the plugin of the client's API cannot write
        them.

        `passed` has the first and last event that were sent. It is None if none was sent.
        """
        self.report(fault)
        native = self.native and passed is not None
        if native and isinstance(fault, UpstreamFailed) and fault.raw:
            return fault.raw
        hooks, encoder = self.call.flag.hooks, self.encoder
        try:
            if native and passed is not None:
                with suppress(UpstreamFailed):
                    passed.tell(partial(hooks["encoder.feed"].run, encoder.feed))
            return hooks["encoder.fail"].run(encoder.fail, fault.problem) or None
        except GatewayError as failure:
            self.report(failure)
            return None

    def _end(self) -> tuple[bytes, Problem | None]:
        """Return the last bytes of a complete stream, and a problem or None.

        The meter (usage reader) may fail here. In a native stream, its failure is returned as the problem, because the
        client already has the whole reply. In any other stream, `GatewayError` is raised, so that the client gets an
        error.
        """
        if not self.native:
            self.call.read_facts()
            return self.call.flag.hooks["encoder.close"].run(self.encoder.close), None
        try:
            self.call.read_facts()
        except GatewayError as failure:
            self.report(failure)
            return b"", failure.problem
        return b"", None

    async def _encoded_elsewhere(self, batch: Batch) -> tuple[bytes, GatewayError | None]:
        """Return the encoded events, and the encoder's error or None. A worker process encodes the events, because
        parsing them takes long.
        """
        native, hook = self.native, self.call.flag.hooks["encoder.feed"]
        parts, failure = [], None
        for event in batch.events:
            if native and event.raw is not None:
                parts.append(event.raw)
            elif failure is None and (native or event.raw != b""):
                work = encode, hook, self.encoder, self.call.request, event.kind, event.payload
                self.encoder, data, failure = await self.pool.run_reply(event.payload, NO_DROP, *work)
                parts.append(data)
        return b"".join(parts), failure

    def _encoded(self, events: Sequence[Event]) -> tuple[bytes, GatewayError | None]:
        """Return the encoded events, and the encoder's error. The error is None if the encoder did not fail."""
        if self.native:
            parts = [event.raw for event in events if event.raw is not None]
            if len(parts) == len(events):
                return b"".join(parts), None
        encoder, hook = self.encoder, self.call.flag.hooks["encoder.feed"]
        if self.native:
            return hook.joined(lambda event: encoder.feed(event) if event.raw is None else event.raw, events)
        # events whose raw bytes are empty are only for the meter, such as events after the end of a reply
        return hook.joined(encoder.feed, [event for event in events if event.raw != b""])
