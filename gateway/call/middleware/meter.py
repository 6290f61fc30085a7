"""Reads the facts of a stream (usage, stop reason, ...) from the provider's own events, before they are translated.

- `CallProvider` makes the meter (usage reader) when the headers of the reply have come. The attempt keeps the meter. A
  call that breaks off is charged by the facts that the meter has at that time.
- The bytes that the model wrote are counted as they are received. If the call breaks off before the provider has
  reported the final usage, the cost is estimated from this number of bytes (`call/cost_of_call.py`).
- A client that uses the provider's format gets every event, even if the meter cannot read it.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter

from msgspec.structs import replace

from gateway.call.chain import Attempt, AttemptNext, Batch, Batches, Call, Response, Stream, Whole
from gateway.call.reply_work import read_event
from gateway.contract.errors import BadFrame, GatewayError
from gateway.contract.hooks import Hook
from gateway.contract.losses import Way
from gateway.upstream.process_pool import DropRelay, ProcessPool


@dataclass(frozen=True, slots=True)
class Metered:
    pool: ProcessPool

    async def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Response:
        response = await following(call, attempt)
        match response:
            case Stream(batches=batches):
                return replace(response, batches=_metered(attempt, batches, self.pool))
            case Whole():
                return response


async def _metered(attempt: Attempt, batches: Batches, pool: ProcessPool) -> Batches:
    candidate = attempt.candidate
    hooks = candidate.flag.hooks
    # BadFrame is ignored if the client gets the provider's own bytes
    reader = _Reader(
        attempt, hooks["meter.feed"], hooks["output_bytes"], BadFrame if candidate.way is Way.NATIVE else None
    )
    async with aclosing(batches):
        async for batch in batches:
            read = await reader.read_elsewhere(batch, pool) if batch.costly else reader.read(batch)
            yield read
            if read.fault is not None:
                return


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the events of one stream: gives them to the meter, and counts the bytes that the model wrote."""

    attempt: Attempt
    meter: Hook
    """The hook `meter.feed` of the provider's plugin."""
    sizes: Hook
    """The hook `output_bytes` of the provider's plugin."""
    tolerated: type[GatewayError] | None
    """The type of the meter's exceptions that are ignored."""

    def read(self, batch: Batch) -> Batch:
        """Return the batch. If an event cannot be read, the returned batch ends before this event and has the fault."""
        attempt, metering = self.attempt, self.attempt.metering
        assert metering is not None
        feed = metering.meter.feed
        began = perf_counter()
        metering.stale = True
        count, failure = self.meter.feed(feed, batch.events, self.tolerated)
        read = batch if failure is None else Batch(batch.events[:count], failure)
        if batch.events or batch.fault is None:
            # if a fault comes before any event, there was no reply, so `delivered` stays None
            size, count, failure = self.sizes.total(read.events)
            attempt.delivered = (attempt.delivered or 0) + size
            if failure is not None:
                read = Batch(read.events[:count], failure)
        self.meter.ran(perf_counter() - began, feed)
        return read

    async def read_elsewhere(self, batch: Batch, pool: ProcessPool) -> Batch:
        """Do the work of `read` in a worker process, for costly events."""
        attempt, metering = self.attempt, self.attempt.metering
        assert metering is not None
        hooks = {"meter.feed": self.meter, "output_bytes": self.sizes}
        for at, event in enumerate(batch.events):
            work = read_event, hooks, metering.meter, self.tolerated, attempt.request, event.kind, event.payload
            metering.stale = True
            metering.meter, size, fault = await pool.run_reply(event.payload, DropRelay(attempt.drop), *work)
            attempt.delivered = (attempt.delivered or 0) + size
            if fault is not None:
                return Batch(batch.events[:at], fault, costly=True)
        return batch
