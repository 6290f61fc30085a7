"""Tests of attempts to evade charges: output that is not reported, output limits that the provider does not apply, and
quotas that are removed and added again.

The expected amounts are computed from the price list by hand. The provider is simulated.
"""

import asyncio
import json
from dataclasses import replace

import pytest

from gateway.testkit import scenarios
from gateway.testkit.openai import OpenAISim
from gateway.testkit.scenarios import Canned, Gate, Tokens, Tool
from tests.end_to_end.test_quotas import CHAT, CONVERSE, HAIKU, INVOKE, PRICE, TEXT, balance, limited, quota, settled
from tests.helpers.gateway import CAP, KEY, NOVA, bedrock, gate
from tests.helpers.waiting import eventually

ENOUGH = 10**9
OUT = 5_500
"""Nanodollars for an output token of Haiku in the US."""
ARGUMENTS = {"text": "word " * 600}
STREAMS = {
    "chat": ("/v1/chat/completions", {**CHAT[1], "max_tokens": 4000, "stream": True}),
    "messages": ("/v1/messages", {**CHAT[1], "max_tokens": 4000, "stream": True}),
    "converse": (
        f"/bedrock/model/{HAIKU}/converse-stream", {**CONVERSE[1], "inferenceConfig": {"maxTokens": 4000}},
    ),
    "invoke": (f"/bedrock/model/{HAIKU}/invoke-with-response-stream", {**INVOKE[1], "max_tokens": 4000}),
}  # fmt: skip
streams = pytest.mark.parametrize(("path", "body"), STREAMS.values(), ids=STREAMS)
WRITES = {
    "text": Canned(text=tuple(["word " * 100] * 6), tokens=Tokens(input=12, output=750)),
    "arguments": Canned(tools=(Tool("look", ARGUMENTS),), tokens=Tokens(input=12, output=750)),
    "thinking": Canned(thinking="word " * 600, text=("a",), tokens=Tokens(input=12, output=750)),
}


async def left(gw, path, body, *, wait=0.3):
    """Make a call, and read its reply. Disconnect after `wait` seconds if the reply is not complete by then."""
    async with gw.session.post(gw.url + path, json=body) as reply:
        try:
            async with asyncio.timeout(wait):
                return await reply.read()
        except TimeoutError:
            return b""


@streams
@pytest.mark.parametrize("kind", WRITES)
async def test_leaving_before_the_usage_report_is_not_free(tmp_path, bedrock_sim, path, body, kind):
    """Check that a client that disconnects between the text and the usage report pays for the delivered text."""
    # as many events as leave out the last ones, in which usage is reported
    for before_end in range(1, 4):
        state = tmp_path / str(before_end)
        state.mkdir()
        charge = 750 // 2 * OUT
        async with limited(state, bedrock_sim, quota(ENOUGH)) as gw:
            frames = await count_of_frames(gw, bedrock_sim, WRITES[kind], path, body)
            before = balance(gw)
            bedrock_sim.script(scenarios.Scenario(WRITES[kind], stall_after=frames - before_end))
            await left(gw, path, body)
            await settled(gw, 2)
            record = max(await gw.calls(2), key=lambda record: record["at"])
            assert (record["outcome"], record["estimated"]) in {("cancelled", True), ("cancelled", False)}
            assert before - balance(gw) >= charge
            assert record["cost_usd"] * 10**9 >= charge


async def count_of_frames(gw, sim, reply, path, body):
    """Make a call, and return the number of frames in which the simulated provider sends its reply."""
    passed = Counting()
    sim.script(scenarios.Scenario(reply, gate=passed))
    await gw.post(path, body)
    return passed.events + 1


class Counting(Gate):
    events = 0

    async def wait(self):
        self.events += 1


SILENT = [
    ({"prompt_tokens": 1000}, 1000),
    ({"prompt_tokens": 1000, "completion_tokens": None}, 1000),
    ({"prompt_tokens": 1000, "completion_tokens": 0}, 1000),
    ({"prompt_tokens": 1000, "completion_tokens": -5}, 1000),
    ({"prompt_tokens": 0, "completion_tokens": 0}, None),
    ({}, None),
    (None, None),
]


@pytest.mark.parametrize(("usage", "tokens"), SILENT)
async def test_uncounted_output_costs_an_estimate_of_the_delivered(tmp_path, usage, tokens):
    """Check that if a usage report has no output count, the output is estimated from the delivered text, and the call
    is marked as estimated.
    """
    text = "word " * 600
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": usage},
    ]
    data = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    async with OpenAISim(keys={KEY}) as sim:
        sim.script(scenarios.raw(data, "text/event-stream"))
        provider = bedrock(sim.url, models=["gpt-4o"], flags=["openai_chat"], cost_basis="openai")
        async with gate(tmp_path, {"p": provider}) as gw:
            await gw.post("/v1/chat/completions", {**CHAT[1], "model": "gpt-4o", "stream": True})
            (record,) = await gw.calls()
            charge = tokens or len(json.dumps({**CHAT[1], "model": "gpt-4o", "stream": True})) // 3
    assert record["estimated"] is True
    assert round(record["cost_usd"] * 10**9) == charge * 2_500 + len(text) // 3 * 10_000


CONVERSED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
    "stopReason": "end_turn",
    "metrics": {"latencyMs": 1},
}


@pytest.mark.parametrize(
    ("model", "report", "charged"),
    [
        # a tier that has no price is charged as the standard one, by what was reported
        (HAIKU, {"usage": {"inputTokens": 12, "outputTokens": 7}, "serviceTier": {"type": "reserved"}}, PRICE),
        # tokens of a kind that has no price are charged as plain input
        (NOVA, {"usage": {"inputTokens": 10, "outputTokens": 5, "cacheWriteInputTokens": 90}}, 100 * 60 + 5 * 240),
    ],
)
async def test_an_unpriced_call_is_charged_by_its_report(tmp_path, bedrock_sim, model, report, charged):
    """Check that if a price is missing, the charge depends on the reported usage, and is less than the reserved amount."""
    # what takes its time is no longer for that
    bedrock_sim.script(replace(scenarios.raw(json.dumps({**CONVERSED, **report}).encode()), delay=0.3))
    async with limited(tmp_path, bedrock_sim, quota(ENOUGH)) as gw:
        body = {**CONVERSE[1], "inferenceConfig": {"maxTokens": 4000}}
        assert (await gw.post(f"/bedrock/model/{model}/converse", body)).status == 200
        await settled(gw)
        (record,) = await gw.calls()
        assert (record["cost_usd"], ENOUGH - balance(gw)) == (None, charged)


async def test_a_price_that_says_only_a_part_pays_for_no_call_under_a_quota(tmp_path, bedrock_sim):
    (tmp_path / "prices.hujson").write_text(
        json.dumps({"rows": [{"book": "bedrock", "geo": "us", "model": HAIKU.removeprefix("us."), "input": "1"}]})
    )
    grants = [{"src": ["*"], "app": {CAP: [{"role": "user"}, {"models": "**", "quotas": [{"bucket": "team"}]}]}}]
    more = {"quotas": quota(ENOUGH), "prices": str(tmp_path / "prices.hujson")}
    async with gate(tmp_path, {"bedrock": bedrock(bedrock_sim.url)}, grants=grants, more=more) as gw:
        reply = await gw.post(*CHAT)
        assert (reply.status, bedrock_sim.requests) == (429, [])


@pytest.mark.parametrize("lie", [{}, {"max_output_tokens": 1}, {"n": 1}, {"max_tokens": None}])
async def test_a_call_without_a_limit_that_counts_holds_what_a_model_can_write(tmp_path, bedrock_sim, lie):
    bedrock_sim.default = replace(TEXT, gate=(held := Gate()))
    body = {"model": HAIKU, "messages": CHAT[1]["messages"], "stream": True, **lie}
    async with (
        limited(tmp_path, bedrock_sim, quota(ENOUGH)) as gw,
        gw.session.post(gw.url + CHAT[0], json=body) as reply,
    ):
        assert reply.status == 200
        (level,) = gw.book.levels()
        assert level.reserved >= 64_000 * OUT
        held.let_pass(20)
        await reply.read()


async def test_a_quota_that_is_taken_out_and_put_back_is_not_full_again(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, quota(3 * PRICE)) as gw:
        assert [(await gw.post(*CHAT)).status for _ in range(2)] == [200, 200]
        quotas = gw.running.gateway.runtime.config.quotas
        gw.book.configured({})
        gw.book.configured(quotas)
        assert balance(gw) == PRICE
    async with limited(tmp_path, bedrock_sim, {}) as gw:
        gw.book.configured(quotas)
        assert balance(gw) == PRICE


@pytest.mark.parametrize("amount", [-1, 1e400, "NaN", "$NaN", "$1e9", "$-0", "$1000000000", "$٣", "$1\n", ["$1"], True])
async def test_a_refill_takes_nothing_that_is_no_sum(tmp_path, bedrock_sim, amount):
    async with limited(tmp_path, bedrock_sim, quota(2 * PRICE)) as gw:
        gw.url = gw.admin
        body = json.dumps({"bucket": "team", "amount": amount}).encode()
        reply = await gw.post("/api/quotas/refill", body, headers={"content-type": "application/json"})
        assert (reply.status, balance(gw)) == (400, 2 * PRICE)


async def test_leaving_early_pays_for_the_time_of_hidden_thinking(tmp_path):
    """Check that a client that disconnects before the usage report pays for hidden thinking, whose tokens are estimated
    from the duration of the call.
    """
    seconds = 0.6
    held = scenarios.Scenario(Canned(text=("a",)), delay=seconds, stall_after=3)
    grants = [{"src": ["*"], "app": {CAP: [{"role": "user"}, {"models": "**", "quotas": [{"bucket": "team"}]}]}}]
    async with OpenAISim(keys={KEY}) as sim:
        sim.script(held)
        provider = bedrock(sim.url, models=["gpt-4o"], flags=["openai_chat"], cost_basis="openai")
        async with gate(tmp_path, {"p": provider}, grants=grants, more={"quotas": quota(ENOUGH)}) as gw:
            gw.book = gw.running.gateway.quotas
            body = {**CHAT[1], "model": "gpt-4o", "max_tokens": 4000, "stream": True}
            await left(gw, CHAT[0], body, wait=seconds + 0.3)
            await settled(gw)
            assert ENOUGH - balance(gw) >= int(seconds * 100) * 10_000


@pytest.mark.parametrize("flags", [("bedrock_model_invoke",), ("bedrock_model_invoke", "bedrock_converse")])
async def test_counting_tokens_is_recorded_as_free(tmp_path, bedrock_sim, flags):
    async with limited(tmp_path, bedrock_sim, quota(ENOUGH), provider={"flags": flags}) as gw:
        body = {"model": HAIKU, "messages": CHAT[1]["messages"]}
        assert (await gw.post("/v1/messages/count_tokens", body)).status == 200
        (record,) = await gw.calls()
        assert (record["cost_usd"], record["estimated"], balance(gw)) == (0, False, ENOUGH)


MARKED = ";base64," + "A1b2" * 10_000
MARKED_TEXTS = [
    (*STREAMS["chat"], {"messages": [{"role": "user", "content": [{"type": "text", "text": MARKED}]}]}),
    (*STREAMS["messages"], {"messages": [{"role": "user", "content": [{"type": "text", "text": MARKED}]}]}),
    ("/v1/responses", {"model": HAIKU, "max_output_tokens": 16, "stream": True}, {"input": MARKED}),
    (*STREAMS["converse"], {"messages": [{"role": "user", "content": [{"text": MARKED}]}]}),
]


@pytest.mark.parametrize(("path", "body", "marked"), MARKED_TEXTS)
async def test_a_mark_of_base64_in_a_text_makes_no_reservation_smaller(tmp_path, bedrock_sim, path, body, marked):
    bedrock_sim.default = replace(TEXT, gate=(held := Gate()))
    async with limited(tmp_path, bedrock_sim, quota(ENOUGH)) as gw:
        call = asyncio.create_task(gw.post(path, {**body, **marked}))
        reserved = await eventually(lambda: sum(level.reserved for level in gw.book.levels()))
        assert reserved >= len(MARKED) * 3 // 4 * 1_100
        held.let_pass(20)
        assert (await call).status == 200
