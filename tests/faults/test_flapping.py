"""A provider that fails and works by turns, under load: how many calls fail, and how many requests failover adds."""

import asyncio
from itertools import chain
from math import ceil
from time import monotonic

import pytest

from gateway.call.retry_budget import ALWAYS, WINDOW_SECONDS
from gateway.testkit import scenarios
from gateway.testkit.openai import OpenAISim
from tests.helpers.gateway import gate

CALLS = 240
TOGETHER = 8
TURN = 20
"""Number of requests after which the provider changes from failing to working, and back."""
SHARE = 0.1
MODEL = "gpt-4o"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


class Flapping(OpenAISim):
    """A provider that is overloaded for some requests, works for as many, and so on."""

    async def respond(self, seen, request):
        fails = len(self.requests) // TURN % 2 == 0
        self.default = scenarios.error("ServiceUnavailableException") if fails else scenarios.NAMED["text"]
        return await super().respond(seen, request)


def provider(url, preference):
    chat = {"baseurl": url, "apikey": "k", "models": [MODEL], "compatibility": {"openai_chat": True}}
    return chat | {"preference": preference}


async def run(state, **resilience):
    """Make the calls. Return the number of calls that failed, that of the further requests, and the seconds."""
    state.mkdir()
    async with Flapping() as flapping, OpenAISim() as steady:
        steady.default = scenarios.NAMED["text"]
        providers = {"flapping": provider(flapping.url, 1), "steady": provider(steady.url, 0)}
        async with gate(state, providers, more={"resilience": {"retry_budget": SHARE, **resilience}}) as gw:
            numbers = iter(range(CALLS))

            async def calling():
                return [(await gw.post("/v1/chat/completions", CHAT)).status for _ in numbers]

            began = monotonic()
            statuses = [*chain(*await asyncio.gather(*(calling() for _ in range(TOGETHER))))]
            seconds = monotonic() - began
            sent = len(flapping.requests) + len(steady.requests)
            records = await gw.calls(CALLS)
    assert len(statuses) == CALLS
    assert set(statuses) <= {200, 503}
    assert sum(record["attempts"] for record in records) == sent
    return statuses.count(503), sent - CALLS, seconds


async def test_failover_saves_calls_and_the_budget_limits_what_it_adds(tmp_path):
    """Check the failed calls without failover, with it, and with the circuit breaker, which makes it cheap."""
    off = {"circuit_breaker": {"enabled": False}, "sticky_seconds": 0}
    alone, more_alone, _ = await run(tmp_path / "alone", failover=False, **off)
    budgeted, more_budgeted, seconds = await run(tmp_path / "budgeted", **off)
    resting, more_resting, _ = await run(tmp_path / "resting")
    assert alone == pytest.approx(CALLS / 2, abs=TURN)
    assert more_alone == 0
    # a window may begin at any second of the run
    windows = ceil(seconds / WINDOW_SECONDS) + 1
    assert ALWAYS <= more_budgeted <= SHARE * CALLS + ALWAYS * windows
    assert budgeted == pytest.approx(alone - more_budgeted, abs=TURN)
    # the circuit opens after a few failures, so that nearly all calls go to the other provider at once
    assert resting == 0
    assert more_resting <= ALWAYS + SHARE * CALLS
