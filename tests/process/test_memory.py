"""Tests of the state of providers that a gateway sends to the process that replaces it: which models fail, which keys
were refused, and which provider serves each session.
"""

import msgspec
import pytest

from gateway.process.handover.memory import adopt_memory, memory_of
from tests.helpers.gateway import HAIKU, KEY, NOVA, bedrock, gate

OTHER = "other-bedrock-key-for-tests"


def providers(url, key=KEY):
    return {"a": bedrock(url, apikey=key), "b": bedrock(url, preference=-1)}


def standing(gateway, provider="a", model=HAIKU):
    return next(each for each in gateway.health.standings() if (each.provider, each.model) == (provider, model))


async def learned(folder, url):
    """Return the state that a gateway sends to the process that replaces it: an open circuit breaker, a refused key,
    and the provider of a session.
    """
    async with gate(folder, providers(url)) as gw:
        gateway = gw.running.gateway
        for _ in range(5):
            gateway.health.ended("a", HAIKU, failed=True, seconds=None)
        gateway.keys.refused(gateway.runtime.config.providers["b"])
        offers = gateway.runtime.catalog.find(NOVA)
        gateway.order.served(("ada", "s", NOVA), offers[1], offers[0])
        return memory_of(gateway)


def first(gateway):
    offers = gateway.runtime.catalog.find(NOVA)
    prices = gateway.runtime.prices
    return gateway.order.order(offers, "first", ("ada", "s", NOVA), prices, 300.0)[0].provider_id


async def test_open_circuits_refused_keys_and_sticky_sessions_go_on(tmp_path, bedrock_sim):
    sent = await learned(tmp_path / "one", bedrock_sim.url)
    assert KEY.encode() not in bytes(sent)
    async with gate(tmp_path / "two", providers(bedrock_sim.url)) as gw:
        gateway = gw.running.gateway
        assert (standing(gateway).state, first(gateway)) == ("closed", "a")
        adopt_memory(sent, gateway)
        assert (standing(gateway).state, standing(gateway).cause) == ("open", "failures")
        assert standing(gateway, "b").state == "closed"
        assert gateway.keys.names(gateway.runtime.config.providers["b"]) == [""]
        assert first(gateway) == "b"
        (line,) = await gw.lines.until("handover.memory_adopted")
        assert (line["resting"], line["sessions"]) == (1, 1)


async def test_a_provider_with_another_key_starts_as_healthy(tmp_path, bedrock_sim):
    sent = await learned(tmp_path / "one", bedrock_sim.url)
    async with gate(tmp_path / "two", providers(bedrock_sim.url, OTHER)) as gw:
        adopt_memory(sent, gw.running.gateway)
        assert standing(gw.running.gateway).state == "closed"
        assert first(gw.running.gateway) == "b"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"{", "Input data was truncated"),
        (b"[]", "Expected `object | null`, got `array`"),
        (b'{"version": 2}', "it has the version 2, and this release reads version 1"),
        (b'{"version": 1}', "Object missing required field"),
        (
            b'{"version": 1, "ways": {}, "health": {"models": [{}]}, "sessions": [], "pools": [], "refused_keys": {}}',
            "",
        ),
        (b"\xff", ""),
    ],
)
async def test_a_memory_that_cannot_be_read_is_ignored(tmp_path, bedrock_sim, sent, reason):
    async with gate(tmp_path, providers(bedrock_sim.url)) as gw:
        adopt_memory(msgspec.Raw(sent), gw.running.gateway)
        (line,) = await gw.lines.until("handover.memory_ignored")
        assert reason in line["reason"]
        assert (standing(gw.running.gateway).state, first(gw.running.gateway)) == ("closed", "a")


async def test_an_older_release_sends_no_memory(tmp_path, bedrock_sim):
    async with gate(tmp_path, providers(bedrock_sim.url)) as gw:
        adopt_memory(msgspec.Raw(b"null"), gw.running.gateway)
        await gw.log_is_written()
        assert not gw.lines.entries("handover.memory_ignored")


async def test_a_name_that_no_json_can_have_costs_only_the_memory(tmp_path, bedrock_sim):
    async with gate(tmp_path, providers(bedrock_sim.url)) as gw:
        offers = gw.running.gateway.runtime.catalog.find(NOVA)
        gw.running.gateway.order.served(("ada", "\ud800", NOVA), offers[1], offers[0])
        assert memory_of(gw.running.gateway) == msgspec.Raw(b"null")
