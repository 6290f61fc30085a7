"""Tests of the health of providers in a running gateway: circuits open, calls go to other providers, and pages show
why.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest

from gateway.testkit import scenarios
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.scenarios import Scenario
from tests.helpers.gateway import HAIKU, KEY, Gate, bedrock, gate

QUICK = {"window_seconds": 2, "open_seconds": 0.3, "slow_start_seconds": 0.5}
DRAWN = {
    ("closed", "opened"),
    ("opened", "half_open"),
    ("half_open", "opened"),
    ("half_open", "slow_start"),
    ("slow_start", "opened"),
    ("slow_start", "closed"),
}
"""The possible changes of a circuit's state, as pairs of the old and the new state. They are the arrows of the diagram
in `deploy/README.md`.
"""
CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}]}
NOWHERE = "http://127.0.0.1:9"


async def ask(gw: Gate) -> int:
    """Make a call in a session of its own, because a session stays at its provider. Return the reply's status."""
    reply = await gw.post("/v1/chat/completions", CHAT, headers={"x-session-id": uuid4().hex})
    return reply.status


async def test_a_provider_that_is_down_is_tried_five_times_and_rests(tmp_path: Path, bedrock_sim: BedrockSim) -> None:
    providers = {"down": bedrock(NOWHERE, preference=1), "up": bedrock(bedrock_sim.url)}
    async with gate(tmp_path, providers) as gw:
        for _ in range(20):
            assert await ask(gw) == 200
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
            assert await ask(gw) == 200
        await gw.lines.until("upstream.unreachable", 20)


@pytest.mark.parametrize("reply", [replace(scenarios.NAMED["long"], cut_at=9000), scenarios.NAMED["error_in_stream"]])
async def test_streams_that_break_off_open_the_circuit(
    tmp_path: Path, bedrock_sim: BedrockSim, reply: Scenario
) -> None:
    bedrock_sim.default = reply
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        for _ in range(3):
            await (await gw.post("/v1/chat/completions", {**CHAT, "stream": True})).read()
        (opened,) = await gw.lines.until("circuit.opened")
    assert (opened["calls"], opened["failures"]) == (6, 3)


@pytest.mark.parametrize(
    ("reply", "opens"),
    [
        (scenarios.raw(b'{"message": "no such tool"}', status=400), False),
        (scenarios.raw(b'{"message": "no such model"}', status=404), False),
        (scenarios.NAMED["throttle"], False),
        (scenarios.NAMED["error"], True),
    ],
)
async def test_only_failures_of_the_provider_open_the_circuit(
    tmp_path: Path, bedrock_sim: BedrockSim, reply: Scenario, *, opens: bool
) -> None:
    bedrock_sim.default = reply
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        for _ in range(10):
            assert (await gw.post("/v1/chat/completions", CHAT)).status >= 400
        await gw.log_is_written()
    assert gw.lines.count("circuit.opened") == opens


async def test_a_session_stays_where_a_failover_took_it(tmp_path: Path, bedrock_sim: BedrockSim) -> None:
    async with BedrockSim(keys={KEY}) as flaky:
        providers = {"flaky": bedrock(flaky.url, preference=1), "steady": bedrock(bedrock_sim.url)}
        flaky.script(scenarios.NAMED["error"])
        async with gate(tmp_path, providers) as gw:
            for session in ("moved", "moved", "new", "moved"):
                reply = await gw.post("/v1/chat/completions", CHAT, headers={"x-session-id": session})
                assert reply.status == 200
            calls = await gw.calls(4)
    assert [call["provider"] for call in calls] == ["steady", "steady", "flaky", "steady"]


class Flapping:
    """A gateway with two providers of the same model. The provider `flaky` fails at times."""

    def __init__(self, gw: Gate, flaky: BedrockSim) -> None:
        self.gw = gw
        self.flaky = flaky

    async def calls(self, number: int) -> int:
        """Make `number` calls one after the other, and check that all are served. Return how many requests the flaky
        provider got.
        """
        before = len(self.flaky.requests)
        for _ in range(number):
            assert await ask(self.gw) == 200
        return len(self.flaky.requests) - before

    async def until(self, event: str, count: int) -> None:
        """Make calls until the log has at least `count` lines of the event."""
        async with asyncio.timeout(60):
            while self.gw.lines.count(event) < count:
                await self.calls(1)
                await self.gw.log_is_written()

    def changes(self) -> set[tuple[str, str]]:
        """Return the pairs of consecutive states of a circuit, as the log shows them."""
        events = [json.loads(line)["event"] for line in self.gw.lines.data.splitlines()]
        states = ["closed", *(event.removeprefix("circuit.") for event in events if event.startswith("circuit."))]
        return set(pairwise(states))


async def test_a_flapping_provider_opens_and_closes_as_drawn(tmp_path: Path, bedrock_sim: BedrockSim) -> None:
    async with BedrockSim(keys={KEY}) as flaky:
        providers = {"flaky": bedrock(flaky.url, preference=1), "steady": bedrock(bedrock_sim.url)}
        # the probes follow one another so quickly that the usual budget would not suffice for them
        more = {"resilience": {"circuit_breaker": QUICK, "retry_budget": 1}}
        async with gate(tmp_path, providers, more=more) as gw:
            flapping = Flapping(gw, flaky)
            for outage in (1, 2):
                assert await flapping.calls(10) == 10
                flaky.default = scenarios.NAMED["error"]
                reached = await flapping.calls(100)
                assert 5 <= reached <= 30
                flaky.default = scenarios.NAMED["text"]
                await flapping.until("circuit.closed", outage)
            assert flapping.changes() <= DRAWN
