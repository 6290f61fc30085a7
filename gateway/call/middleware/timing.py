"""When the first event left for the client, and how many streams are open; the rest is counted from the record."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic

from gateway.call.chain import Answer, Call, Items, Next
from gateway.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Timing:
    metrics: Metrics

    async def __call__(self, call: Call, following: Next) -> Answer:
        answer = await following(call)
        if answer.items is not None:
            answer.items = self._timed(call, answer.items)
        return answer

    async def _timed(self, call: Call, items: Items) -> Items:
        self.metrics.open_streams.inc()
        try:
            async with aclosing(items):
                async for events in items:
                    if call.first_event is None:
                        call.first_event = monotonic()
                    yield events
        finally:
            self.metrics.open_streams.dec()
