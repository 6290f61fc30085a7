"""Reads the facts of a stream (usage, stop reason, ...) from the provider's own events, before they are translated.

- `CallProvider` makes the meter (usage reader) when the headers of the reply have come, and stores it in the attempt.
  If a call breaks off, it is charged by the facts that the meter has at that time.
- The bytes that the model writes are counted as they are received. If the call breaks off before the provider has
  reported the final usage, the cost is estimated from this number of bytes (`call/cost_of_call.py`).
- If client and provider use the same format, the client gets every event, even if the meter cannot read it.
"""

from __future__ import annotations

from time import perf_counter

import msgspec

from gateway.call.chain import Attempt, AttemptNext, Call
from gateway.call.reply_work import read_event
from gateway.call.responses import Batch, Batches, Response, Stage, Stream
from gateway.contract.errors import BadFrame, GatewayError
from gateway.contract.losses import Way
from gateway.upstream.process_pool import DropRelay, ProcessPool


class Metered(msgspec.Struct, frozen=True):
    pool: ProcessPool

    async def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Response:
        response = await following(call, attempt)
        return response.through(StreamMeter(attempt, self.pool)) if isinstance(response, Stream) else response


class StreamMeter(Stage):
    """Gives the events of one stream to the meter (usage reader), and counts the bytes that the model writes."""

    __slots__ = ("_attempt", "_meter", "_pool", "_sizes", "_tolerated")

    def __init__(self, attempt: Attempt, pool: ProcessPool) -> None:
        candidate = attempt.candidate
        self._attempt = attempt
        self._pool = pool
        self._meter = candidate.flag.hooks["meter.feed"]
        self._sizes = candidate.flag.hooks["output_bytes"]
        self._tolerated: type[GatewayError] | None = BadFrame if candidate.way is Way.NATIVE else None
        """The type of the meter's exceptions that are ignored. They do not matter if the client gets the provider's own
        bytes.
        """

    def feed(self, batch: Batch) -> Batch | None:
        """Give the events to the meter (usage reader), and return the batch unchanged. If an event cannot be read, the
        returned batch ends before this event and has the error.

        Return None if reading an event takes long. The caller then calls `feed_slowly`.
        """
        if batch.costly:
            return None
        attempt, metering = self._attempt, self._attempt.metering
        assert metering is not None
        feed = metering.meter.feed
        began = perf_counter()
        metering.stale = True
        count, failure = self._meter.feed(feed, batch.events, self._tolerated)
        read = batch if failure is None else Batch(batch.events[:count], failure)
        if batch.events or batch.fault is None:
            # if a fault comes before any event, there was no reply, so `delivered` stays None
            size, count, failure = self._sizes.total(read.events)
            attempt.delivered = (attempt.delivered or 0) + size
            if failure is not None:
                read = Batch(read.events[:count], failure)
        self._meter.ran(perf_counter() - began, feed)
        return read

    async def feed_slowly(self, batch: Batch) -> Batches:
        """Give the events of a batch to the meter (usage reader) in a worker process, because reading them takes long.
        Then yield the batch.

        If an event cannot be read, the yielded batch ends before this event and has the error.
        """
        attempt, metering = self._attempt, self._attempt.metering
        assert metering is not None
        hooks = {"meter.feed": self._meter, "output_bytes": self._sizes}
        for at, event in enumerate(batch.events):
            work = read_event, hooks, metering.meter, self._tolerated, attempt.request, event.kind, event.payload
            metering.stale = True
            metering.meter, size, fault = await self._pool.run_reply(event.payload, DropRelay(attempt.drop), *work)
            attempt.delivered = (attempt.delivered or 0) + size
            if fault is not None:
                yield Batch(batch.events[:at], fault, costly=True)
                return
        yield batch
