"""Attacks on money around real calls: output that nobody reports, limits that lie, quotas that come and go.

What each bucket and record must come to is said in literals of the price list; the upstream is a simulated one.
"""

import asyncio
import json
from dataclasses import replace

import pytest

from gateway.testkit import scenario as scenarios
from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.openai import OpenAISim
from gateway.testkit.scenario import Canned, Gate, Tokens, Tool
from tests.end_to_end.test_quotas import CHAT, CONVERSE, HAIKU, INVOKE, PRICE, TEXT, balance, limited, quota, settled
from tests.gates import CAP, KEY, NOVA, bedrock, gate

ENOUGH = 10**9
OUT = 5_500
"""Nanodollars of a token of Haiku's output in the us."""
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
    """Read what comes, and leave when nothing more does."""
    async with gw.session.post(gw.url + path, json=body) as reply:
        try:
            async with asyncio.timeout(wait):
                return await reply.read()
        except TimeoutError:
            return b""


@streams
@pytest.mark.parametrize("kind", WRITES)
async def test_who_leaves_when_all_is_written_and_nothing_reported_has_had_nothing_for_free(
    tmp_path, bedrock_sim, path, body, kind
):
    # as many events as leave out the last ones, in which usage is reported
    for before_end in range(1, 4):
        state = tmp_path / str(before_end)
        state.mkdir()
        told = 750 // 2 * OUT
        async with limited(state, bedrock_sim, quota(ENOUGH)) as gw:
            frames = await count_of_frames(gw, bedrock_sim, WRITES[kind], path, body)
            before = balance(gw)
            bedrock_sim.script(scenarios.Scenario(WRITES[kind], stall_after=frames - before_end))
            await left(gw, path, body)
            await settled(gw, 2)
            record = max(await gw.calls(2), key=lambda record: record["at"])
            assert (record["outcome"], record["estimated"]) in {("cancelled", True), ("cancelled", False)}
            assert before - balance(gw) >= told
            assert record["cost_usd"] * 10**9 >= told


async def count_of_frames(gw, sim, reply, path, body):
    """Of the reply on this road: each event passes a gate by itself."""
    passed = Counting()
    sim.script(scenarios.Scenario(reply, gate=passed))
    await gw.post(path, body)
    return passed.events + 1


class Counting(Gate):
    events = 0

    async def wait(self):
        self.events += 1
