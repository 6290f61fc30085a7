"""Does the I/O that a plugin's `steps` need before a request can be built.

- Steps run twice in an attempt. The steps of the client's flag run before the middleware `translate`, in the client's
  dialect. The steps of the provider's flag run after `translate`, in the provider's dialect.
- A plugin yields a request to send or a file to fetch, and receives the response. A plugin opens no connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.call.chain import Attempt, AttemptNext, Call, Response, Whole
from gateway.call.sender import Sender
from gateway.contract.errors import INTERNAL, Problem, UpstreamFailed
from gateway.contract.flag import ClientRequest, Fetch, Head, StepResponse, UpstreamRequest
from gateway.contract.registry import Plugin
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.upstream.client import MAX_BODY
from gateway.upstream.fetch.client import Fetcher
from gateway.upstream.fetch.fetches import MAX_FILES, Fetches

MAX_STEPS: Final = MAX_FILES + 12
"""Maximum number of steps of one flag in an attempt. A plugin that asks for more would probably never end."""

StepSender = Callable[[UpstreamRequest], Awaitable[StepResponse]]
Getter = Callable[[Fetch], Awaitable[StepResponse]]


@dataclass(frozen=True, slots=True)
class Fetching:
    """Fetches the files that plugins ask for during a call."""

    fetcher: Fetcher
    metrics: Metrics
    log: Logger

    async def get(self, call: Call, attempt: Attempt, fetch: Fetch) -> StepResponse:
        """Return the fetched file. Raises `Refused` if the file cannot be fetched."""
        if call.fetches is None:
            call.fetches = Fetches(self.fetcher, call.runtime.config, self.metrics, self.log)
            call.stack.push_async_callback(call.fetches.close)
        return await attempt.stopwatch.wait(call.fetches.get(fetch, call.id))


@dataclass(frozen=True, slots=True)
class Steps:
    """A middleware that runs the steps of one flag: the client's or the provider's, as `flag_of` chooses."""

    sender: Sender
    fetching: Fetching
    flag_of: Callable[[Call, Attempt], Plugin]

    async def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Response:
        flag = self.flag_of(call, attempt)
        try:
            result = await drive(
                flag.steps(attempt.request, attempt.candidate.target, attempt.drop),
                partial(self._send, call, attempt),
                partial(self.fetching.get, call, attempt),
            )
        except UpstreamFailed as error:
            self.sender.failed(attempt, error)
            raise
        if isinstance(result, StepResponse):
            attempt.head = Head(result.status, result.headers)
            return Whole(result.status, result.headers, result.body)
        attempt.request = result
        return await following(call, attempt)

    async def _send(self, call: Call, attempt: Attempt, request: UpstreamRequest) -> StepResponse:
        """Send a request of the steps, and return the reply. Raises `UpstreamFailed` if the key is refused."""
        reply = await self.sender.open_step(call, attempt, request)
        body = attempt.redaction.bytes(await attempt.stopwatch.wait(reply.read(MAX_BODY)))
        head = attempt.redaction.head(reply.head)
        if head.status < 400:
            self.sender.key_accepted(attempt)
        elif (problem := attempt.candidate.flag.problem(head, body)) is not None:
            self.sender.check_key(call, attempt, problem)
        return StepResponse(head.status, head.headers, body)


def client_flag(call: Call, _attempt: Attempt) -> Plugin:
    return call.flag


def provider_flag(_call: Call, attempt: Attempt) -> Plugin:
    return attempt.candidate.flag


async def drive(
    steps: Generator[UpstreamRequest | Fetch, StepResponse, ClientRequest | StepResponse],
    sender: StepSender,
    getter: Getter,
) -> ClientRequest | StepResponse:
    """Run the steps to their end, and return their result: the changed request, or a response that ends the attempt.

    `sender` sends a request to the provider, and `getter` fetches a file. Raises `Refused` if a file cannot be fetched,
    and `UpstreamFailed` if the provider cannot be reached or there are more than `MAX_STEPS` steps.
    """
    try:
        wanted = next(steps)
        for _ in range(MAX_STEPS):
            reply = await (getter(wanted) if isinstance(wanted, Fetch) else sender(wanted))
            wanted = steps.send(reply)
    except StopIteration as end:
        result: ClientRequest | StepResponse = end.value
        return result
    finally:
        steps.close()
    raise UpstreamFailed(Problem(INTERNAL, f"the provider's plugin asked for more than {MAX_STEPS} steps"))
