"""Every conversion through the whole gateway, over sockets, with a client and a simulated provider of each API format.

The registry lists the conversions, so that new conversions are tested without a change here.
"""

from __future__ import annotations

import base64
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.contract.conversions import GENERATE
from gateway.contract.conversions import conversions as listed
from gateway.contract.framing import eventstream, sse
from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.openai import OpenAISim
from tests.helpers.clients import CLIENTS
from tests.helpers.fold import DIALECTS, fold, read_stream
from tests.helpers.gateway import HAIKU, KEY, gate
from tests.helpers.own_plugins import discover_own

PROVIDERS = {
    "openai_chat": (OpenAISim, "gpt-4o"),
    "openai_responses": (OpenAISim, "gpt-5"),
    "anthropic_messages": (AnthropicSim, "claude-haiku-4-5"),
    "bedrock_model_invoke": (BedrockSim, HAIKU),
    "bedrock_converse": (BedrockSim, HAIKU),
}
CLAUDES = ("anthropic_messages", "bedrock_model_invoke", "bedrock_converse")


@dataclass(frozen=True)
class Wire:
    """A conversion: the compatibility flags of the client and the provider, and the upstream dialect."""

    client: str
    provider: str
    upstream: str

    @property
    def say(self) -> Any:
        return CLIENTS[self.client]

    @property
    def model(self) -> str:
        return f"{self.provider}/{PROVIDERS[self.provider][1]}"


WIRES = [
    Wire(conversion.client, conversion.provider, conversion.upstream)
    for conversion in listed(discover_own())
    if GENERATE in conversion.operations and conversion.dialect in DIALECTS and conversion.provider in PROVIDERS
]


def wires(*, clients=None, providers=None):
    """Return a decorator that runs a test once for each conversion, with the argument `wire`.

    Only conversions from a flag in `clients` to a flag in `providers` are used. None stands for all flags.
    """
    chosen = [
        wire
        for wire in WIRES
        if (clients is None or wire.client in clients) and (providers is None or wire.provider in providers)
    ]
    return pytest.mark.parametrize("wire", chosen, ids=[f"{wire.client}-{wire.provider}" for wire in chosen])


class Line:
    """A running gateway for calls of one conversion, and its simulated provider."""

    def __init__(self, wire, gw, simulated):
        self.wire = wire
        self.gw = gw
        self.simulated = simulated

    async def post(self, body, *, stream):
        if "model" in body:
            body = {**body, "model": self.wire.model, "stream": stream}
        if stream and self.wire.client == "openai_chat":
            body["stream_options"] = {"include_usage": True}
        return await self.gw.post(self.wire.say.path(self.wire.model, stream=stream), body)

    async def reply_body(self, body, *, stream):
        """Return the reply as one body, assembled from its events if it is streamed.

        Check that the provider accepted the request.
        """
        reply = await self.post(body, stream=stream)
        assert reply.status == 200, reply.body
        assert self.simulated.requests[-1].refused == ""
        if not stream:
            return json.loads(reply.body)
        events = read_stream(reply.body, reply.headers["content-type"])
        return fold(self.wire.say.dialect, events)

    @property
    def sent(self):
        """The last request that the provider got."""
        return self.simulated.requests[-1].json


@asynccontextmanager
async def line(wire, state, **options):
    simulator, model = PROVIDERS[wire.provider]
    async with AsyncExitStack() as stack:
        simulated = await stack.enter_async_context(simulator(keys={KEY}))
        provider = {
            "baseurl": simulated.url,
            "apikey": KEY,
            "authorization": "x-api-key" if wire.provider == "anthropic_messages" else "bearer",
            "models": [model],
            "compatibility": {wire.provider: True},
            **options,
        }
        gw = await stack.enter_async_context(gate(state, {wire.provider: provider}))
        yield Line(wire, gw, simulated)


def framed(provider, events):
    """Return the bytes and the content type of a provider's stream. Each event is given as (event type, data)."""
    if provider.startswith("bedrock_"):
        return b"".join(_frame(provider, kind, data) for kind, data in events), "application/vnd.amazon.eventstream"
    frames = [sse.encode(json.dumps(data).encode(), data.get("type", "")) for _, data in events]
    return b"".join(frames), "text/event-stream"


def _frame(provider, kind, data):
    payload = json.dumps(data).encode()
    if provider == "bedrock_model_invoke":
        kind, payload = "chunk", json.dumps({"bytes": base64.b64encode(payload).decode()}).encode()
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return eventstream.encode(headers, payload)
