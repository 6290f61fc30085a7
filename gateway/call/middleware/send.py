"""The last step: build the request in the provider's envelope, send it, and decode what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from gateway.call.chain import Answer, Attempt, Call, Items
from gateway.contract.errors import (
    UNAVAILABLE,
    UPSTREAM,
    NotReached,
    Refused,
    Truncated,
    UpstreamFailed,
    invalid,
)
from gateway.contract.flag import Decoder, Event, Head, Problem
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.upstream.client import MAX_BODY, Upstream, UpstreamResponse
from gateway.upstream.credentials import keys
from gateway.upstream.process_pool import DropRelay, ProcessPool
from gateway.upstream.refused_keys import RefusedKeys

AFTER_LAST: Final = 2.0
"""Seconds to read on after a stream's terminal event, for the usage that may follow it."""

BATCH_EVENTS: Final = 256
"""Events of one read that are handed on together; after so many, others get their turn."""
MAX_ERROR: Final = 1024 * 1024
"""Bytes of an error's body."""
MAX_SAID: Final = 300
"""Characters of a provider's message that the log repeats."""

SHORTEST_KEY: Final = 16
"""Characters of a header's value that may be a key; shorter ones are words, and stand in errors for other reasons."""

_FORWARDED: Final = (
    "content-type", "retry-after", "request-id", "x-amzn-", "x-ratelimit-", "anthropic-", "openai-", "cf-ray",
)  # fmt: skip
"""How a provider's headers begin that tell the client something. Others belong to its connection, or would bind our own
name to its policies, as Strict-Transport-Security does."""


@dataclass(frozen=True, slots=True)
class CallProvider:
    upstream: Upstream
    pool: ProcessPool
    metrics: Metrics
    keys: RefusedKeys
    log: Logger

    async def __call__(self, call: Call) -> Answer:
        attempt = call.require_attempt()
        try:
            return await self._try(call, attempt)
        except UpstreamFailed as error:
            candidate = attempt.candidate
            again = candidate.flag.retry(attempt.request, candidate.target, error.problem, attempt.drop)
            if again is None:
                raise
            attempt.request = again
        return await self._try(call, attempt)

    async def _try(self, call: Call, attempt: Attempt) -> Answer:
        try:
            return await self._answer(call, attempt)
        except UpstreamFailed as error:
            self._note_error(attempt, error)
            raise

    async def _answer(self, call: Call, attempt: Attempt) -> Answer:
        candidate = attempt.candidate
        reply = await self._sent(call, attempt)
        head = attempt.head = reply.head
        attempt.meter = candidate.flag.meter(attempt.request, candidate.target, head)
        if head.status == 200 and attempt.request.stream and not _is_json(head):
            self._key_accepted(attempt)
            decoder = candidate.flag.decoder(attempt.request, candidate.target, head)
            return Answer(200, forwarded(head), items=self._decoded(call, attempt, reply, decoder))
        body = await attempt.wait(reply.read(MAX_ERROR if head.status >= 400 else MAX_BODY))
        if not 200 <= head.status < 300 and head.status < 400:
            # a redirect is not followed, and not handed on either: the prompt would go where it points
            message = f"{candidate.offer.provider_id} answered with status {head.status}"
            raise UpstreamFailed(Problem(UNAVAILABLE, message, status=502))
        if head.status >= 400:
            body = without_keys(body, attempt.headers)
        if problem := candidate.flag.problem(head, body):
            if problem.key_refused and _is_our_key(attempt):
                raise self._key_refused(call, attempt, problem)
            raise UpstreamFailed(problem, body, forwarded(head), head.status)
        self._key_accepted(attempt)
        if attempt.request.stream:
            raise Truncated("the provider answered a request for a stream with a body that is none")
        return Answer(head.status, forwarded(head), body=body)

    async def _sent(self, call: Call, attempt: Attempt) -> UpstreamResponse:
        """The open reply. Raises `Refused`, before anything is sent, for losses that `on_loss` forbids."""
        candidate = attempt.candidate
        provider = candidate.offer.provider
        # a native body is only spliced, which takes less time than sending it to another process
        size = 0 if candidate.native else len(attempt.request.top.body)
        drop = DropRelay(attempt.drop)
        send = await self.pool.run(size, drop, candidate.flag.build, attempt.request, candidate.target, drop)
        if attempt.dropped and provider.on_loss == "refuse":
            raise _loss(attempt)
        attempt.sent = True
        try:
            timeouts = call.runtime.config.resilience.timeouts
            reply = await attempt.wait(self.upstream.open(provider, send, attempt.headers, timeouts))
        except NotReached as error:
            attempt.sent = False
            said = {"reason": error.problem.reason, "message": error.problem.message}
            self.log.warning("upstream.unreachable", provider=provider.id, request_id=call.id, **said)
            raise
        call.stack.callback(reply.close)
        return reply

    async def _decoded(self, call: Call, attempt: Attempt, reply: UpstreamResponse, decoder: Decoder) -> Items:
        """The events of the stream; what had come before a fault goes out before the fault."""
        fault = None
        try:
            try:
                async with aclosing(_reads(call, attempt, reply, decoder)) as reads:
                    async for data in reads:
                        async for batch in _batches(decoder.feed(data)):
                            yield batch
            except UpstreamFailed as error:
                fault = error
            async for batch in _batches(_rest(decoder, fault)):
                yield batch
        except UpstreamFailed as error:
            self._note_error(attempt, error)
            raise

    def _note_error(self, attempt: Attempt, error: UpstreamFailed) -> None:
        self.metrics.upstream_error(attempt.candidate.offer.provider_id, error.problem.code)

    def _key_refused(self, call: Call, attempt: Attempt, problem: Problem) -> UpstreamFailed:
        """Note that a provider refused the gateway's key; the caller, who cannot help it, is told whom to ask."""
        provider = attempt.candidate.offer.provider
        self.keys.refused(provider)
        self.metrics.upstream_auth_failure(provider.id)
        said = {"status": problem.status, "native": problem.native, "message": problem.message[:MAX_SAID]}
        self.log.warning("upstream.key_refused", provider=provider.id, request_id=call.id, **said)
        message = f"{provider.id} refused the gateway's key; tell an administrator of this gateway"
        reason = problem.native or str(problem.status)
        return UpstreamFailed(Problem(UPSTREAM, message, reason=reason))

    def _key_accepted(self, attempt: Attempt) -> None:
        if _is_our_key(attempt):
            self.keys.accepted(attempt.candidate.offer.provider)


def _is_our_key(attempt: Attempt) -> bool:
    return keys.is_gateways(attempt.candidate.offer.provider, attempt.request.headers)


async def _batches(events: Iterable[Event]) -> AsyncGenerator[list[Event], None]:
    """The events of one read together, so that they leave in one write; those before a fault, before it."""
    batch: list[Event] = []
    try:
        for event in events:
            batch.append(event)
            if len(batch) >= BATCH_EVENTS:
                yield batch
                batch = []
                await asyncio.sleep(0)
    except UpstreamFailed:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _rest(decoder: Decoder, fault: UpstreamFailed | None) -> Iterator[Event]:
    """What a decoder had kept for later; then the fault, unless all had been said before the connection broke."""
    try:
        yield from decoder.close()
    except Truncated as error:
        raise (fault or error) from None
    if fault is not None and not isinstance(fault, Truncated):
        raise fault


async def _reads(
    call: Call, attempt: Attempt, reply: UpstreamResponse, decoder: Decoder
) -> AsyncGenerator[bytes, None]:
    chunks = reply.chunks()
    deadline = None
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                # after the first event nobody asks for how long it was waited
                data = await (anext(chunks) if call.first_event is not None else attempt.wait(anext(chunks)))
        except (StopAsyncIteration, TimeoutError):
            return
        yield data
        if decoder.done and deadline is None:
            deadline = asyncio.get_running_loop().time() + AFTER_LAST


def _is_json(head: Head) -> bool:
    return head.headers.get("content-type", "").startswith("application/json")


def forwarded(head: Head) -> dict[str, str]:
    """The provider's headers that a client is given; none that could not stand in a reply."""
    return {name: value for name, value in head.headers.items() if name.startswith(_FORWARDED) and value.isprintable()}


def without_keys(body: bytes, shown: Mapping[str, str]) -> bytes:
    """An error's body without what the provider was shown: some repeat a key that they refuse."""
    for value in shown.values():
        key = value.rpartition(" ")[2]
        if len(key) >= SHORTEST_KEY:
            body = body.replace(key.encode("utf-8", "surrogateescape"), b"[redacted]")
    return body


def _loss(attempt: Attempt) -> Refused:
    fields = ", ".join(attempt.dropped)
    provider = attempt.candidate.offer.provider_id
    message = f'provider "{provider}" does not take {fields}, and its "on_loss" is "refuse"; leave them out'
    return invalid(message, fields)
