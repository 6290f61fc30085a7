"""The last step: build the request in the provider's envelope, send it, and decode what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from gateway.chain import Answer, Attempt, Call, Items
from gateway.errors import Refused, Truncated, UpstreamFailed, invalid
from gateway.flag import Decoder, Event, Head, Problem
from gateway.log import Logger
from gateway.metrics import Metrics
from gateway.upstream import Reply, Upstream

AFTER_LAST: Final = 2.0
"""Seconds to read on after a stream's terminal event, for the usage that may follow it."""

_NOT_FORWARDED: Final = frozenset(
    {
        "connection", "content-encoding", "content-length", "date", "keep-alive", "proxy-authenticate", "server",
        "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "x-request-id",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SendOn:
    upstream: Upstream
    metrics: Metrics
    log: Logger

    async def __call__(self, call: Call) -> Answer:
        attempt = call.require_attempt()
        candidate = attempt.candidate
        provider = candidate.offer.provider
        send = candidate.flag.build(attempt.ask, candidate.target, attempt.drop)
        if attempt.dropped and provider.on_loss == "refuse":
            raise _loss(attempt)
        timeouts = call.runtime.config.resilience.timeouts
        reply = await self.upstream.open(provider, send, timeouts)
        call.stack.callback(reply.close)
        attempt.head = reply.head
        streamed = reply.head.status == 200 and attempt.ask.stream
        if streamed and not _is_json(reply.head):
            decoder = candidate.flag.decoder(attempt.ask, candidate.target, reply.head)
            return Answer(200, forwarded(reply.head), items=_decoded(reply, decoder))
        body = await reply.read()
        if problem := candidate.flag.problem(reply.head, body):
            self._note_refused_key(call, attempt, problem)
            raise UpstreamFailed(problem, body, forwarded(reply.head), reply.head.status)
        if streamed:
            raise Truncated("the provider answered a request for a stream with a body that is none")
        return Answer(reply.head.status, forwarded(reply.head), body=body)

    def _note_refused_key(self, call: Call, attempt: Attempt, problem: Problem) -> None:
        if problem.status in {401, 403}:
            provider = attempt.candidate.offer.provider_id
            self.metrics.upstream_auth_failure(provider)
            said = {"status": problem.status, "native": problem.native}
            self.log.warning("upstream.key_refused", provider=provider, request_id=call.id, **said)


async def _decoded(reply: Reply, decoder: Decoder) -> Items:
    """The events of each read together. What came before a fault in the same read goes out before the fault."""
    async with aclosing(_reads(reply, decoder)) as reads:
        async for data in reads:
            batch: list[Event] = []
            try:
                batch.extend(decoder.feed(data))
            except UpstreamFailed:
                if batch:
                    yield batch
                raise
            if batch:
                yield batch
    if last := list(decoder.close()):
        yield last


async def _reads(reply: Reply, decoder: Decoder) -> AsyncGenerator[bytes, None]:
    chunks = reply.chunks()
    deadline = None
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                data = await anext(chunks)
        except (StopAsyncIteration, TimeoutError):
            return
        except Truncated:
            if decoder.done:  # the connection broke after all had been said
                return
            raise
        yield data
        if decoder.done and deadline is None:
            deadline = asyncio.get_running_loop().time() + AFTER_LAST


def _is_json(head: Head) -> bool:
    return head.headers.get("content-type", "").startswith("application/json")


def forwarded(head: Head) -> dict[str, str]:
    """The provider's headers without those that belong to its connection."""
    return {name: value for name, value in head.headers.items() if name not in _NOT_FORWARDED}


def _loss(attempt: Attempt) -> Refused:
    fields = ", ".join(attempt.dropped)
    provider = attempt.candidate.offer.provider_id
    message = f'provider "{provider}" does not take {fields}, and its "on_loss" is "refuse"; leave them out'
    return invalid(message, fields)
