"""Tests of a gateway process that is killed while calls wait for the provider.

Each such call is recorded as lost, and charged once.
"""

import asyncio
import json
import os
import random
from contextlib import asynccontextmanager, suppress
from decimal import Decimal

import aiohttp
import pytest

from gateway.testkit.scenarios import NAMED
from tests.end_to_end.test_quotas import PRICE
from tests.helpers.gateway import CAP, EVERYTHING, HAIKU, bedrock
from tests.helpers.processes import served
from tests.helpers.waiting import eventually

KILLS = int(os.environ.get("IRISGATE_KILLS", "3"))
"""Number of times that a process is killed in each test."""
TOGETHER = 8
MAX_TOKENS = 1000
MOST = Decimal(MAX_TOKENS * 5_500 + 200 * 1_375) / 10**9
"""Maximum cost in dollars of one call in these tests: `MAX_TOKENS` output tokens, and 200 input tokens that are written
to a cache.
"""
BUDGET = 1000
PROVIDER = Decimal(PRICE) / 10**9
"""Dollars that the provider charges for one request."""
SIBLINGS = {
    "translated": ("/v1/chat/completions", lambda text, stream: {
        "model": HAIKU, "max_tokens": MAX_TOKENS, "stream": stream, "messages": [{"role": "user", "content": text}],
    }),
    "envelope": ("/v1/messages", lambda text, stream: {
        "model": HAIKU, "max_tokens": MAX_TOKENS, "stream": stream, "messages": [{"role": "user", "content": text}],
    }),
    "native": (f"/bedrock/model/{HAIKU}/converse", lambda text, stream: {
        "messages": [{"role": "user", "content": [{"text": text}]}], "inferenceConfig": {"maxTokens": MAX_TOKENS},
    }),
    "native, streamed": (f"/bedrock/model/{HAIKU}/converse-stream", lambda text, stream: {
        "messages": [{"role": "user", "content": [{"text": text}]}], "inferenceConfig": {"maxTokens": MAX_TOKENS},
    }),
}  # fmt: skip
KINDS = [(way, stream) for way in SIBLINGS for stream in ((False, True) if "native" not in way else (False,))]


def configuration(tmp_path, sim, capacity=f"{BUDGET}.00", **storage):
    path = tmp_path / "config.hujson"
    document = {
        "providers": {"b": bedrock(sim.url)},
        "grants": [*EVERYTHING, {"src": ["*"], "app": {CAP: [{"quotas": [{"bucket": "all"}]}]}}],
        "quotas": {"all": {"capacity": f"${capacity}", "rate": "$0.00/day"}},
        "storage": storage,
    }
    path.write_text(json.dumps(document))
    return path


@asynccontextmanager
async def gateway(tmp_path, config):
    arguments = ("serve", "--config", str(config), "--listen", "127.0.0.1:0", "--state", str(tmp_path / "state"))
    async with served(tmp_path, *arguments) as running:
        yield running


async def post(session, url, kind, number, *, hang):
    """Make a call whose session id is its number. If `hang` is true, the provider does not answer."""
    way, stream = kind
    path, body = SIBLINGS[way]
    text = f"[stall] {number}" if hang else f"hello {number}"
    with suppress(aiohttp.ClientError, asyncio.TimeoutError):
        async with session.post(url + path, json=body(text, stream), headers={"x-session-id": str(number)}) as reply:
            await reply.read()


async def load(url, numbers):
    """Make calls of all kinds until the gateway is killed. Every second call is never answered by the provider."""

    async def calling(session):
        for number in numbers:
            await post(session, url, KINDS[number % len(KINDS)], number, hang=number % 2 == 0)

    # a hanging call keeps its place until the gateway is killed, so there are more and more of them
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        await asyncio.gather(*(calling(session) for _ in range(TOGETHER)))


async def bucket(running):
    async with running.session.get(f"{running.url}/api/quotas") as reply:
        (level,) = (await reply.json())["quotas"]
    return Decimal(str(level["balance_usd"]))


def charged(calls):
    return sum(Decimal(str(call["charges_usd"].get("all", 0))) for call in calls)


async def killed(running):
    running.process.kill()
    await running.process.wait()


async def test_every_request_that_a_provider_saw_is_recorded_and_paid_for(tmp_path, bedrock_sim):
    """Check that after repeated kills of the gateway, each request that the provider received is recorded, and charged
    its cost or an estimate.
    """
    bedrock_sim.default = NAMED["text"]
    config = configuration(tmp_path, bedrock_sim)
    moments, numbers = random.Random(0), iter(range(10**6))
    for _ in range(KILLS):
        async with gateway(tmp_path, config) as running:
            loading = asyncio.create_task(load(running.url, numbers))
            await asyncio.sleep(moments.uniform(0.1, 0.8))
            await killed(running)
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
    async with gateway(tmp_path, config) as running:
        calls, balance = await running.stored(), await bucket(running)
    sent = [call for call in calls if call["attempts"]]
    lost = [call for call in calls if call["outcome"] == "lost"]
    assert len(lost) >= KILLS
    assert len({call["id"] for call in calls}) == len(calls)
    # each request at the provider has one record; a process may be killed after the line and before the first byte
    assert sessions_of(bedrock_sim) <= {call["session_id"] for call in sent}
    assert len(bedrock_sim.requests) <= len(sent) <= len(bedrock_sim.requests) + KILLS * TOGETHER
    assert balance == BUDGET - charged(calls)
    estimated = [call for call in sent if call["estimated"]]
    exact = [call for call in sent if not call["estimated"]]
    assert charged(exact) == PROVIDER * len(exact)
    assert PROVIDER * len(estimated) <= charged(estimated) <= MOST * len(estimated)
    assert all(call["cost_usd"] == call["charges_usd"]["all"] for call in sent)


def sessions_of(sim):
    """Return the session ids of the requests that the provider received. In these tests, each prompt contains the id of
    its session.
    """
    return {
        next(word for word in seen.body.decode().replace('"', " ").split() if word.isdigit()) for seen in sim.requests
    }


@pytest.mark.parametrize(("cents", "passing"), [(99, 2), (100, 1)])
async def test_a_killed_gateway_makes_no_budget_last_longer(tmp_path, bedrock_sim, cents, passing):
    """Check that a bucket of one dollar pays for `passing` calls of at most `cents` cents, although the gateway is
    killed during each call.

    A call may begin as long as the balance is positive, even if it could cost more.
    """
    bedrock_sim.default = NAMED["stall"]
    config = configuration(tmp_path, bedrock_sim, "1.00")
    body = {"model": HAIKU, "max_tokens": cents * 10**7 // 5_500, "messages": [{"role": "user", "content": "hello"}]}
    for number in range(max(passing + 1, min(KILLS, 6))):
        async with gateway(tmp_path, config) as running:
            calling = asyncio.create_task(running.session.post(f"{running.url}/v1/chat/completions", json=body))
            await eventually(
                lambda number=number, calling=calling: calling.done() or len(bedrock_sim.requests) > number
            )
            assert calling.done() == (number >= passing)
            await killed(running)
            await asyncio.gather(calling, return_exceptions=True)
    assert len(bedrock_sim.requests) == passing
