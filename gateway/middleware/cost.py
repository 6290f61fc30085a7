"""Facts of a reply are read here, from what the provider itself said, before anything translates it.

The meter stays with the attempt, so that a call that is cut at any point is still accounted for with what was known.
"""

from __future__ import annotations

from contextlib import aclosing, suppress

from gateway.chain import Answer, Call, Items, Next
from gateway.errors import BadFrame
from gateway.flag import Meter


async def cost(call: Call, following: Next) -> Answer:
    answer = await following(call)
    attempt = call.require_attempt()
    assert attempt.head is not None
    candidate = attempt.candidate
    meter = attempt.meter = candidate.flag.meter(attempt.ask, candidate.target, attempt.head)
    if answer.body is not None:
        with suppress(BadFrame):  # a native client gets what came; that nothing could be read of it is in the record
            meter.whole(answer.body)
    if answer.items is not None:
        answer.items = _metered(meter, answer.items)
    return answer


async def _metered(meter: Meter, items: Items) -> Items:
    async with aclosing(items):
        async for events in items:
            for event in events:
                meter.feed(event)
            yield events
