"""Facts of a reply are read here, from what the provider itself said, before anything translates it.

`send` makes the meter as soon as there is a head; it stays with the attempt, so that a call that is cut at any point is
still accounted for with what was known.
"""

from __future__ import annotations

from contextlib import aclosing

from gateway.chain import Answer, Call, Items, Next
from gateway.errors import BadFrame
from gateway.flag import Meter


async def cost(call: Call, following: Next) -> Answer:
    answer = await following(call)
    attempt = call.require_attempt()
    meter = attempt.meter
    assert meter is not None
    if answer.body is not None:
        try:
            meter.whole(answer.body)
        except BadFrame as error:
            # a native client gets what came; that nothing could be read of it is in the record
            call.problem = error.problem
    if answer.items is not None:
        answer.items = _metered(meter, answer.items, lenient=attempt.candidate.native)
    return answer


async def _metered(meter: Meter, items: Items, *, lenient: bool) -> Items:
    """A native client gets what came, also where nothing can be read of it."""
    async with aclosing(items):
        async for events in items:
            for event in events:
                try:
                    meter.feed(event)
                except BadFrame:
                    if not lenient:
                        raise
            yield events
