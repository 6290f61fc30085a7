"""The I/O that a plugin needs before a request can be built, asked for by its `steps`.

Twice an attempt: the client's flag, in its own dialect, before `translate`; the provider's flag, in the upstream's
dialect, after it. A plugin yields what it wants sent and gets the reply back; it opens nothing itself. URLs that a
client names are not fetched: the request is refused in words that say what to send instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Final

from gateway.chain import Answer, Attempt, Call, Next
from gateway.errors import INTERNAL, Problem, UpstreamFailed, invalid
from gateway.flag import Ask, Fetch, Head, Reply, Send
from gateway.registry import Plugin
from gateway.upstream import MAX_BODY, Upstream

MAX_STEPS: Final = 32
"""Of one attempt: more are a plugin that does not come to an end."""

Sender = Callable[[Send], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Steps:
    """Drives the steps of one side's flag."""

    upstream: Upstream
    flag_of: Callable[[Call, Attempt], Plugin]

    async def __call__(self, call: Call, following: Next) -> Answer:
        attempt = call.require_attempt()
        candidate = attempt.candidate

        async def sender(send: Send) -> Reply:
            timeouts = call.runtime.config.resilience.timeouts
            opening = self.upstream.open(candidate.offer.provider, send, attempt.headers, timeouts)
            reply = await attempt.wait(opening)
            call.stack.callback(reply.close)
            return Reply(reply.head.status, reply.head.headers, await attempt.wait(reply.read(MAX_BODY)))

        flag = self.flag_of(call, attempt)
        found = await drive(flag.steps(attempt.ask, candidate.target, attempt.drop), sender)
        if isinstance(found, Reply):
            attempt.head = Head(found.status, found.headers)
            return Answer(found.status, dict(found.headers), body=found.body)
        attempt.ask = found
        return await following(call)


def clients(call: Call, _attempt: Attempt) -> Plugin:
    return call.flag


def providers(_call: Call, attempt: Attempt) -> Plugin:
    return attempt.candidate.flag


async def drive(steps: Generator[Send | Fetch, Reply, Ask | Reply], sender: Sender) -> Ask | Reply:
    """Run the steps to their end. Raises `Refused` for a fetch, `UpstreamFailed` for steps without an end."""
    try:
        wanted = next(steps)
        for _ in range(MAX_STEPS):
            if isinstance(wanted, Fetch):
                raise invalid(f"{wanted.url[:200]} is not fetched by this gateway; send the data itself")
            wanted = steps.send(await sender(wanted))
    except StopIteration as end:
        found: Ask | Reply = end.value
        return found
    finally:
        steps.close()
    raise UpstreamFailed(Problem(INTERNAL, f"the provider's plugin asked for more than {MAX_STEPS} steps"))
