"""Reads the facts of a stream (usage, stop reason, ...) from the provider's own events, before they are translated.

- `CallProvider` makes the meter when the head of the reply has come, and reads the facts of a whole body
  (`call/reply_work.py`). The meter is kept in the attempt, so a call that breaks off is charged by the facts known at
  that point.
- The bytes that the model wrote are counted as they are received. If the call breaks off before the provider has
  reported the final usage, the cost is estimated from this number of bytes (`call/cost_of_call.py`).
- A client that speaks the provider's format gets every event, even an event that the meter cannot read.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

from gateway.call.chain import Attempt, AttemptNext, Batch, Batches, Call, Response, Stream, Whole
from gateway.call.reply_work import written
from gateway.contract.errors import BadFrame
from gateway.contract.flag import Meter
from gateway.contract.losses import Way


async def metered(call: Call, attempt: Attempt, following: AttemptNext) -> Response:
    response = await following(call, attempt)
    meter = attempt.meter
    assert meter is not None
    match response:
        case Stream(batches=batches):
            return replace(response, batches=_metered(attempt, meter, batches))
        case Whole():
            return response


async def _metered(attempt: Attempt, meter: Meter, batches: Batches) -> Batches:
    native = attempt.candidate.way is Way.NATIVE
    async with aclosing(batches):
        async for batch in batches:
            read = batch
            for at, event in enumerate(batch.events):
                try:
                    meter.feed(event)
                except BadFrame as error:
                    if native:
                        continue
                    read = Batch(batch.events[:at], error)
                    break
            if batch.events or batch.fault is None:
                # a fault before any event is no reply: `delivered` stays None
                attempt.delivered = (attempt.delivered or 0) + written(attempt.candidate.flag.output_bytes, read.events)
            yield read
            if read.fault is not None:
                return
