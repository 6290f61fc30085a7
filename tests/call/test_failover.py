"""Tests of failover: which failures of a provider let another candidate serve the call."""

import asyncio
from dataclasses import replace

import pytest

from gateway.call.failover import NO_MEMORY, is_providers_failure
from gateway.contract import errors
from gateway.contract.errors import (
    BadFrame,
    NotReached,
    PluginFailed,
    Problem,
    Refused,
    Stalled,
    Truncated,
    UpstreamFailed,
    invalid,
)
from gateway.testkit import scenarios
from tests.helpers.gateway import HAIKU, bedrock, gate
from tests.helpers.waiting import eventually

CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}]}
NOWHERE = "http://127.0.0.1:9"


def refused_with(status, code=errors.INTERNAL, **more):
    return UpstreamFailed(Problem(code, "no", status=status, **more), status=status)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *((refused_with(status), True) for status in (402, 408, 409, 424, 425, 429, 500, 502, 503, 504, 529)),
        *((refused_with(status), False) for status in (400, 404, 405, 413, 415, 422)),
        *((refused_with(status, key_refused=status == 401), True) for status in (401, 403)),
        (NotReached(Problem(errors.UNAVAILABLE, "no", reason="connection_refused")), True),
        (Truncated(), True),
        (BadFrame("no JSON"), True),
        (Stalled(Problem(errors.TIMEOUT, "silent", retryable=True)), True),
        (UpstreamFailed(Problem(errors.UPSTREAM, "key", reason="no_credential")), True),
        (UpstreamFailed(Problem(errors.UNAVAILABLE, "broke off", retryable=True)), True),
        (UpstreamFailed(Problem(errors.UNAVAILABLE, "too long a reply")), False),
        (UpstreamFailed(Problem(errors.UNAVAILABLE, "no memory", retryable=True, reason=NO_MEMORY)), False),
        (Refused(Problem(errors.UNAVAILABLE, "the disk is full")), False),
        (invalid("n must be 1"), False),
        (PluginFailed("flag", "build", "KeyError", "flag.py:1"), False),
    ],
)
def test_only_a_failure_of_the_provider_allows_another_candidate(error, expected):
    assert is_providers_failure(error, is_our_key=True) is expected


@pytest.mark.parametrize("status", [401, 403])
def test_the_refusal_of_a_clients_own_key_is_the_clients_mistake(status):
    assert not is_providers_failure(refused_with(status), is_our_key=False)


async def test_a_provider_that_is_not_reached_is_followed_by_the_next(tmp_path, bedrock_sim):
    providers = {"down": bedrock(NOWHERE), "up": bedrock(bedrock_sim.url)}
    async with gate(tmp_path, providers) as gw:
        assert (await gw.post("/v1/chat/completions", CHAT)).status == 200
        (call,) = await gw.calls()
    assert (call["provider"], call["outcome"], call["attempts"]) == ("up", "ok", 1)


async def test_if_no_provider_is_reached_the_last_error_is_told(tmp_path):
    async with gate(tmp_path, {"down": bedrock(NOWHERE), "gone": bedrock(NOWHERE)}) as gw:
        reply = await gw.post("/v1/chat/completions", CHAT)
        assert reply.status == 503
        assert "gone cannot be reached" in await reply.text()
        (call,) = await gw.calls()
    assert (call["provider"], call["error_native"], call["attempts"]) == ("gone", "connection_refused", 0)


async def test_a_full_provider_leaves_the_call_to_the_next(tmp_path, bedrock_sim):
    gated = scenarios.Gate()
    bedrock_sim.script(replace(scenarios.NAMED["text"], gate=gated))
    providers = {"narrow": bedrock(bedrock_sim.url, calls_in_flight=1), "wide": bedrock(bedrock_sim.url)}
    async with gate(tmp_path, providers) as gw:
        first = asyncio.create_task(gw.post("/v1/chat/completions", CHAT | {"stream": True}))
        await eventually(lambda: bedrock_sim.requests)
        assert (await gw.post("/v1/chat/completions", CHAT)).status == 200
        gated.let_pass(100)
        await (await first).read()
        assert [call["provider"] for call in await gw.calls(2)] == ["wide", "narrow"]
