"""Facts of a reply are read here, from what the provider itself said, before anything translates it.

`send` makes the meter as soon as there is a head; it stays with the attempt, so that a call that is cut at any point is
still accounted for with what was known. What the model wrote is measured as it passes: it is all that an estimate can
go by if the call is cut, and a first report may have been made before most of it (`call/cost_of_call.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from gateway.call.chain import Answer, Attempt, Call, Items, Next
from gateway.contract.errors import BadFrame
from gateway.contract.flag import Event, Meter


async def cost(call: Call, following: Next) -> Answer:
    answer = await following(call)
    attempt = call.require_attempt()
    meter = attempt.meter
    assert meter is not None
    if answer.body is not None:
        try:
            meter.whole(answer.body)
            attempt.delivered = len(answer.body)
        except BadFrame as error:
            # a native client gets what came; that nothing could be read of it is in the record
            call.problem = error.problem
    if answer.items is not None:
        answer.items = _metered(attempt, meter, answer.items)
    return answer


async def _metered(attempt: Attempt, meter: Meter, items: Items) -> Items:
    """A native client gets what came, also where nothing can be read of it."""
    async with aclosing(items):
        async for events in items:
            for at, event in enumerate(events):
                try:
                    meter.feed(event)
                except BadFrame:
                    if attempt.candidate.native:
                        continue
                    _measure(attempt, events[:at])
                    yield events[:at]
                    raise
            _measure(attempt, events)
            yield events


def _measure(attempt: Attempt, events: Sequence[Event]) -> None:
    """Add what the model wrote. What cannot be read is nobody's."""
    size = attempt.delivered or 0
    written = attempt.candidate.flag.output_bytes
    for event in events:
        try:
            size += written(event)
        except BadFrame:
            continue
    attempt.delivered = size
