"""Tests of a table of provider faults. For each fault, they check which provider serves the call, after which attempts,
and at what cost.

A cell of the table is a call in one API format to a provider with the same or another format. The call names an alias,
whose second target is another provider. One gateway serves the calls of all cells.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from gateway.call import retry_budget
from gateway.contract.conversions import conversions
from gateway.testkit import scenarios
from gateway.testkit.gemini import GeminiSim
from gateway.testkit.scenarios import Scenario
from tests.helpers.clients import CLIENTS
from tests.helpers.gateway import KEY, gate
from tests.helpers.own_plugins import discover_own
from tests.helpers.raw_provider import raw_provider
from tests.helpers.wires import PROVIDERS

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIMULATED = {**PROVIDERS, "gemini_generate_content": (GeminiSim, "gemini-2.5-flash")}
"""A pair for each compatibility flag: the class of the simulated provider, and a model."""
PRICES = {
    "openai_chat": "openai", "openai_responses": "openai", "anthropic_messages": "anthropic",
    "bedrock_converse": "bedrock-us", "bedrock_model_invoke": "bedrock-us", "gemini_generate_content": "google",
}  # fmt: skip
ROADS = {
    client: sorted({way.provider for way in conversions(discover_own()) if way.client == client})
    for client in sorted(CLIENTS)
}
"""Compatibility flags of the providers that can serve a client, by the client's dialect. All kinds of conversions are
included.
"""
SECOND = "second/gpt-4o"
TEXT = scenarios.NAMED["text"]
SECOND_COST = round((12 * 2.5 + 7 * 10) / 1e6, 9)
"""Dollars for the reply of the second provider: 12 tokens of input and 7 of output of gpt-4o."""
PATIENCE = 0.3
"""Seconds that the gateway waits for a silent provider."""


def status(number):
    return scenarios.raw(b'{"message": "simulated", "error": {"message": "simulated"}}', status=number)


async def reset(writer):
    writer.transport.abort()


BEGUN = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"'


async def half_a_body(writer):
    writer.write(BEGUN)
    writer.close()


async def silence_in_the_body(writer):
    writer.write(BEGUN)
    await asyncio.sleep(60)


async def half_a_head(writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-")
    writer.close()


@dataclass(frozen=True)
class Fault:
    """A fault of a provider, and what the record must have about the failed attempt."""

    scenario: Scenario | None = None
    """The scenario of a simulated provider. It is None if another kind of provider causes the fault."""
    url: str = ""
    play: object = None
    error: str = "unavailable"
    """The error code of the failed attempt. If the code depends on the provider's format, all possible codes are here.
    """
    whole_error: str = ""
    """The error code if the reply is not streamed. It is "" if the code is the same as in a stream."""
    billed: bool = False
    """Whether the provider may charge for the attempt."""
    sent: int = 1
    refuses_key: bool = False
    later: bool = False
    """Whether the fault comes after the first event of a stream."""


FAULTS = {
    "refused": Fault(url="http://127.0.0.1:9", sent=0),
    "no such host": Fault(url="http://no-such-host.invalid", sent=0),
    "tls": Fault(url="https", sent=0),
    "reset before the head": Fault(play=reset, billed=True),
    "broken off in the head": Fault(play=half_a_head, billed=True),
    "broken off in the body": Fault(play=half_a_body, error="upstream", billed=True),
    "silent in the body": Fault(play=silence_in_the_body, error="timeout", billed=True),
    "cut before the first event": Fault(
        replace(TEXT, cut_at=1), error="upstream", whole_error="unavailable", billed=True
    ),
    "429": Fault(status(429), error="rate_limit"),
    "500": Fault(status(500), error="internal"),
    "503": Fault(status(503), error="overloaded"),
    "529": Fault(status(529), error="overloaded"),
    "401": Fault(status(401), error="upstream permission"),
    "403": Fault(status(403), error="permission"),
    "a refused key": Fault(TEXT, error="upstream", refuses_key=True),
    "silent before the head": Fault(replace(TEXT, delay=60), error="timeout", billed=True),
    "silent after the head": Fault(replace(TEXT, stall_after=0, stall_seconds=60), error="timeout", billed=True),
    "silent after the first event": Fault(replace(TEXT, stall_after=4, stall_seconds=60), error="timeout", later=True),
    "cut after the first event": Fault(replace(TEXT, end_after=4), error="upstream", later=True),
}
REFUSALS = (400, 404, 413, 422)
BEGUN_ONLY = {"cut after the beginning": Fault(replace(TEXT, end_after=1), error="upstream", billed=True)}
"""A stream that breaks after its first event. This event has no text.

Gemini's clients have received nothing before the break. All other clients have received an event.
"""


AUTHORIZATIONS = {"anthropic_messages": "x-api-key", "gemini_generate_content": "x-goog-api-key"}


def name(flag, fault):
    return f"{flag}-{fault}".replace(" ", "-")


async def provider(stack, flag, fault, second):
    """Start a provider with this fault, if the fault needs a running provider. Return the provider's configuration."""
    url = fault.url
    if url == "https":
        url = second.url.replace("http:", "https:")
    elif fault.play is not None:
        url = (await stack.enter_async_context(raw_provider(fault.play))).url
    elif fault.scenario is not None:
        simulated = await stack.enter_async_context(SIMULATED[flag][0]())
        simulated.default = fault.scenario
        simulated.keys = {"another key"} if fault.refuses_key else None
        url = simulated.url
    patience = dict.fromkeys(("head_seconds", "first_event_seconds", "read_seconds"), PATIENCE)
    return configured(flag, url) | ({"timeouts": patience} if fault.error == "timeout" or fault.play else {})


def configured(flag, url):
    return {
        "baseurl": url,
        "apikey": KEY,
        "authorization": AUTHORIZATIONS.get(flag, "bearer"),
        "models": [SIMULATED[flag][1]],
        "cost_basis": PRICES[flag],
        "compatibility": {flag: True},
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def table(tmp_path_factory):
    """Yield a gateway with one alias for each pair of a fault and a provider's API format.

    The alias's first target has the fault, and its second target works.
    """
    faults = FAULTS | BEGUN_ONLY | {f"{number} refusal": Fault(status(number)) for number in REFUSALS}
    async with AsyncExitStack() as stack:
        # every call goes over, which even a budget of 1 refuses if the calls leave its window before their retries
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(retry_budget, "ALWAYS", 10_000)
        second = await stack.enter_async_context(PROVIDERS["openai_chat"][0]())
        second.default = TEXT
        providers, aliases = {"second": configured("openai_chat", second.url)}, {}
        for flag in SIMULATED:
            for key, fault in faults.items():
                failing = name(flag, key)
                providers[failing] = await provider(stack, flag, fault, second)
                aliases[failing] = {"dst": [f"{failing}/{SIMULATED[flag][1]}", SECOND]}
        more = {
            "model_aliases": {"models": aliases},
            "resilience": {"retry_budget": 1, "sticky_seconds": 0, "circuit_breaker": {"enabled": False}},
        }
        yield await stack.enter_async_context(gate(tmp_path_factory.mktemp("failover"), providers, more=more))


async def call(gw, client, alias, *, stream):
    """Make a call. Return its status, its body and its record."""
    say = CLIENTS[client]
    body = say.body(say.user(say.text("Hi")))
    if "model" in body:
        body |= {"model": alias, "stream": stream}
    if stream and client == "openai_chat":
        body["stream_options"] = {"include_usage": True}
    reply = await gw.post(say.path(alias, stream=stream), body)
    text = await reply.read()
    await gw.log_is_written()
    (record,) = [one for one in gw.lines.entries("call.finished") if one["id"] == reply.headers["x-request-id"]]
    return reply.status, text, record


async def cells(gw, client, fault):
    """Make two calls, one streamed and one not, to each provider that can serve a client. All these providers have the
    same fault.

    Return a tuple for each call: (the provider's compatibility flag, whether the call is streamed, status, body,
    record).
    """
    gw.lines.data = b""  # the lines of all earlier calls would make each reading of the log slower
    places = [(flag, stream) for flag in ROADS[client] for stream in (True, False)]
    calls = [call(gw, client, name(flag, fault), stream=stream) for flag, stream in places]
    return [(*place, *result) for place, result in zip(places, await asyncio.gather(*calls), strict=True)]


clients = pytest.mark.parametrize("client", sorted(CLIENTS))


@clients
@pytest.mark.parametrize("key", [key for key, fault in FAULTS.items() if not fault.later])
async def test_a_fault_before_the_first_event_goes_to_the_second(table, client, key):
    fault = FAULTS[key]
    for flag, stream, answered, text, record in await cells(table, client, key):
        place = flag, stream
        assert (place, answered, record["outcome"]) == (place, 200, "ok"), text
        # a stream of InvokeModel has its texts in base64
        assert b" simulated" in text or (stream and client == "bedrock_model_invoke")
        assert (record["provider"], record["model"], record["attempts"]) == ("second", "gpt-4o", fault.sent + 1)
        first, last = record["tried"]
        error = fault.error if stream else fault.whole_error or fault.error
        assert (place, first["provider"]) == (place, name(flag, key))
        assert first["error"] in error.split(), place
        assert (last["provider"], last["error"], last["status"]) == ("second", "", 200)
        assert (last["cost_usd"], last["estimated"]) == (SECOND_COST, False)
        assert (place, first["cost_usd"] > 0, first["estimated"]) == (place, fault.billed, fault.billed)
        assert record["cost_usd"] == pytest.approx(first["cost_usd"] + SECOND_COST, abs=1e-12)


@clients
@pytest.mark.parametrize("key", [key for key, fault in FAULTS.items() if fault.later])
async def test_a_fault_after_the_first_event_is_told_to_the_client(table, client, key):
    table.lines.data = b""
    calls = [call(table, client, name(flag, key), stream=True) for flag in ROADS[client]]
    for flag, (answered, _, record) in zip(ROADS[client], await asyncio.gather(*calls), strict=True):
        assert (answered, record["outcome"], record["error"]) == (200, "failed", FAULTS[key].error)
        assert (record["provider"], record["attempts"], record["tried"]) == (name(flag, key), 1, [])


async def test_a_reply_without_an_event_for_the_client_goes_to_the_second(table):
    client = "gemini_generate_content"
    [(key, fault)] = BEGUN_ONLY.items()
    table.lines.data = b""
    flags = [flag for flag in ROADS[client] if flag != client]
    calls = [call(table, client, name(flag, key), stream=True) for flag in flags]
    for flag, (answered, text, record) in zip(flags, await asyncio.gather(*calls), strict=True):
        first, last = record["tried"]
        assert (flag, answered, record["outcome"], record["provider"]) == (flag, 200, "ok", "second")
        assert b" simulated" in text
        assert (first["error"], first["cost_usd"] > 0, last["cost_usd"]) == (fault.error, True, SECOND_COST)
        assert record["cost_usd"] == pytest.approx(first["cost_usd"] + SECOND_COST, abs=1e-12)


@clients
@pytest.mark.parametrize("number", REFUSALS)
async def test_a_mistake_of_the_client_is_not_tried_elsewhere(table, client, number):
    key = f"{number} refusal"
    for flag, _, answered, _, record in await cells(table, client, key):
        assert answered >= 400
        assert (record["provider"], record["attempts"], record["cost_usd"]) == (name(flag, key), 1, 0)
        assert record["tried"] == []
