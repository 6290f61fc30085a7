"""The base class of every simulated provider: it listens, records the requests, and sends the reply of a scenario.

The file of each provider decides which requests are accepted or refused, and how a reply is rendered. This file has the
server, and the delays and faults of scenarios.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import orjson
from aiohttp import web

from gateway.contract.capabilities import Caps
from gateway.testkit.prompt_cache import PromptCache
from gateway.testkit.prompts import Prompt
from gateway.testkit.scenarios import Canned, Scenario, answer, named_scenario

MAX_BODY: Final = 64 * 1024 * 1024

LEAKS: Final = (
    "x-amz-", "amz-sdk-", "cookie", "forwarded", "x-forwarded-", "tailscale-", "x-api-key", "authorization",
    "x-goog-api-key", "x-claude-code-", "x-stainless-", "proxy-",
)  # fmt: skip
"""Prefixes of headers that must not reach a provider. They concern only the client and the gateway."""


@dataclass(slots=True)
class Seen:
    """A request that arrived at the simulator.

    >>> async with irisgate_upstream("openai") as upstream:
    ...     provider = {"baseurl": upstream.url, "apikey": "k", "models": ["m"], "compatibility": {"openai_chat": True}}
    ...     async with irisgate_gateway({"providers": {"mine": provider}}) as gateway:
    ...         request = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    ...         _ = await gateway.post("/v1/chat/completions", request, headers={"cookie": "secret"})
    >>> seen = upstream.requests[0]
    >>> seen.path, seen.json["model"], seen.leaked("authorization")
    ('/v1/chat/completions', 'm', [])
    """

    method: str
    path: str
    """The path as it was sent, percent-encoded."""
    query: str
    headers: dict[str, str]
    """Headers by name in lower case."""
    body: bytes
    refused: str = ""
    """The body of the error response if the simulator refused the request, and "" otherwise."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """An event that is set if the caller disconnects before the reply ends."""

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    def leaked(self, credential: str) -> list[str]:
        """Return the names of headers in this request that the gateway should have removed.

        `credential` is the name of the header in which the gateway sends its own key.
        """
        return [name for name in self.headers if name.startswith(LEAKS) and name != credential]


class Refusal(Exception):
    """An error response of the simulator, with the status, body and headers of the real service.

    >>> Refusal(429, {"error": "slow down"}, {"retry-after": "3"}).headers
    {'retry-after': '3'}
    """

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body
        self.headers = headers or {}


class Simulator(ABC):
    """A simulated provider that listens on a port of its own.

    `url` is its address, and `requests` has the received requests. `default` is the scenario for a request for which no
    scenario is queued. If `default` is None, the reply to such a request quotes the prompt.

    >>> async with irisgate_upstream("anthropic") as upstream:
    ...     upstream.default = scenarios.error("ThrottlingException")
    ...     print(upstream.url.startswith("http://127.0.0.1:"))
    True
    """

    def __init__(self, keys: set[str] | None = None) -> None:
        self.keys = keys
        """API keys that are accepted. None accepts any key."""
        self.requests: list[Seen] = []
        self.default: Scenario | None = None
        self.prompt_cache: PromptCache | None = None
        """The cache that computes the reported token counts. If it is None, the counts of the scenario are reported.

        Only Bedrock's and Anthropic's simulators use it."""
        self.url = ""
        self._scripted: deque[Scenario] = deque()
        self._runner: web.AppRunner | None = None

    def script(self, *scenarios: Scenario) -> None:
        """Queue the scenarios of the next requests, in this order."""
        self._scripted.extend(scenarios)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @abstractmethod
    async def respond(self, seen: Seen, request: web.Request) -> web.StreamResponse:
        """Return the provider's answer. Raises `Refusal` if the provider would answer with an error."""

    @abstractmethod
    def failure(self, name: str, message: str) -> Refusal:
        """Return the provider's own error response for the AWS exception `name`."""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(
            method=request.method,
            path=request.raw_path.partition("?")[0],
            query=request.rel_url.raw_query_string,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read(),
        )
        self.requests.append(seen)
        try:
            return await self.respond(seen, request)
        except Refusal as refusal:
            seen.refused = str(refusal.body)
            body = orjson.dumps(refusal.body)
            headers = {"content-type": "application/json", **refusal.headers}
            return web.Response(status=refusal.status, body=body, headers=headers)
        except (asyncio.CancelledError, ConnectionError):
            seen.closed.set()
            raise

    async def choose(self, prompt: Prompt) -> tuple[Scenario, Canned]:
        """Return the scenario for a request, and the reply to render. Raises `Refusal` if the scenario has an error in
        place of a reply.
        """
        scenario = self._scripted.popleft() if self._scripted else named_scenario(prompt.text, prompt.tools)
        scenario = scenario or self.default or Scenario()
        if scenario.delay:
            await asyncio.sleep(scenario.delay)
        if scenario.error and scenario.fail_after is None:
            raise self.failure(scenario.error, scenario.message)
        return scenario, scenario.reply or answer(prompt.text, prompt.result)

    def billed(self, reply: Canned, model: str, caps: Caps, body: Mapping[str, Any]) -> Canned:
        """Return the reply with the token counts of the simulated prompt cache.

        If the simulator has no prompt cache, the reply is returned unchanged.
        """
        if self.prompt_cache is None:
            return reply
        counted = self.prompt_cache.bill(model, caps, body)
        return replace(reply, tokens=replace(counted, output=reply.tokens.output))

    async def whole(
        self, request: web.Request, scenario: Scenario, body: bytes, headers: dict[str, str]
    ) -> web.Response:
        """Return an unstreamed reply with the scenario's faults.

        `stall_after` delays the whole reply by `stall_seconds`. `cut_at` closes the connection before anything is sent.
        """
        if scenario.stall_after is not None:
            await asyncio.sleep(scenario.stall_seconds)
        if scenario.raw is not None:
            content = {"content-type": scenario.raw.content_type}
            return web.Response(status=scenario.raw.status, body=scenario.raw.body, headers=content)
        if scenario.cut_at is not None:
            _cut(request)
        return web.Response(body=body, headers={"content-type": "application/json", **headers})

    async def stream(
        self, request: web.Request, scenario: Scenario, frames: Sequence[bytes], failure: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Send the frames of a stream, with the scenario's faults. Each frame is one event.

        `failure` is the frame that reports `Scenario.error`.
        """
        raw = scenario.raw
        if raw is not None:
            frames, headers = [raw.body], {"content-type": raw.content_type}
        response = web.StreamResponse(status=raw.status if raw else 200, headers=headers)
        await response.prepare(request)
        sent = 0
        for number, frame in enumerate(frames):
            if number == scenario.fail_after:
                await response.write(failure)
                break
            if number == scenario.end_after:
                break
            if number == scenario.stall_after:
                await asyncio.sleep(scenario.stall_seconds)
            if number and scenario.gate is not None:
                await scenario.gate.wait()
            for piece in _pieces(frame, scenario.split):
                if scenario.cut_at is not None and sent + len(piece) >= scenario.cut_at:
                    await response.write(piece[: scenario.cut_at - sent])
                    # give the written bytes time to be sent before the connection is closed
                    await asyncio.sleep(0.02)
                    _cut(request)
                    return response
                await response.write(piece)
                sent += len(piece)
        await response.write_eof()
        return response


def _pieces(frame: bytes, size: int) -> list[bytes]:
    return [frame[at : at + size] for at in range(0, len(frame), size)] if size else [frame]


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
