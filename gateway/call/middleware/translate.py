"""Translates requests to the provider's dialect, and responses to the client's dialect.

If client and provider use the same format, nothing is changed. Otherwise an attempt has at most one translation object,
which gets every event of the reply and is closed at the end. Large bodies are translated in a worker process
(`upstream/process_pool.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass

from msgspec.structs import replace

from gateway.call.chain import Attempt, AttemptNext, Batch, Batches, Call, Response, Stream, Whole
from gateway.call.reply_work import translate, unpacked
from gateway.contract.flag import COUNT_TOKENS, Translation
from gateway.contract.hooks import Hook
from gateway.upstream.process_pool import DropRelay, ProcessPool, is_costly


@dataclass(frozen=True, slots=True)
class Translate:
    pool: ProcessPool

    async def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Response:
        candidate = attempt.candidate
        drop = DropRelay(attempt.drop)
        translation, hooks = None, None
        if candidate.translator is not None:
            hooks = candidate.translator.hooks
            request, target = attempt.request, candidate.target
            opening = self.pool.run(len(request.top.body), drop, candidate.translator.open, request, target, drop)
            translation = await opening
            attempt.request = translation.request
        response = await following(call, attempt)
        match response:
            # the reply to a token-counting request has the same form in all dialects
            case Whole(body=body) if hooks and translation is not None and attempt.request.operation != COUNT_TOKENS:
                work = self.pool.run_reply(body, drop, hooks["translation.whole"].run, translation.whole, body)
                return replace(response, body=await work)
            case Stream(batches=batches) if hooks and translation is not None:
                return replace(response, batches=_Stream(translation, hooks, self.pool, drop).translated(batches))
        return response


@dataclass(slots=True)
class _Stream:
    """A translation of a stream. Costly events are translated in a worker process."""

    translation: Translation
    hooks: Mapping[str, Hook]
    pool: ProcessPool
    drop: DropRelay

    async def translated(self, batches: Batches) -> Batches:
        hook = self.hooks["translation.feed"]
        async with aclosing(batches):
            async for batch in batches:
                if batch.costly:
                    async for part in self._elsewhere(batch):
                        yield part
                        if part.fault is not None:
                            return
                    continue
                translated, fault = hook.listed(self.translation.feed, batch.events)
                fault = fault or batch.fault
                if translated or fault is not None:
                    yield Batch(translated, fault)
                if fault is not None:
                    return
        last = self.hooks["translation.close"].run(self.translation.close)
        if last:
            yield Batch(last)

    async def _elsewhere(self, batch: Batch) -> Batches:
        """Yield the translated events in batches. Other tasks can run between two batches."""
        hook = self.hooks["translation.feed"]
        for event in batch.events:
            work = translate, hook, self.translation, self.translation.request, event.kind, event.payload
            self.translation, parts, fault = await self.pool.run_reply(event.payload, self.drop, *work)
            for part in parts:
                events = unpacked(part)
                yield Batch(events, costly=any(is_costly(one.payload) for one in events))
                await asyncio.sleep(0)
            if fault is not None:
                yield Batch((), fault)
                return
        if batch.fault is not None:
            yield Batch((), batch.fault)
