"""Tests of the charges for calls that take several attempts: each attempt is charged at its own price to its own
quotas.
"""

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from gateway.call.write_ahead import charge_lost
from gateway.money.quotas.book import Quotas
from gateway.testkit import scenarios
from gateway.testkit.bedrock import BedrockSim
from tests.helpers.gateway import CAP, HAIKU, NOVA, SONNET, bedrock, gate
from tests.helpers.waiting import eventually

TARGETS = {"a": SONNET, "b": HAIKU, "c": NOVA}
"""The model of each provider. Their prices differ."""
CAPACITY = 10**12
"""Nanodollars in each quota."""
TEXT = scenarios.NAMED["text"]
REFUSED = scenarios.error("ThrottlingException")
CUT = replace(TEXT, cut_at=1)
"""A reply that is cut off before its first event. The provider may charge for it."""
GRANTS = [
    {
        "src": ["*"],
        "app": {
            CAP: [
                {"role": "admin"},
                {"models": "**", "quotas": [{"bucket": "all"}]},
                *({"models": f"{id_}/**", "quotas": [{"bucket": f"of-{id_}"}]} for id_ in TARGETS),
            ]
        },
    }
]


@asynccontextmanager
async def gateway(state, **resilience):
    """Run a gateway with an alias that has a target at each of three providers. Yield the gateway, and the simulated
    providers by their ids.
    """
    async with AsyncExitStack() as stack:
        sims = {id_: await stack.enter_async_context(BedrockSim()) for id_ in TARGETS}
        providers = {id_: bedrock(sims[id_].url, models=[model]) for id_, model in TARGETS.items()}
        more = {
            "model_aliases": {"models": {"any": {"dst": [f"{id_}/{model}" for id_, model in TARGETS.items()]}}},
            "quotas": {
                name: {"capacity": f"${CAPACITY // 10**9}"} for name in ("all", *(f"of-{id_}" for id_ in TARGETS))
            },
            "resilience": {"retry_budget": 1, "sticky_seconds": 0, "circuit_breaker": {"enabled": False}, **resilience},
        }
        yield await stack.enter_async_context(gate(state, providers, grants=GRANTS, more=more)), sims


def chat(*, stream):
    body = {"model": "any", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}], "stream": stream}
    return body | ({"stream_options": {"include_usage": True}} if stream else {})


def nano(dollars):
    return round(dollars * 10**9)


async def test_quotas_and_records_agree_over_any_failures(tmp_path):
    """Check the costs after calls with random failures at three providers. A call's cost is the sum of its attempts'
    costs, and each provider's quota is charged the costs of the attempts at this provider.
    """
    draw = random.Random(16)
    spent = Counter()
    async with gateway(tmp_path) as (gw, sims):
        for number in range(60):
            for sim in sims.values():
                sim.default = draw.choices((TEXT, REFUSED, CUT), weights=(3, 2, 2))[0]
            before = {id_: len(sim.requests) for id_, sim in sims.items()}
            await (await gw.post("/v1/chat/completions", chat(stream=number % 2 == 0))).read()
            record = (await gw.calls(number + 1))[-1]
            asked = [id_ for id_, sim in sims.items() for _ in range(len(sim.requests) - before[id_])]
            tried = record["tried"] or [{**record, "error": record["error"]}]
            assert [one["provider"] for one in tried] == asked
            assert record["attempts"] == len(asked)
            assert nano(record["cost_usd"]) == sum(nano(one["cost_usd"]) for one in tried)
            assert (record["provider"], record["model"]) == (asked[-1], TARGETS[asked[-1]])
            expected = Counter()
            for one in tried:
                expected[f"of-{one['provider']}"] += nano(one["cost_usd"])
                expected["all"] += nano(one["cost_usd"])
            assert {name: nano(usd) for name, usd in record["charges_usd"].items()} == +expected
            spent += expected
        quotas = gw.running.gateway.quotas
        assert {name: CAPACITY - quotas.level(name).balance for name in spent} == spent
        assert [level for level in quotas.levels() if level.reserved] == []
        await gw.running.gateway.follower.flush()
        stored = [await gw.running.gateway.store.call(None, call["id"]) for call in await gw.calls(60)]
        assert [one.as_dict()["tried"] for one in stored] == [call["tried"] for call in await gw.calls(60)]
    assert sum(len(call["tried"]) > 1 for call in await gw.calls(60)) > 20
    assert {one["estimated"] for call in await gw.calls(60) for one in call["tried"]} == {True, False}


async def sent_call(gw, waits):
    """Make a call that the simulated provider `waits` does not answer. Return the store's entry of this open call. Then
    cancel the call.
    """
    waits.default = replace(TEXT, delay=60)
    sending = asyncio.create_task(gw.post("/v1/chat/completions", chat(stream=True)))
    await eventually(lambda: waits.requests)
    await gw.running.gateway.follower.flush()
    (sent,) = await gw.running.gateway.store.open_calls()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    return sent


async def test_the_journal_has_the_cost_of_all_attempts_before_the_last_is_sent(tmp_path):
    """Check that the entry of an open call contains the costs of both its attempts: the failed one, and the one that is
    in flight.

    If the process is killed, each attempt is charged to the quotas of its own provider.
    """
    async with gateway(tmp_path) as (gw, sims):
        sims["a"].default = CUT
        sent = await sent_call(gw, sims["b"])
        assert (sent.provider, sent.model, len(sent.parts)) == ("b", HAIKU, 2)
        assert sent.cost == sum(part.cost for part in sent.parts)
        assert all(part.cost > 0 for part in sent.parts)
        quotas = Quotas()
        quotas.configured(gw.running.gateway.runtime.config.quotas)
        record, charges = charge_lost(sent, quotas)
        first, last = (part.cost for part in sent.parts)
        assert {charge.bucket: charge.amount for charge in charges} == {
            "all": first + last,
            "of-a": first,
            "of-b": last,
        }
        assert (record.cost, record.attempts, record.outcome) == (sent.cost, 2, "lost")


async def test_an_attempt_that_cost_nothing_is_not_in_the_line_of_the_journal(tmp_path):
    async with gateway(tmp_path) as (gw, sims):
        sims["a"].default = REFUSED
        sent = await sent_call(gw, sims["b"])
        assert [bucket for chain in sent.parts[0].chains for bucket, _ in chain] == ["all", "of-b"]
        assert len(sent.parts) == 1


async def test_a_target_without_money_is_not_tried(tmp_path):
    async with gateway(tmp_path) as (gw, sims):
        sims["a"].default = REFUSED
        quotas = gw.running.gateway.quotas
        quotas.refill("of-b", -CAPACITY)
        assert (await gw.post("/v1/chat/completions", chat(stream=False))).status == 200
        assert [one["provider"] for one in (await gw.calls())[0]["tried"]] == ["a", "c"]
        assert sims["b"].requests == []
