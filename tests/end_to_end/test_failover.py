"""Tests of failover through the whole gateway: limits of attempts and time, waits, the error if all attempts fail, and
providers that are left out.
"""

import asyncio
import json
from dataclasses import replace

import pytest

from gateway.testkit import scenarios
from tests.helpers.gateway import HAIKU, NOVA, SONNET, bedrock, gate
from tests.helpers.raw_provider import raw_provider
from tests.helpers.waiting import eventually

TEXT = scenarios.NAMED["text"]
NOWHERE = "http://127.0.0.1:9"
THROTTLE = scenarios.error("ThrottlingException")
OVERLOAD = scenarios.error("ServiceUnavailableException", "busy")
MODELS = (SONNET, HAIKU, NOVA)


def chat(model="any", **more):
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


def settings(**resilience):
    """Return the configuration of an alias for three models of one provider, without a circuit breaker."""
    return {
        "model_aliases": {"models": {"any": {"dst": [f"b/{model}" for model in MODELS]}}},
        "resilience": {"circuit_breaker": {"enabled": False}, **resilience},
    }


def refusing(status, retry_after=None, body=b'{"message": "slow down"}'):
    """Return a provider that refuses requests with a status and a `Retry-After`."""
    wait = b"" if retry_after is None else b"retry-after: %s\r\n" % str(retry_after).encode()

    async def play(writer):
        head = b"HTTP/1.1 %d No\r\ncontent-type: application/json\r\nconnection: close\r\n%scontent-length: %d\r\n\r\n"
        writer.write(head % (status, wait, len(body)) + body)
        writer.close()

    return raw_provider(play)


@pytest.mark.parametrize(("resilience", "attempts"), [({}, 3), ({"max_attempts": 2}, 2), ({"failover": False}, 1)])
async def test_a_call_has_a_number_of_attempts(tmp_path, bedrock_sim, resilience, attempts):
    bedrock_sim.default = OVERLOAD
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, more=settings(**resilience)) as gw:
        assert (await gw.post("/v1/chat/completions", chat())).status == 503
        (call,) = await gw.calls()
        await gw.log_is_written()
        assert gw.lines.count("attempt.failed") == (attempts if attempts > 1 else 0)
    assert call["attempts"] == len(bedrock_sim.requests) == attempts
    assert [one["model"] for one in call["tried"]] == (list(MODELS[:attempts]) if attempts > 1 else [])
    assert call["model"] == MODELS[attempts - 1]


async def test_a_mistake_of_the_client_is_not_logged_as_a_failed_attempt(tmp_path):
    async with refusing(400) as refuser, gate(tmp_path, {"b": bedrock(refuser.url)}, more=settings()) as gw:
        assert (await gw.post("/v1/chat/completions", chat())).status == 400
        await gw.log_is_written()
        assert (gw.lines.count("attempt.failed"), refuser.requests) == (0, 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_no_attempt_begins_and_none_goes_on_after_the_deadline(tmp_path, bedrock_sim, stream):
    bedrock_sim.default = replace(TEXT, stall_after=0, stall_seconds=60)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, more=settings(total_seconds=0.5)) as gw:
        async with asyncio.timeout(10):
            reply = await gw.post("/v1/chat/completions", chat(stream=stream))
        assert reply.status == 504
        (call,) = await gw.calls()
    assert (call["attempts"], call["error"]) == (1, "timeout")
    assert 500 <= call["duration_ms"] < 5000


async def test_a_retry_budget_limits_further_requests(tmp_path, bedrock_sim):
    bedrock_sim.default = OVERLOAD
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, more=settings(retry_budget=0, max_attempts=2)) as gw:
        for _ in range(15):
            assert (await gw.post("/v1/chat/completions", chat())).status == 503
        calls = await gw.calls(15)
    assert [call["attempts"] for call in calls] == [2] * 10 + [1] * 5


async def test_a_provider_that_is_not_reached_takes_nothing_from_the_budget(tmp_path, bedrock_sim):
    providers = {"down": bedrock(NOWHERE), "up": bedrock(bedrock_sim.url)}
    more = {"resilience": {"retry_budget": 0, "circuit_breaker": {"enabled": False}}}
    async with gate(tmp_path, providers, more=more) as gw:
        for _ in range(15):
            assert (await gw.post("/v1/chat/completions", chat(NOVA))).status == 200


async def test_a_short_retry_after_is_waited_for_if_nothing_else_is_left(tmp_path, bedrock_sim):
    """Check that if the only provider throttles a request, the gateway repeats the request after the time that the
    provider names.
    """
    bedrock_sim.default = TEXT
    async with refusing(429, 1) as refuser:
        more = settings(retry_after_seconds=2)
        async with gate(tmp_path, {"b": bedrock(refuser.url)}, more=more) as gw:
            sending = asyncio.create_task(gw.post("/v1/chat/completions", chat(HAIKU)))
            await eventually(lambda: refuser.requests == 3)
            assert (await sending).status == 429
            (call,) = await gw.calls()
    assert (call["attempts"], [one["error"] for one in call["tried"]]) == (3, ["rate_limit"] * 3)
    assert call["duration_ms"] >= 2000


@pytest.mark.parametrize(("seconds", "resilience"), [(3, {"retry_after_seconds": 2}), (0, {}), (1, {})])
async def test_a_longer_retry_after_is_told_to_the_client(tmp_path, seconds, resilience):
    async with (
        refusing(429, seconds) as refuser,
        gate(tmp_path, {"b": bedrock(refuser.url)}, more=settings(**resilience)) as gw,
    ):
        reply = await gw.post("/v1/chat/completions", chat(HAIKU))
        assert (reply.status, refuser.requests) == (429, 1)


async def test_if_all_throttle_the_shortest_wait_is_told(tmp_path):
    async with refusing(429, 7) as first, refusing(429, 30) as second:
        providers = {"a": bedrock(first.url), "b": bedrock(second.url)}
        async with gate(tmp_path, providers) as gw:
            reply = await gw.post("/v1/chat/completions", chat(HAIKU))
            assert (reply.status, reply.headers["retry-after"]) == (429, "7")
            (call,) = await gw.calls()
    assert [one["error"] for one in call["tried"]] == ["rate_limit", "rate_limit"]


@pytest.mark.parametrize("order", [(503, 429), (429, 503)])
async def test_if_not_all_throttle_the_other_failure_is_told(tmp_path, order):
    async with refusing(order[0]) as first, refusing(order[1]) as second:
        providers = {"a": bedrock(first.url), "b": bedrock(second.url)}
        async with gate(tmp_path, providers) as gw:
            assert (await gw.post("/v1/chat/completions", chat(HAIKU))).status == 503


async def test_the_providers_own_bytes_are_those_of_the_last_attempt(tmp_path):
    """Check which error a Converse client gets after two failed attempts.

    If it is the error of the last attempt, and the provider uses Converse's format, it is passed on unchanged. The
    error of an earlier attempt is written anew in Converse's format.
    """
    own = b'{"message": "busy", "extra": 1}'
    body = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
    async with refusing(503, body=b'{"message": "first"}') as first, refusing(503, body=own) as second:
        providers = {id_: bedrock(one.url, flags=["bedrock_converse"]) for id_, one in (("a", first), ("b", second))}
        async with gate(tmp_path, providers) as gw:
            reply = await gw.post(f"/model/{HAIKU}/converse", body)
            assert (reply.status, await reply.read()) == (503, own)
    chats = {"cost_basis": None, "models": [HAIKU]}
    async with refusing(503, body=b'{"message": "first"}') as first, refusing(429, body=own) as second:
        providers = {
            "a": bedrock(first.url, flags=["openai_chat"], **chats),
            "b": bedrock(second.url, flags=["bedrock_converse"]),
        }
        async with gate(tmp_path, providers) as gw:
            reply = await gw.post(f"/model/{HAIKU}/converse", body)
            assert (reply.status, json.loads(await reply.read())["message"]) == (503, "first")


async def test_a_provider_that_refuses_a_loss_leaves_the_call_to_the_next(tmp_path, bedrock_sim):
    providers = {"strict": bedrock(bedrock_sim.url, on_loss="refuse"), "lenient": bedrock(bedrock_sim.url)}
    async with gate(tmp_path, providers) as gw:
        assert (await gw.post("/v1/chat/completions", chat(NOVA, seed=1))).status == 200
        (call,) = await gw.calls()
    assert ([one["provider"] for one in call["tried"]], call["attempts"]) == (["strict", "lenient"], 1)
    assert call["dropped"] == ["/seed"]


async def test_a_candidate_that_cannot_take_over_hides_no_failure(tmp_path, bedrock_sim):
    """Check that if the first provider fails, and the second does not accept a field of the request, the client gets
    the first provider's error.
    """
    async with refusing(503) as failing:
        providers = {
            "native": bedrock(failing.url, flags=["openai_chat"], cost_basis=None),
            "other": bedrock(bedrock_sim.url, flags=["bedrock_converse"]),
        }
        async with gate(tmp_path, providers) as gw:
            reply = await gw.post("/v1/chat/completions", chat(NOVA, n=2))
            assert (reply.status, "slow down" in await reply.text()) == (503, True)
            (call,) = await gw.calls()
    assert [(one["provider"], one["error"]) for one in call["tried"]] == [
        ("native", "overloaded"),
        ("other", "invalid_request"),
    ]


async def test_a_client_that_leaves_ends_the_attempts(tmp_path, bedrock_sim):
    bedrock_sim.default = replace(TEXT, delay=60)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, more=settings()) as gw:
        sending = asyncio.create_task(gw.post("/v1/chat/completions", chat(stream=True)))
        await eventually(lambda: bedrock_sim.requests)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        (call,) = await gw.calls()
    assert (call["outcome"], call["attempts"], call["tried"], len(bedrock_sim.requests)) == ("cancelled", 1, [], 1)


async def test_a_failed_attempt_is_closed_before_the_next_begins(tmp_path, bedrock_sim):
    """Check that before the next attempt begins, the failed attempt's connection is closed, and the attempt no longer
    counts as one of the provider's calls in flight.
    """
    silent = replace(TEXT, stall_after=0, stall_seconds=60)
    gated = scenarios.Gate()
    bedrock_sim.script(silent, replace(TEXT, gate=gated))
    more = settings()
    provider = bedrock(bedrock_sim.url, calls_in_flight=1, timeouts={"first_event_seconds": 0.2})
    async with gate(tmp_path, {"b": provider}, more=more) as gw:
        sending = asyncio.create_task(gw.post("/v1/chat/completions", chat(stream=True)))
        await eventually(lambda: len(bedrock_sim.requests) == 2)
        await eventually(bedrock_sim.requests[0].closed.is_set)
        value = gw.running.gateway.metrics.registry.get_sample_value
        assert value("irisgate_provider_calls_in_flight", {"provider": "b"}) == 1
        gated.let_pass(100)
        assert (await sending).status == 200
        (call,) = await gw.calls()
        assert value("irisgate_failovers_total", {"provider": "b", "code": "timeout"}) == 1
    assert [one["error"] for one in call["tried"]] == ["timeout", ""]


async def test_timeouts_of_a_provider_are_its_own(tmp_path, bedrock_sim):
    bedrock_sim.default = replace(TEXT, delay=60)
    providers = {"b": bedrock(bedrock_sim.url, timeouts={"head_seconds": 0.3})}
    async with gate(tmp_path, providers, more={"resilience": {"timeouts": {"head_seconds": 50}}}) as gw:
        async with asyncio.timeout(20):
            reply = await gw.post("/v1/chat/completions", chat(NOVA))
        assert (reply.status, "0.3 seconds" in await reply.text()) == (504, True)
