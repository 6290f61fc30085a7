"""The health of providers in a running gateway: circuits open, calls go elsewhere, and people can see why."""

from __future__ import annotations

from pathlib import Path

from gateway.testkit.bedrock import BedrockSim
from tests.helpers.gateway import HAIKU, bedrock, gate

CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}]}
NOWHERE = "http://127.0.0.1:9"


async def test_a_provider_that_is_down_is_tried_five_times_and_rests(tmp_path: Path, bedrock_sim: BedrockSim) -> None:
    providers = {"down": bedrock(NOWHERE, preference=1), "up": bedrock(bedrock_sim.url)}
    async with gate(tmp_path, providers) as gw:
        for _ in range(20):
            assert (await gw.post("/v1/chat/completions", CHAT)).status == 200
        (opened,) = await gw.lines.until("circuit.opened")
        metrics = await (await gw.get("/metrics")).text()
    assert gw.lines.count("upstream.unreachable") == 5
    assert (opened["provider"], opened["model"], opened["cause"], opened["failures"]) == ("down", HAIKU, "failures", 5)
    state = f'irisgate_circuit_state{{model="{HAIKU}",provider="%s",state="%s"}} %s'
    assert state % ("down", "open", "1.0") in metrics
    assert state % ("up", "closed", "1.0") in metrics
    assert 'irisgate_circuit_openings_total{cause="failures",provider="down"} 1.0' in metrics


async def test_a_single_provider_that_is_down_is_tried_all_the_same(tmp_path: Path) -> None:
    async with gate(tmp_path, {"down": bedrock(NOWHERE)}) as gw:
        for _ in range(10):
            assert (await gw.post("/v1/chat/completions", CHAT)).status == 503
        await gw.lines.until("upstream.unreachable", 10)


async def test_with_the_breaker_off_a_provider_that_is_down_is_tried_each_time(
    tmp_path: Path, bedrock_sim: BedrockSim
) -> None:
    off = {"circuit_breaker": {"enabled": False}}
    providers = {"down": bedrock(NOWHERE, preference=1), "up": bedrock(bedrock_sim.url)}
    async with gate(tmp_path, providers, more={"resilience": off}) as gw:
        for _ in range(20):
            assert (await gw.post("/v1/chat/completions", CHAT)).status == 200
        await gw.lines.until("upstream.unreachable", 20)
