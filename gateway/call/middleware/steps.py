"""Does the I/O for the hook `steps` of plugins: requests and downloads that are needed before a request can be built.

- An attempt first runs the steps of the client's API format, then the middleware `translate`, and then the steps of the
  provider's API format. If both formats are the same, the steps run only once.
- The plugin's generator yields a request to send, a file to fetch or a computation (`Work`), and receives the result.
  The plugin itself opens no connection.
- Most requests need no steps. The plugin then returns the request in place of a generator.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from gateway.call.chain import Attempt, AttemptNext, Call
from gateway.call.responses import Response, Whole
from gateway.call.sender import CredentialRefused, Sender
from gateway.contract.definitions import definition
from gateway.contract.errors import PluginFailed, UpstreamFailed
from gateway.contract.flag import ClientRequest, Fetch, Head, StepResponse, UpstreamRequest, Work
from gateway.contract.flag import Steps as PluginSteps
from gateway.contract.hooks import Hook
from gateway.contract.losses import Way
from gateway.contract.registry import Plugin
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.upstream.fetch.client import Fetcher
from gateway.upstream.fetch.fetches import MAX_FILES, Fetches
from gateway.upstream.process_pool import DropRelay, ProcessPool

MAX_STEPS: Final = MAX_FILES + 12
"""Maximum number of steps (requests, downloads and computations) of one plugin in an attempt. A plugin that yields more
steps probably never ends.
"""

MAX_STEP_REPLY: Final = 256 * 1024
"""Maximum number of bytes of a reply to a step's request. Such a reply is a count of tokens or an error."""

StepSender = Callable[[UpstreamRequest], Awaitable[StepResponse]]
Getter = Callable[[Fetch], Awaitable[StepResponse]]
Worker = Callable[[Work], Awaitable[Any]]


class Fetching(msgspec.Struct, frozen=True):
    """Fetches the files that plugins need during a call."""

    fetcher: Fetcher
    metrics: Metrics
    log: Logger

    async def get(self, call: Call, attempt: Attempt, fetch: Fetch) -> StepResponse:
        """Return the fetched file. Raises `Refused` if the file cannot be fetched."""
        if call.fetches is None:
            call.fetches = Fetches(self.fetcher, call.runtime.config, self.metrics, self.log)
            call.stack.push_async_callback(call.fetches.close)
        return await attempt.stopwatch.wait(call.fetches.get(fetch, call.id))


class Steps(msgspec.Struct, frozen=True):
    """Runs the steps of the plugin that `flag_of` returns. If it returns None, no steps run.

    An attempt has two such objects: one for the client's compatibility flag (plugin of an API format), and one for the
    provider's.
    """

    sender: Sender
    pool: ProcessPool
    fetching: Fetching
    flag_of: Callable[[Call, Attempt], Plugin | None]

    def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Awaitable[Response]:
        flag = self.flag_of(call, attempt)
        if flag is None:
            return following(call, attempt)
        drop = DropRelay(attempt.drop)
        try:
            steps = flag.steps(attempt.request, attempt.candidate.target, drop)
        except UpstreamFailed as error:
            self.sender.failed(attempt, error)
            raise
        if isinstance(steps, ClientRequest):
            attempt.request = steps
            return following(call, attempt)
        return self._performed(call, attempt, flag, steps, drop, following)

    async def _performed(
        self, call: Call, attempt: Attempt, flag: Plugin, steps: PluginSteps, drop: DropRelay, following: AttemptNext
    ) -> Response:
        """Run the steps of a plugin (requests, downloads and computations). If they end with a changed request, run the
        next step of the attempt with it. If they end with a reply, return this reply.
        """
        try:
            result = await self._run(call, attempt, flag, steps, drop)
        except UpstreamFailed as error:
            self.sender.failed(attempt, error)
            raise
        if isinstance(result, StepResponse):
            if call.request.stream and result.status < 400:
                raise _not_a_stream(flag)
            head = attempt.head = Head(result.status, result.headers)
            body = result.body
            if flag is attempt.candidate.flag and attempt.candidate.way is not Way.NATIVE:
                decoder = flag.decoder(attempt.request, attempt.candidate.target, head)
                body = flag.hooks["decoder.whole"].run(decoder.whole, body)
            return Whole(result.status, result.headers, body)
        attempt.request = result
        return await following(call, attempt)

    async def _run(
        self, call: Call, attempt: Attempt, flag: Plugin, steps: PluginSteps, drop: DropRelay
    ) -> ClientRequest | StepResponse:
        size = len(attempt.request.top.body)
        hook = flag.hooks["steps.work"]

        async def worker(work: Work) -> Any:
            return await self.pool.run(size, drop, hook.run, work.function, *work.args)

        sender, getter = partial(self._send, call, attempt), partial(self.fetching.get, call, attempt)
        return await drive(steps, sender, getter, flag.hooks, worker)

    async def _send(self, call: Call, attempt: Attempt, request: UpstreamRequest) -> StepResponse:
        """Send the request that a plugin's step needs, and return the reply. Raises `UpstreamFailed` if the provider
        cannot be reached or refuses the key.
        """
        try:
            return await self._send_once(call, attempt, request)
        except CredentialRefused as refusal:
            await self.sender.renew(call, attempt, refusal)
        return await self._send_once(call, attempt, request)

    async def _send_once(self, call: Call, attempt: Attempt, request: UpstreamRequest) -> StepResponse:
        reply = await self.sender.open_step(call, attempt, request)
        body = attempt.redaction.bytes(await attempt.stopwatch.wait(reply.read(MAX_STEP_REPLY, call.hold_reply)))
        head = attempt.redaction.head(reply.head)
        if head.status < 400:
            self.sender.key_accepted(attempt)
        elif (problem := attempt.candidate.flag.problem(head, body)) is not None:
            self.sender.check_key(call, attempt, head, problem)
        return StepResponse(head.status, head.headers, body)


def client_flag(call: Call, _attempt: Attempt) -> Plugin:
    return call.flag


def provider_flag(call: Call, attempt: Attempt) -> Plugin | None:
    """Return the plugin of the provider's API. Return None if it is also the plugin of the client's API, because its
    steps have then run already.
    """
    flag = attempt.candidate.flag
    return None if flag is call.flag else flag


async def work_here(work: Work) -> Any:
    """Run a computation in this process, on the event loop, and return its result."""
    return work.function(*work.args)


async def drive(
    steps: PluginSteps, sender: StepSender, getter: Getter, hooks: Mapping[str, Hook], worker: Worker = work_here
) -> ClientRequest | StepResponse:
    """Run the steps to their end, and return their result: the changed request, or a response that ends the attempt.

    `sender` sends a request to the provider, `getter` fetches a file, and `worker` does a computation. Raises `Refused`
    if a file cannot be fetched, and `UpstreamFailed` if the provider cannot be reached. Raises `PluginFailed` if the
    plugin fails or yields more than `MAX_STEPS` steps.
    """
    hook = hooks["steps"]
    reply: Any = None
    sent = 0
    try:
        while True:
            wanted, is_end = hook.advance(steps, reply)
            if is_end:
                result: ClientRequest | StepResponse = wanted
                return result
            if sent == MAX_STEPS:
                raise PluginFailed(hook.plugin, hook.name, f"asked for more than {MAX_STEPS} steps", definition(steps))
            sent += 1
            match wanted:
                case Fetch():
                    reply = await getter(wanted)
                case Work():
                    reply = await worker(wanted)
                case _:
                    reply = await sender(wanted)
    finally:
        hooks["steps.close"].run(steps.close)


def _not_a_stream(flag: Plugin) -> PluginFailed:
    """Return the error for a plugin whose hook `steps` ends with a complete body, although the client asked for a
    stream.
    """
    hook = flag.hooks["steps"]
    return PluginFailed(
        flag.name, hook.name, "answered a request for a stream with a whole body", definition(hook.function)
    )
