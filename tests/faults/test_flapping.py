"""Tests of a provider that alternately fails and works, under 200 calls a second: how many calls fail, and how many
requests failover adds.
"""

import asyncio
from math import ceil
from time import monotonic

import pytest

from gateway.call.retry_budget import ALWAYS, WINDOW_SECONDS
from gateway.testkit import scenarios
from gateway.testkit.openai import OpenAISim
from tests.helpers.gateway import gate

CALLS = 1000
RATE = 200
"""Number of calls that begin in a second. On a slow machine, fewer calls may begin."""
TURN = 20
"""Number of consecutive requests for which the provider fails. It then works for the same number of requests, and so
on.
"""
SHARE = 0.1
MODEL = "gpt-4o"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


class Flapping(OpenAISim):
    """A provider that is overloaded for `TURN` requests, then works for `TURN` requests, and so on."""

    async def respond(self, seen, request):
        fails = len(self.requests) // TURN % 2 == 0
        self.default = scenarios.error("ServiceUnavailableException") if fails else scenarios.NAMED["text"]
        return await super().respond(seen, request)


def provider(url, preference):
    chat = {"baseurl": url, "apikey": "k", "models": [MODEL], "compatibility": {"openai_chat": True}}
    return chat | {"preference": preference}


async def run(state, **resilience):
    """Make `CALLS` calls. Return (number of failed calls, number of retries, duration in seconds)."""
    state.mkdir()
    async with Flapping() as flapping, OpenAISim() as steady:
        steady.default = scenarios.NAMED["text"]
        providers = {"flapping": provider(flapping.url, 1), "steady": provider(steady.url, 0)}
        async with gate(state, providers, more={"resilience": {"retry_budget": SHARE, **resilience}}) as gw:
            began = monotonic()

            async def calling(number):
                await asyncio.sleep(began + number / RATE - monotonic())
                return (await gw.post("/v1/chat/completions", CHAT)).status

            statuses = await asyncio.gather(*map(calling, range(CALLS)))
            seconds = monotonic() - began
            sent = len(flapping.requests) + len(steady.requests)
            records = await gw.calls(CALLS)
    assert len(statuses) == CALLS
    assert set(statuses) <= {200, 503}
    assert sum(record["attempts"] for record in records) == sent
    return statuses.count(503), sent - CALLS, seconds


async def test_failover_saves_calls_and_the_budget_limits_what_it_adds(tmp_path):
    """Check how many calls fail without failover, with failover alone, and with failover and the circuit breaker.

    Without failover, half of the calls fail. With failover alone, each retry saves a call, and the retry budget limits
    the number of retries. With the circuit breaker too, few calls fail.
    """
    off = {"circuit_breaker": {"enabled": False}, "sticky_seconds": 0}
    alone, more_alone, _ = await run(tmp_path / "alone", failover=False, **off)
    budgeted, more_budgeted, seconds = await run(tmp_path / "budgeted", **off)
    resting, more_resting, _ = await run(tmp_path / "resting")
    assert alone == pytest.approx(CALLS / 2, abs=TURN)
    assert more_alone == 0
    # on a slow machine, later windows may have few calls, and a window may begin at any second of the run
    later = ceil(seconds / WINDOW_SECONDS) - 1
    assert ALWAYS <= more_budgeted <= SHARE * CALLS + ALWAYS * later
    assert budgeted == pytest.approx(alone - more_budgeted, abs=TURN)
    # the circuit opens after a few failures, and only calls that have begun by then can still fail
    assert resting < alone / 5
    assert more_resting <= SHARE * CALLS
