"""Translates requests to the provider's dialect, and responses to the client's dialect (API format).

If client and provider use the same format, nothing is changed. Otherwise the attempt has one translation object, which
gets every event of the reply and is closed at the end. Large bodies are translated in a worker process
(`upstream/process_pool.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from gateway.call.chain import Attempt, AttemptNext, Call
from gateway.call.reply_work import translate, unpacked
from gateway.call.responses import Batch, Batches, Response, Stage, Stream, Whole
from gateway.contract.flag import COUNT_TOKENS, Translation
from gateway.contract.hooks import Hook
from gateway.contract.registry import LoadedTranslator
from gateway.upstream.process_pool import DropRelay, ProcessPool, is_costly


class Translate(msgspec.Struct, frozen=True):
    pool: ProcessPool

    def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Awaitable[Response]:
        translator = attempt.candidate.translator
        if translator is None:
            return following(call, attempt)
        return self._translated(call, attempt, translator, following)

    async def _translated(
        self, call: Call, attempt: Attempt, translator: LoadedTranslator, following: AttemptNext
    ) -> Response:
        hooks, drop = translator.hooks, DropRelay(attempt.drop)
        request, target = attempt.request, attempt.candidate.target
        translation = await self.pool.run(len(request.top.body), drop, translator.open, request, target, drop)
        attempt.request = translation.request
        response = await following(call, attempt)
        match response:
            # the reply to a token-counting request has the same form in all dialects
            case Whole(body=body) if attempt.request.operation != COUNT_TOKENS:
                work = self.pool.run_reply(body, drop, hooks["translation.whole"].run, translation.whole, body)
                return replace(response, body=await work)
            case Stream():
                return response.through(StreamTranslation(translation, hooks, self.pool, drop))
        return response


class StreamTranslation(Stage):
    """Translates the events of a stream. Events that take long to read are translated in a worker process."""

    __slots__ = ("_close", "_drop", "_feed", "_pool", "_translation")

    def __init__(self, translation: Translation, hooks: Mapping[str, Hook], pool: ProcessPool, drop: DropRelay) -> None:
        self._translation = translation
        self._feed, self._close = hooks["translation.feed"], hooks["translation.close"]
        self._pool = pool
        self._drop = drop

    def feed(self, batch: Batch) -> Batch | None:
        if batch.costly:
            return None
        translated, fault = self._feed.listed(self._translation.feed, batch.events)
        return Batch(translated, fault or batch.fault)

    async def feed_slowly(self, batch: Batch) -> Batches:
        """Translate the events of a batch in a worker process, and yield the translated events in batches.

        Other tasks can run between two batches.
        """
        for event in batch.events:
            work = translate, self._feed, self._translation, self._translation.request, event.kind, event.payload
            self._translation, parts, fault = await self._pool.run_reply(event.payload, self._drop, *work)
            for part in parts:
                events = unpacked(part)
                yield Batch(events, costly=any(is_costly(one.payload) for one in events))
                await asyncio.sleep(0)
            if fault is not None:
                yield Batch((), fault)
                return
        if batch.fault is not None:
            yield Batch((), batch.fault)

    async def close(self) -> Sequence[Batch]:
        last = self._close.run(self._translation.close)
        return (Batch(last),) if last else ()
