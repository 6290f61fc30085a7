"""Tests of three gateways that share one PostgreSQL database and spend from the same quota.

Each gateway is a process of its own.
"""

import asyncio
import json
import re
from contextlib import AsyncExitStack, nullcontext
from decimal import Decimal

import aiohttp
import pytest

from tests.helpers.gateway import CAP, EVERYTHING, HAIKU, bedrock
from tests.helpers.postgres import cluster
from tests.helpers.processes import family, irisgate, served
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.usefixtures("postgres")

CALLS = 20
TOGETHER = 24
"""Number of calls at the same time, at all gateways together."""
LEASE_SECONDS = 3
LONG_LEASE_SECONDS = 8
"""Duration of a lease (an amount that a gateway may spend without the database).

A lease of this duration does not expire while PostgreSQL is stopped and one more call is made.
"""
CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
REFUSED = re.compile(r"nothing is left|held by calls|database is away")


@pytest.fixture
def configured(tmp_path, bedrock_sim, address):
    """Return a function that writes the configuration of one gateway, and returns the command's arguments."""

    def one(name, capacity="$1000.00", limits=(), **storage):
        capability = {"rate_limits": limits} if limits else {"quotas": [{"bucket": "all"}]}
        grants = [*EVERYTHING, {"src": ["*"], "app": {CAP: [capability]}}]
        settings = {
            "providers": {"b": bedrock(bedrock_sim.url)},
            "grants": grants,
            "quotas": {"all": {"capacity": capacity, "rate": "$0.00/day"}},
            "storage": {"url": cluster().url(address), "shared": True, "lease_seconds": LEASE_SECONDS, **storage},
        }
        path = tmp_path / f"{name}.hujson"
        path.write_text(json.dumps(settings))
        return ("serve", "--config", str(path), "--listen", "127.0.0.1:0", "--state", str(tmp_path / name))

    return one


async def call(gateway):
    """Make a call. Return "ok", or the reason of a refusal, or "cut" if the connection broke because the gateway was
    killed.
    """
    try:
        async with gateway.session.post(f"{gateway.url}/v1/chat/completions", json=CHAT) as reply:
            text = await reply.text()
    except aiohttp.ClientError:
        return "cut"
    if reply.status == 200:
        return "ok"
    assert reply.status in (429, 503), text
    return REFUSED.search(text)[0]


async def insist(gateway, together=None):
    """Make a call, and return its outcome.

    The call is repeated while other calls have reserved the rest of the quota, or while the database does not answer on
    a busy machine. The pauses between the repetitions keep the clients from overloading the machine.
    """

    async def outcome():
        if (found := await call(gateway)) not in ("held by calls", "database is away"):
            return found
        await asyncio.sleep(0.1)
        return None

    async with together or nullcontext():
        return await eventually(outcome)


async def balance(gateway):
    return (await gateway.bucket("all"))["balance_usd"]


async def cost_of_a_call(tmp_path, configured):
    """Return the cost of one call in dollars. The call is made at a gateway that is started for it."""
    async with served(tmp_path, *configured("first")) as gateway:
        assert await call(gateway) == "ok"
        (stored,) = await gateway.stored(1)
        return Decimal(str(stored["charges_usd"]["all"]))


async def three(stack, tmp_path, configured, capacity, **storage):
    starts = [served(tmp_path, *configured(name, capacity, **storage)) for name in "abc"]
    return await asyncio.gather(*map(stack.enter_async_context, starts))


async def test_200_calls_at_three_gateways_on_a_bucket_of_20_are_20(tmp_path, configured):
    """Check that all gateways together serve exactly as many calls as a bucket pays for, also after a refill.

    Each call must be stored and charged once.
    """
    cost = await cost_of_a_call(tmp_path, configured)
    async with AsyncExitStack() as stack:
        gateways = await three(stack, tmp_path, configured, f"${cost * CALLS}")
        together = asyncio.Semaphore(TOGETHER)
        outcomes = await asyncio.gather(*(insist(gateways[number % 3], together) for number in range(200)))
        assert outcomes.count("ok") == CALLS
        assert outcomes.count("nothing is left") == 200 - CALLS
        await eventually(lambda: is_left(gateways[0], 0))
        await gateways[0].refill("all", 5 * cost)
        more = []

        async def refilled():
            # until the other gateways hear of the refill, they refuse calls
            more.extend(await asyncio.gather(*(insist(gateways[1 + number % 2]) for number in range(20))))
            return more.count("ok") >= 5

        await eventually(refilled)
        await refilled()
        assert more.count("ok") == 5
        # each gateway shows the calls of all
        for gateway in gateways:
            await eventually(lambda gateway=gateway: has_ended(gateway, CALLS + 6))
            calls = await gateway.stored()
            ok = [one["id"] for one in calls if one["outcome"] == "ok"]
            assert len(ok) == len(set(ok)) == CALLS + 6
            assert await balance(gateway) == 0


async def is_left(gateway, amount):
    return await balance(gateway) == amount


async def test_each_gateway_reports_what_all_have_used(tmp_path, configured):
    """Check that the metric `irisgate_quota_used_ratio` counts the calls of all gateways.

    The metric is read at a gateway that has served no call and no page.
    """
    cost = await cost_of_a_call(tmp_path, configured)
    async with AsyncExitStack() as stack:
        gateways = await three(stack, tmp_path, configured, f"${cost * CALLS}")
        assert [await insist(gateways[0]) for _ in range(CALLS // 2)] == ["ok"] * (CALLS // 2)

        async def used():
            async with gateways[1].session.get(f"{gateways[1].url}/metrics") as reply:
                return 'irisgate_quota_used_ratio{quota="all"} 0.5' in (await reply.text()).splitlines()

        await eventually(used)


async def test_what_a_killed_gateway_holds_is_free_again(tmp_path, configured):
    cost = await cost_of_a_call(tmp_path, configured)
    async with AsyncExitStack() as stack:
        gateways = await three(stack, tmp_path, configured, f"${cost * CALLS}")
        first = await asyncio.gather(*(insist(gateways[number % 3]) for number in range(6)))
        racing = [asyncio.create_task(call(gateways[0])) for _ in range(3)]
        await asyncio.sleep(0.05)
        gateways[0].process.kill()
        cut = await asyncio.gather(*racing)
        # a killed gateway's calls in flight keep what they may cost until it starts again
        again = await stack.enter_async_context(served(tmp_path, *configured("a", f"${cost * CALLS}")))
        others = [again, gateways[1]]
        outcomes = await asyncio.gather(*(insist(others[number % 2]) for number in range(60)))

        async def settled():
            """Return the stored calls and the sum of their charges, or None if the balance does not agree with this sum
            yet.

            A record is stored some time after the reply.
            """
            stored = await again.stored()
            # but for the call whose cost was looked at
            sum_of_calls = sum(Decimal(str(one["charges_usd"].get("all", 0))) for one in stored) - cost
            return (stored, sum_of_calls) if await balance(again) == cost * CALLS - sum_of_calls else None

        calls, charged = await eventually(settled)
        assert len({one["id"] for one in calls}) == len(calls)
        assert charged <= cost * CALLS + max(Decimal(str(one["cost_usd"] or 0)) for one in calls)
        whole = [*first, *cut, *outcomes].count("ok")
        lost = [one for one in calls if one["outcome"] == "lost"]
        assert whole == CALLS if not lost else whole <= CALLS


@pytest.mark.parametrize("on_outage", ["refuse", "go_on"])
async def test_without_the_database_the_slices_last_and_then_the_setting_decides(tmp_path, configured, on_outage):
    async with AsyncExitStack() as stack:
        gateways = await three(
            stack, tmp_path, configured, "$1.00", on_outage=on_outage, lease_seconds=LONG_LEASE_SECONDS
        )
        assert [await call(gateway) for gateway in gateways] == ["ok"] * 3
        await asyncio.to_thread(cluster().stop, "immediate")
        try:
            # the slice of the last call
            assert await call(gateways[0]) == "ok"
            await asyncio.sleep(LONG_LEASE_SECONDS + 0.5)
            expected = "ok" if on_outage == "go_on" else "database is away"
            assert [await call(gateway) for gateway in gateways] == [expected] * 3
        finally:
            await asyncio.to_thread(cluster().start)
        for gateway in gateways:
            await eventually(lambda gateway=gateway: is_ok(gateway))
        ended = 10 if on_outage == "go_on" else 7
        await eventually(lambda: has_ended(gateways[0], ended))
        calls = await gateways[0].stored()
        charged = sum(Decimal(str(one["charges_usd"].get("all", 0))) for one in calls)
        for gateway in gateways:
            await eventually(lambda gateway=gateway: is_left(gateway, 1 - charged))


async def has_ended(gateway, calls):
    return sum(call["outcome"] == "ok" for call in await gateway.stored()) == calls


async def is_ok(gateway):
    return await call(gateway) == "ok"


async def test_a_replaced_gateway_hands_its_slices_over(tmp_path, configured):
    async with family(tmp_path, *configured("a", "$1.00")) as gateway:
        for _ in range(2):
            assert await call(gateway) == "ok"
            await gateway.restart()
        assert await call(gateway) == "ok"
        calls = await gateway.stored(3)
        charged = sum(Decimal(str(one["charges_usd"]["all"])) for one in calls)
        await eventually(lambda: is_left(gateway, 1 - charged))


async def test_a_gateway_that_does_not_share_is_refused(tmp_path, configured):
    async with served(tmp_path, *configured("a")):
        status, _, err = await irisgate(tmp_path, *configured("b", shared=False, lease_seconds=None))
    assert status != 0
    assert "another gateway uses this database: irisgate writer on" in err


async def test_a_rate_limit_is_one_limit_of_all_gateways(tmp_path, configured):
    """Check that a rate limit allows three gateways together as many calls as a single gateway."""
    async with AsyncExitStack() as stack:
        gateways = await three(stack, tmp_path, configured, "$1000.00", limits=[{"requests": f"{CALLS}/day"}])
        together = asyncio.Semaphore(TOGETHER)

        async def ask(gateway):
            async with together:
                return await rate_limited(gateway)

        statuses = await asyncio.gather(*(ask(gateways[number % 3]) for number in range(100)))
        assert (statuses.count(200), statuses.count(429)) == (CALLS, 100 - CALLS)


async def test_a_rate_limit_goes_on_while_the_database_is_away(tmp_path, configured):
    """Check that while the database is stopped, a gateway serves exactly as many calls as the rate limit still allows.

    When the database runs again, the other gateways count these calls too.
    """
    async with AsyncExitStack() as stack:
        one, other, _ = await three(stack, tmp_path, configured, "$1000.00", limits=[{"requests": "10/day"}])
        assert await call(one) == "ok"
        await asyncio.to_thread(cluster().stop, "immediate")
        try:
            outcomes = [await rate_limited(one) for _ in range(12)]
        finally:
            await asyncio.to_thread(cluster().start)
        assert outcomes == [200] * 9 + [429] * 3
        await eventually(lambda: is_limited(other))


async def rate_limited(gateway):
    async with gateway.session.post(f"{gateway.url}/v1/chat/completions", json=CHAT) as reply:
        return reply.status


async def is_limited(gateway):
    return await rate_limited(gateway) == 429
