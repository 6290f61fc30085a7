"""Reads the facts of a reply (usage, stop reason, ...) from the provider's own events, before they are translated.

- `CallProvider` makes the meter when the head of the reply has come. The meter is kept in the attempt, so a call that
  breaks off is charged by the facts known at that point.
- The bytes that the model wrote are counted as they are received. If the call breaks off before the provider has
  reported the final usage, the cost is estimated from this number of bytes (`call/cost_of_call.py`).
- A client that speaks the provider's format gets every event, even an event that the meter cannot read.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from gateway.call.chain import Attempt, AttemptNext, Batch, Batches, Call, Response, Stream, Whole
from gateway.contract.errors import BadFrame
from gateway.contract.flag import Event, Meter
from gateway.contract.losses import Way


async def metered(call: Call, attempt: Attempt, following: AttemptNext) -> Response:
    response = await following(call, attempt)
    meter = attempt.meter
    assert meter is not None
    match response:
        case Stream(batches=batches):
            return replace(response, batches=_metered(attempt, meter, batches))
        case Whole(body=body):
            try:
                meter.whole(body)
                attempt.delivered = len(body)
            except BadFrame as error:
                # a native client still gets the body; the record says that the body could not be read
                call.problem = error.problem
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
                # a fault before any event is no reply: `delivered` stays None, so the cost is unknown
                _measure(attempt, read.events)
            yield read
            if read.fault is not None:
                return


def _measure(attempt: Attempt, events: Sequence[Event]) -> None:
    """Add the number of bytes that the model wrote in `events` to `attempt.delivered`.

    An event that cannot be read adds nothing.
    """
    size = attempt.delivered or 0
    output_bytes = attempt.candidate.flag.output_bytes
    for event in events:
        try:
            size += output_bytes(event)
        except BadFrame:
            continue
    attempt.delivered = size
