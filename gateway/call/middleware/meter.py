"""Reads the facts of a reply (usage, stop reason, ...) from the provider's own events, before they are translated.

- `CallProvider` makes the meter when the head of the reply has come, and reads the facts of a whole body with
  `read_facts`. The meter is kept in the attempt, so a call that breaks off is charged by the facts known at that point.
- The bytes that the model wrote are counted as they are received. If the call breaks off before the provider has
  reported the final usage, the cost is estimated from this number of bytes (`call/cost_of_call.py`).
- A client that speaks the provider's format gets every event, even an event that the meter cannot read. A whole body
  that the meter cannot read is no reply of the format, so every client gets an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from gateway.call.chain import Attempt, AttemptNext, Batch, Batches, Call, Response, Stream, Whole
from gateway.contract.errors import BadFrame, Truncated, UpstreamFailed
from gateway.contract.flag import Event, Meter
from gateway.contract.losses import Way
from gateway.contract.provider_errors import is_cut, not_a_reply


async def metered(call: Call, attempt: Attempt, following: AttemptNext) -> Response:
    response = await following(call, attempt)
    meter = attempt.meter
    assert meter is not None
    match response:
        case Stream(batches=batches):
            return replace(response, batches=_metered(attempt, meter, batches))
        case Whole():
            return response


def read_facts(attempt: Attempt, body: bytes) -> UpstreamFailed | None:
    """Read the facts of a whole reply. Return the fault of a body that is no reply of the provider's dialect, or None.

    The tokens that the body reports are kept in either case. If the body is cut off, the cost of the call is estimated.
    """
    meter, candidate = attempt.meter, attempt.candidate
    assert meter is not None
    assert attempt.head is not None
    try:
        meter.whole(body)
        candidate.flag.decoder(attempt.request, candidate.target, attempt.head).whole(body)
    except BadFrame as fault:
        if is_stream(body):
            return _read_stream(attempt, meter, body)
        if is_cut(body):
            attempt.delivered = len(body)
        return not_a_reply(body, fault)
    attempt.delivered = len(body)
    attempt.whole = True
    return None


def is_stream(body: bytes) -> bool:
    """Return whether a body begins as server-sent events."""
    return _SSE.match(body) is not None


_SSE: Final = re.compile(rb"\s*(?:data|event|id|retry)?: ?")


def _read_stream(attempt: Attempt, meter: Meter, body: bytes) -> UpstreamFailed:
    """Read the facts of a stream that came in place of a whole reply, and return the fault."""
    candidate = attempt.candidate
    assert attempt.head is not None
    decoder = candidate.flag.decoder(attempt.request, candidate.target, attempt.head)
    try:
        for event in (*decoder.feed(body), *decoder.close()):
            meter.feed(event)
            _measure(attempt, (event,))
    except (BadFrame, Truncated):
        pass
    except UpstreamFailed as error:
        return UpstreamFailed(error.problem)
    return BadFrame("the provider answered with a stream, for which the request did not ask")


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
