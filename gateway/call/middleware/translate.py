"""Translates requests to the upstream's dialect, and responses to the client's.

If the client speaks the provider's format, nothing is changed. Otherwise at most one translation is opened for an
attempt. This translation gets every event of the reply, and is closed at the end. Large bodies are translated in
another process (`upstream/process_pool.py`).
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace

from gateway.call.chain import Attempt, AttemptNext, Batch, Batches, Call, Response, Stream, Whole
from gateway.contract.errors import UpstreamFailed
from gateway.contract.flag import COUNT_TOKENS, Event, Translation
from gateway.upstream.process_pool import DropRelay, ProcessPool


@dataclass(frozen=True, slots=True)
class Translate:
    pool: ProcessPool

    async def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Response:
        candidate = attempt.candidate
        drop = DropRelay(attempt.drop)
        translation = None
        if candidate.translator is not None:
            request, target = attempt.request, candidate.target
            opening = self.pool.run(len(request.top.body), drop, candidate.translator.open, request, target, drop)
            translation = await opening
            attempt.request = translation.request
        response = await following(call, attempt)
        match response:
            # a count of tokens has one form in all dialects
            case Whole(body=body) if translation is not None and attempt.request.operation != COUNT_TOKENS:
                return replace(response, body=await self.pool.run_reply(body, drop, translation.whole, body))
            case Stream(batches=batches) if translation is not None:
                return replace(response, batches=_translated(translation, batches))
        return response


async def _translated(translation: Translation, batches: Batches) -> Batches:
    async with aclosing(batches):
        async for batch in batches:
            fault = batch.fault
            translated: list[Event] = []
            try:
                for event in batch.events:
                    translated += translation.feed(event)
            except UpstreamFailed as error:
                fault = error
            if translated or fault is not None:
                yield Batch(translated, fault)
            if fault is not None:
                return
    if last := list(translation.close()):
        yield Batch(last)
