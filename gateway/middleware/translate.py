"""From the upstream's dialect and envelope to the client's dialect.

On the native way nothing is touched. Otherwise at most one translator is opened, on the way in; on the way out its
state sees every event, then its `close`.
"""

from __future__ import annotations

from contextlib import aclosing

from gateway.chain import Answer, Attempt, Call, Items, Next
from gateway.flag import Translation


async def translate(call: Call, following: Next) -> Answer:
    attempt = call.require_attempt()
    candidate = attempt.candidate
    translation = None
    if candidate.translator is not None:
        translation = candidate.translator.open(attempt.ask, candidate.target, attempt.drop)
        attempt.ask = translation.ask
    answer = await following(call)
    if answer.body is not None and not candidate.native:
        answer.body = _whole(attempt, translation, answer.body)
    if answer.items is not None and translation is not None:
        answer.items = _translated(translation, answer.items)
    return answer


def _whole(attempt: Attempt, translation: Translation | None, body: bytes) -> bytes:
    assert attempt.head is not None
    candidate = attempt.candidate
    body = candidate.flag.decoder(attempt.ask, candidate.target, attempt.head).whole(body)
    return body if translation is None else translation.whole(body)


async def _translated(translation: Translation, items: Items) -> Items:
    async with aclosing(items):
        async for events in items:
            translated = [out for event in events for out in translation.feed(event)]
            if translated:
                yield translated
    if last := list(translation.close()):
        yield last
