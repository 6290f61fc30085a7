"""Reads the facts of a reply from the provider's own events, before anything translates them.

- `CallProvider` makes the meter as soon as there is a head. The meter stays with the attempt, so a call that is cut is
  charged by what was known at that point.
- Bytes that the model wrote are counted as they pass. They are the only ground of an estimate if the call is cut, and
  a first report may have been made before most of them (`call/cost_of_call.py`).
- A native client gets every event, also one that the meter cannot read.
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
                # a native client gets the body all the same; the record says that it could not be read
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
                # a fault before any event is no reply: `delivered` stays None, and so does the cost
                _measure(attempt, read.events)
            yield read
            if read.fault is not None:
                return


def _measure(attempt: Attempt, events: Sequence[Event]) -> None:
    """Add the bytes that the model wrote in the events; an event that cannot be read adds none."""
    size = attempt.delivered or 0
    output_bytes = attempt.candidate.flag.output_bytes
    for event in events:
        try:
            size += output_bytes(event)
        except BadFrame:
            continue
    attempt.delivered = size
