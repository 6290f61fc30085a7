"""Tests of calls whose client disconnects. They are recorded and charged like other calls, because the provider bills a
reply even if nobody reads it.

If the gateway reads the reply to its end, the charge is the reported usage.

Source: BerriAI/litellm#13245.
"""

import asyncio
import gc
import json
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

import pytest

from gateway.call.middleware.read_on import ReadOn
from gateway.process import call_path
from gateway.testkit import scenarios
from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.openai import OpenAISim
from tests.end_to_end.test_quotas import PRICE, TEXT, limited, quota
from tests.helpers.gateway import CAP, HAIKU, KEY, bedrock, gate
from tests.helpers.waiting import eventually

BUDGET = 10**9
ANSWERS = 0.5
"""Seconds after which the provider answers a request. The client disconnects earlier."""
HELLO = [{"role": "user", "content": "hello"}]
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
INVOKE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 10, "messages": HELLO}
WAYS = {
    "chat to converse": ("/v1/chat/completions", {"model": HAIKU, "messages": HELLO}, ["bedrock_converse"]),
    "chat to invoke": ("/v1/chat/completions", {"model": HAIKU, "messages": HELLO}, ["bedrock_model_invoke"]),
    "responses to converse": ("/v1/responses", {"model": HAIKU, "input": "hello"}, ["bedrock_converse"]),
    "messages to converse": (
        "/v1/messages", {"model": HAIKU, "max_tokens": 10, "messages": HELLO}, ["bedrock_converse"],
    ),
    "messages to invoke": (
        "/v1/messages", {"model": HAIKU, "max_tokens": 10, "messages": HELLO}, ["bedrock_model_invoke"],
    ),
    "native converse": (f"/model/{HAIKU}/converse", CONVERSE, ["bedrock_converse"]),
    "native invoke": (f"/model/{HAIKU}/invoke", INVOKE, ["bedrock_model_invoke"]),
    "invoke to converse": (f"/model/{HAIKU}/invoke", INVOKE, ["bedrock_converse"]),
    "converse to invoke": (f"/model/{HAIKU}/converse", CONVERSE, ["bedrock_model_invoke"]),
}  # fmt: skip
OTHERS = {
    "native messages": (AnthropicSim, "claude-opus-4-8", "anthropic_messages", "anthropic", "/v1/messages", {
        "max_tokens": 10, "messages": HELLO,
    }),
    "converse to messages": (
        AnthropicSim, "claude-opus-4-8", "anthropic_messages", "anthropic", "/model/claude-opus-4-8/converse", CONVERSE,
    ),
    "native chat": (OpenAISim, "gpt-4o", "openai_chat", "openai", "/v1/chat/completions", {"messages": HELLO}),
    "native responses": (OpenAISim, "gpt-4o", "openai_responses", "openai", "/v1/responses", {"input": "hello"}),
}  # fmt: skip
STREAMS = {
    "native converse": (f"/model/{HAIKU}/converse-stream", CONVERSE),
    "chat to converse": ("/v1/chat/completions", {"model": HAIKU, "messages": HELLO, "stream": True}),
    "messages to invoke": ("/v1/messages", {"model": HAIKU, "max_tokens": 10, "messages": HELLO, "stream": True}),
}


async def leave(gw, sim, path, body):
    """Make a call, and disconnect when the provider has received its request."""
    call = asyncio.create_task(gw.post(path, body))
    await eventually(lambda: sim.requests)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def leave_after(gw, path, body, seconds):
    """Make a call, and disconnect after `seconds` seconds."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await gw.post(path, body)


async def recorded(gw):
    """Wait for the record of the only call, and return it. Check that the charge equals the cost."""
    (record,) = await gw.calls()
    assert (record["status"], record["outcome"]) == (499, "cancelled")
    assert record["charges_usd"] == {"team": record["cost_usd"]}
    assert BUDGET - gw.book.level("team").balance == round(record["cost_usd"] * 10**9)
    assert gw.book.level("team").reserved == 0
    return record


async def test_a_failure_after_the_client_has_left_is_no_trouble_of_asyncio(tmp_path, bedrock_sim, caplog):
    bedrock_sim.default = replace(TEXT, delay=ANSWERS, error="InternalServerException")
    async with limited(tmp_path, bedrock_sim, quota(BUDGET)) as gw:
        await leave(gw, bedrock_sim, *WAYS["chat to converse"][:2])
        await gw.calls()
        gc.collect()
        await gw.log_is_written()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_whole_reply_that_nobody_waits_for_costs_what_is_reported(tmp_path, bedrock_sim, way):
    path, body, flags = WAYS[way]
    bedrock_sim.default = replace(TEXT, delay=ANSWERS)
    async with limited(tmp_path, bedrock_sim, quota(BUDGET), provider={"flags": flags}) as gw:
        await leave(gw, bedrock_sim, path, body)
        record = await recorded(gw)
    assert (record["cost_usd"], record["estimated"], record["reported"]) == (PRICE / 10**9, False, True)
    assert record["attempts"] == len(bedrock_sim.requests) == 1


@pytest.mark.parametrize("way", OTHERS)
async def test_other_providers_replies_are_read_on_too(tmp_path, way):
    sim_type, model, flag, basis, path, body = OTHERS[way]
    async with sim_type(keys={KEY}) as sim:
        sim.default = replace(TEXT, delay=ANSWERS)
        provider = {"models": [model], "flags": [flag], "cost_basis": basis}
        if sim_type is AnthropicSim:
            provider["authorization"] = "x-api-key"
        async with limited(tmp_path, sim, quota(BUDGET), provider=provider) as gw:
            await leave(gw, sim, path, {**body, "model": model} if "{" not in path and "/model/" not in path else body)
            record = await recorded(gw)
    assert (record["reported"], record["estimated"]) == (True, False)
    assert record["cost_usd"] > 0


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_that_its_client_leaves_costs_an_estimate(tmp_path, bedrock_sim, way):
    path, body = STREAMS[way]
    bedrock_sim.default = replace(TEXT, stall_after=2)
    async with limited(tmp_path, bedrock_sim, quota(BUDGET)) as gw:
        await leave_after(gw, path, body, 0.3)
        record = await recorded(gw)
        await eventually(bedrock_sim.requests[0].closed.is_set)
    assert record["estimated"] is True
    # InvokeModel reports the input with the first event
    assert record["cost_usd"] * 10**9 >= TEXT.reply.tokens.input * 1_100


async def test_a_stream_that_is_left_before_its_head_costs_an_estimate(tmp_path, bedrock_sim):
    bedrock_sim.default = replace(TEXT, delay=20)
    async with limited(tmp_path, bedrock_sim, quota(BUDGET)) as gw:
        await leave(gw, bedrock_sim, *STREAMS["chat to converse"])
        record = await recorded(gw)
        await eventually(bedrock_sim.requests[0].closed.is_set)
    assert (record["estimated"], record["cost_usd"] > 0) == (True, True)


async def test_a_reply_is_read_on_for_a_bounded_time(tmp_path, bedrock_sim, monkeypatch):
    """Check that after the client has disconnected, the gateway reads the provider's reply only for a limited time. The
    cost is then an estimate.
    """
    monkeypatch.setattr(call_path, "ReadOn", partial(ReadOn, seconds=0.2))
    bedrock_sim.default = replace(TEXT, delay=20)
    async with limited(tmp_path, bedrock_sim, quota(BUDGET)) as gw:
        await leave(gw, bedrock_sim, *WAYS["native converse"][:2])
        record = await recorded(gw)
        await eventually(bedrock_sim.requests[0].closed.is_set)
    assert record["estimated"] is True
    assert record["cost_usd"] * 10**9 >= len(json.dumps(CONVERSE)) // 3 * 1_100


@pytest.mark.parametrize(
    ("name", "cost"), [("ThrottlingException", 0), ("ValidationException", 0), ("ServiceUnavailableException", 0)]
)
async def test_a_refusal_that_nobody_waits_for_costs_nothing(tmp_path, bedrock_sim, name, cost):
    bedrock_sim.default = replace(scenarios.error(name), delay=ANSWERS)
    async with limited(tmp_path, bedrock_sim, quota(BUDGET)) as gw:
        await leave(gw, bedrock_sim, *WAYS["chat to converse"][:2])
        (record,) = await gw.calls()
        assert (record["outcome"], record["cost_usd"], record["charges_usd"]) == ("cancelled", cost, {})
        assert gw.book.level("team").balance == BUDGET


async def test_a_call_that_is_left_is_not_tried_again(tmp_path, bedrock_sim):
    """Check that no second attempt is made if the client has disconnected.

    The provider has refused a beta. For a connected client, the gateway would repeat the request without the beta.
    """
    refused = scenarios.error("ValidationException", "invalid beta flag")
    bedrock_sim.script(replace(refused, delay=ANSWERS))
    async with limited(tmp_path, bedrock_sim, quota(BUDGET), provider={"flags": ["bedrock_model_invoke"]}) as gw:
        body = {**INVOKE, "anthropic_beta": ["context-1m-2025-08-07"]}
        await leave(gw, bedrock_sim, f"/model/{HAIKU}/invoke", body)
        (record,) = await gw.calls()
        assert (record["attempts"], record["cost_usd"]) == (1, 0)
    assert len(bedrock_sim.requests) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_client_that_closes_its_sending_half_has_left(tmp_path, bedrock_sim, stream):
    """Check that a client that closes only its sending side is treated like one that disconnects, with the same record
    and charge.
    """
    bedrock_sim.default = replace(TEXT, delay=ANSWERS)
    body = json.dumps({"model": HAIKU, "messages": HELLO, "stream": stream}).encode()
    async with limited(tmp_path, bedrock_sim, quota(BUDGET)) as gw:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gw.url.rpartition(":")[2]))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await eventually(lambda: len(bedrock_sim.requests))
        writer.write_eof()
        record = await recorded(gw)
        assert await reader.read() == b""
        writer.close()
    assert record["estimated"] is stream
    assert stream or record["cost_usd"] == PRICE / 10**9


@contextmanager
def full_port():
    """Yield a port of a listening socket whose queue is full, so that further connections hang."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_a_call_that_is_left_before_it_is_sent_costs_nothing(tmp_path):
    """Check that a client that disconnects while the gateway connects to the provider is charged nothing."""
    quotas = {"team": {"capacity": "$1.00", "rate": "$0.00/day"}}
    grants = [{"src": ["*"], "app": {CAP: [{"role": "user"}, {"models": "**", "quotas": [{"bucket": "team"}]}]}}]
    with full_port() as port:
        provider = {"b": bedrock(f"http://127.0.0.1:{port}")}
        async with gate(tmp_path, provider, grants=grants, more={"quotas": quotas}) as gw:
            await leave_after(gw, *WAYS["native converse"][:2], 0.3)
            (record,) = await gw.calls()
            assert (record["outcome"], record["cost_usd"], record["attempts"]) == ("cancelled", 0, 0)
            assert gw.running.gateway.quotas.level("team").balance == BUDGET


async def test_a_server_without_prices_is_left_at_once(tmp_path):
    """Check that if the model has no price, the connection to the provider is closed as soon as the client has
    disconnected.

    A local model server can then stop generating.
    """
    async with OpenAISim(keys={KEY}) as sim:
        sim.default = replace(TEXT, delay=20)
        provider = bedrock(sim.url, models=["my-own"], flags=["openai_chat"])
        provider.pop("cost_basis")
        async with gate(tmp_path, {"o": provider}) as gw:
            await leave(gw, sim, "/v1/chat/completions", {"model": "my-own", "messages": HELLO})
            (record,) = await gw.calls()
            await eventually(sim.requests[0].closed.is_set)
    assert (record["outcome"], record["cost_usd"]) == ("cancelled", None)


async def test_a_gateway_that_stops_waits_for_no_reply_that_nobody_reads(tmp_path, bedrock_sim):
    """Check that a gateway that stops does not wait for a reply whose client has disconnected.

    The call is recorded, and its charge is an estimate.
    """
    bedrock_sim.default = replace(TEXT, delay=60)
    async with limited(tmp_path, bedrock_sim, quota(BUDGET)) as gw:
        await leave(gw, bedrock_sim, *WAYS["native converse"][:2])
        gateway = gw.running.gateway
        await eventually(lambda: gateway.open_calls)
        for task in list(gateway.open_calls):
            task.cancel()
        record = await recorded(gw)
        assert record["estimated"] is True
