"""From the upstream's dialect and envelope to the client's dialect.

On the native way nothing is touched. Otherwise at most one translator is opened, on the way in; on the way out its
state sees every event, then its `close`. Whole bodies that are large are translated in another process
(`upstream/process_pool.py`).
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass

from gateway.call.chain import Answer, Attempt, Call, Items, Next
from gateway.contract.errors import UpstreamFailed
from gateway.contract.flag import COUNT_TOKENS, Event, Translation
from gateway.upstream.process_pool import DropRelay, ProcessPool


@dataclass(frozen=True, slots=True)
class Translate:
    pool: ProcessPool

    async def __call__(self, call: Call, following: Next) -> Answer:
        attempt = call.require_attempt()
        candidate = attempt.candidate
        drop = DropRelay(attempt.drop)
        translation = None
        if candidate.translator is not None:
            ask = attempt.request
            opening = self.pool.run(len(ask.top.body), drop, candidate.translator.open, ask, candidate.target, drop)
            translation = await opening
            attempt.request = translation.request
        answer = await following(call)
        if answer.body is not None and not candidate.native:
            answer.body = await self._whole(attempt, translation, answer.body, drop)
        if answer.items is not None and translation is not None:
            answer.items = _translated(translation, answer.items)
        return answer

    async def _whole(self, attempt: Attempt, translation: Translation | None, body: bytes, drop: DropRelay) -> bytes:
        assert attempt.head is not None
        candidate = attempt.candidate
        body = candidate.flag.decoder(attempt.request, candidate.target, attempt.head).whole(body)
        counted = attempt.request.operation == COUNT_TOKENS  # a count is said in one way in all dialects
        if translation is None or counted:
            return body
        return await self.pool.run(len(body), drop, translation.whole, body)


async def _translated(translation: Translation, items: Items) -> Items:
    async with aclosing(items):
        async for events in items:
            translated: list[Event] = []
            try:
                for event in events:
                    translated += translation.feed(event)
            except UpstreamFailed:  # what came before a fault goes out before it
                if translated:
                    yield translated
                raise
            if translated:
                yield translated
    if last := list(translation.close()):
        yield last
