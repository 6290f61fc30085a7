"""Tests of the cost of a reply that was cut off before the usage report. The cost is an estimate, with the prices of
the service tier that the reply named.
"""

import json

import pytest

from gateway.testkit import scenarios
from gateway.testkit.openai import OpenAISim
from tests.end_to_end.test_quotas import CHAT
from tests.helpers.gateway import KEY, bedrock, gate

TEXT = "word " * 600
BODY = {**CHAT[1], "model": "gpt-5", "stream": True}
INPUT, OUTPUT = 1_250, 10_000
"""Nanodollars for an input token and for an output token of gpt-5 in the standard tier."""


@pytest.mark.parametrize(
    ("tier", "times"),
    [("default", 1), ("priority", 2), ("flex", 0.5), ("scale", 1), ("a tier of next year", 1)],
)
async def test_a_cut_reply_has_its_tiers_or_the_standard_price(tmp_path, tier, times):
    """Check that a truncated reply is charged at the price of its service tier, or at the standard price if the tier
    has no price.
    """
    chunk = {"choices": [{"index": 0, "delta": {"content": TEXT}, "finish_reason": None}], "service_tier": tier}
    async with OpenAISim(keys={KEY}) as sim:
        sim.script(scenarios.raw(b"data: " + json.dumps(chunk).encode() + b"\n\n", "text/event-stream"))
        provider = bedrock(sim.url, models=["gpt-5"], flags=["openai_chat"], cost_basis="openai")
        async with gate(tmp_path, {"p": provider}) as gw:
            await gw.post("/v1/chat/completions", BODY)
            (record,) = await gw.calls()
    assert (record["outcome"], record["estimated"], record["tier"]) == ("failed", True, tier)
    tokens = len(json.dumps(BODY)) // 3, len(TEXT) // 3
    assert round(record["cost_usd"] * 10**9) == (tokens[0] * INPUT + tokens[1] * OUTPUT) * times
