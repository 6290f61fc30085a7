"""Tests of a running gateway's metrics: errors of providers, the time that the gateway itself takes for a call, and a
separate listener for metrics.
"""

import re
from dataclasses import replace

import pytest

from gateway.config.findings import ConfigError
from gateway.config.load import loads
from gateway.process.serve import CannotStart
from gateway.testkit import scenarios
from tests.helpers.gateway import HAIKU, bedrock, gate

CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}]}
OWN = {"metrics": {"listen": "127.0.0.1:0"}}
NOBODY_READS = [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "user"}, {"models": "**"}]}}]

SLOW = 0.3
"""Seconds that a provider waits before its first byte."""


def series(text):
    return {name: float(value) for name, value in re.findall(r"^(irisgate_\S+) (\S+)$", text, re.MULTILINE)}


async def read(gw):
    return series(await (await gw.get("/metrics")).text())


@pytest.mark.parametrize("stream", [False, True])
async def test_waiting_for_the_provider_is_no_overhead(tmp_path, bedrock_sim, stream):
    bedrock_sim.default = replace(scenarios.NAMED["text"], delay=SLOW)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        await gw.post("/v1/chat/completions", {**CHAT, "stream": stream})
        (call,) = await gw.calls()
        series = await read(gw)
    assert series['irisgate_overhead_seconds_count{api="openai_chat"}'] == 1
    own = series['irisgate_overhead_seconds_sum{api="openai_chat"}']
    took = (call["first_event_ms"] if stream else call["duration_ms"]) / 1000
    assert took > SLOW
    # the provider's delay may begin before the wait for the provider is measured
    assert 0 < own < took - SLOW / 2


async def test_a_refused_call_has_no_overhead(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        await gw.post("/v1/chat/completions", {**CHAT, "model": "unheard-of"})
        await gw.calls()
        assert not [name for name in await read(gw) if "overhead" in name]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_a_provider_counts_by_its_code(tmp_path, bedrock_sim, stream):
    bedrock_sim.default = scenarios.NAMED["throttle"]
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        await gw.post("/v1/chat/completions", {**CHAT, "stream": stream})
        assert (await read(gw))['irisgate_upstream_errors_total{code="rate_limit",provider="b"}'] == 1


async def test_a_provider_that_is_not_there_is_an_error_too(tmp_path):
    async with gate(tmp_path, {"b": bedrock("http://127.0.0.1:9")}) as gw:
        await gw.post("/v1/chat/completions", CHAT)
        assert (await read(gw))['irisgate_upstream_errors_total{code="unavailable",provider="b"}'] == 1


async def test_a_gateway_tells_of_its_journal_and_its_quotas(tmp_path, bedrock_sim):
    quotas = {"quotas": {"daily:<user>": {"capacity": "$10.00", "rate": "$10.00/day"}}}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, more=quotas) as gw:
        series = await read(gw)
    assert series['irisgate_quota_used_ratio{quota="daily:<user>"}'] == 0
    assert [series[f"irisgate_{name}"] for name in ("journal_full", "store_failing")] == [0, 0]
    assert "irisgate_journal_lag_bytes" in series


async def test_metrics_on_a_listener_of_their_own_need_no_grant(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=NOBODY_READS, more=OWN) as gw:
        assert (await gw.get("/metrics")).status == 403
        base = gw.running.metrics_url.removesuffix("/metrics")
        for path, status in (("/metrics", 200), ("/healthz", 200), ("/readyz", 200), ("/api/usage", 404), ("/", 404)):
            async with gw.session.get(base + path) as response:
                assert (path, response.status) == (path, status)
                assert bool(series(await response.text())) == (path == "/metrics")


async def test_a_web_page_cannot_read_the_metrics_on_their_own_listener(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, more=OWN) as gw:
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            async with gw.session.get(gw.running.metrics_url, headers=headers) as response:
                assert response.status == 403


async def test_an_address_that_is_taken_keeps_the_gateway_from_starting(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, more=OWN) as gw:
        taken = gw.running.metrics_url.removeprefix("http://").removesuffix("/metrics")
        with pytest.raises(CannotStart, match=f"cannot listen on {taken}"):
            async with gate(tmp_path / "other", {}, more={"metrics": {"listen": taken}}):
                pass


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ('{"listen": "0.0.0.0:9090"}', 'metrics.listen: "0.0.0.0:9090" can be reached by others; write an address of'),
        ('{"listen": "unix:/run/m.sock"}', "metrics.listen: "),
        ('{"listen": "9090"}', "metrics.listen: "),
        ('{"users": -1}', "metrics.users: "),
        ('{"users": "all"}', "metrics.users: "),
    ],
)
def test_a_section_that_cannot_be_is_refused_at_its_place(section, message):
    with pytest.raises(ConfigError) as caught:
        loads(f'{{"metrics": {section}}}')
    assert any(message in str(finding) for finding in caught.value.findings)


def test_callers_are_no_label_unless_the_configuration_says_so():
    assert loads('{"metrics": {}}').config.metrics.users == 0
    assert loads('{"metrics": {"users": 50}}').config.metrics.users == 50
