"""Tests of two gateways with two worker processes each, which share one PostgreSQL database.

All of them spend from the same quota and the same rate limit.
"""

import asyncio
import json
import os
import re
import signal
from collections import Counter
from contextlib import AsyncExitStack
from decimal import Decimal

import aiohttp
import pytest

from tests.end_to_end.test_handover import finish, held_stream
from tests.end_to_end.test_restarts import SLOW, configuration
from tests.end_to_end.test_workers import WORKERS, changed, is_settled, is_spent
from tests.end_to_end.test_workers_trouble import loaded, more_calls, workers
from tests.helpers.gateway import CAP, EVERYTHING, HAIKU, SONNET, bedrock
from tests.helpers.postgres import cluster
from tests.helpers.processes import family, served
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.usefixtures("postgres")

CALLS = 20
COST = Decimal("0.0000957")
"""The price in dollars of a call that is not streamed."""
TOGETHER = 24
"""Number of calls at the same time, at all gateways together."""
REFUSED = re.compile(r"nothing is left|held by calls|database is away|rate limit")
TO_RETRY = ("held by calls", "database is away")


@pytest.fixture
def configured(tmp_path, bedrock_sim, address):
    """Return a function that writes the configuration of the gateway `name`, and returns the command's arguments.

    Calls to Haiku are charged to the quota "all". Calls to Sonnet have a rate limit of `CALLS` requests a day.
    """
    charged = {"models": f"b/{HAIKU}", "quotas": [{"bucket": "all"}]}
    limited = {"models": f"b/{SONNET}", "rate_limits": [{"requests": f"{CALLS}/day"}]}

    def one(name, capacity="$1000.00", lease_seconds=3):
        settings = {
            "providers": {"b": bedrock(bedrock_sim.url)},
            "grants": [*EVERYTHING, {"src": ["*"], "app": {CAP: [charged, limited]}}],
            "quotas": {"all": {"capacity": capacity, "rate": "$0.00/day"}},
            "storage": {"url": cluster().url(address), "shared": True, "lease_seconds": lease_seconds},
        }
        path = tmp_path / f"{name}.hujson"
        path.write_text(json.dumps(settings))
        return ("serve", "--config", str(path), "--listen", "127.0.0.1:0", "--state", str(tmp_path / name), *WORKERS)

    return one


async def call(gateway, model=HAIKU):
    """Make a call. Return "ok", or the reason of a refusal."""
    status, body = await gateway.chat(model=model, max_tokens=20)
    if status == 200:
        return "ok"
    assert status in (429, 503), body
    return REFUSED.search(body.decode())[0]


async def insist(gateway, model=HAIKU):
    """Make a call. Return "ok", or the reason of the refusal.

    The call is repeated while other calls have reserved the rest of the balance, or while the database does not answer
    on a busy machine.
    """

    async def outcome():
        if (found := await call(gateway, model)) not in TO_RETRY:
            return found
        await asyncio.sleep(0.1)
        return None

    return await eventually(outcome, 60)


async def race(gateways, count, model=HAIKU):
    """Make `count` calls, `TOGETHER` at a time, at each gateway in turn. Return the number of calls that were served."""
    together = asyncio.Semaphore(TOGETHER)

    async def one(gateway):
        async with together:
            return await insist(gateway, model)

    outcomes = await asyncio.gather(*(one(gateways[number % len(gateways)]) for number in range(count)))
    return outcomes.count("ok")


async def test_calls_at_all_gateways_are_as_many_as_the_bucket_has(tmp_path, configured):
    """Check that both gateways together serve exactly as many calls as a quota pays for, also after a refill at one of
    them.

    Also check that they serve exactly as many calls as a rate limit allows.
    """
    async with AsyncExitStack() as stack:
        starts = [served(tmp_path, *configured(name, f"${CALLS * COST}")) for name in "ab"]
        gateways = await asyncio.gather(*map(stack.enter_async_context, starts))
        assert await race(gateways, 200) == CALLS
        await eventually(lambda: is_spent(gateways[0], CALLS * COST))
        await gateways[0].refill("all", 5 * COST)
        more = 0

        async def are_refilled():
            # until the other gateway hears of the refill, it refuses calls
            nonlocal more
            more += await race(gateways[1:], 20)
            return more >= 5

        await eventually(are_refilled)
        assert (more, await race(gateways, 20)) == (5, 0)
        assert await race(gateways, 100, SONNET) == CALLS


async def test_what_killed_workers_and_a_killed_keeper_held_is_free_again(tmp_path, bedrock_sim, address, configured):
    """Check that after the workers and the keeper (the main process) were killed, no call is lost or charged twice.

    The amounts that these processes had reserved must be available to other calls again.
    """
    capacity = CALLS * COST
    async with AsyncExitStack() as stack:
        killed = await stack.enter_async_context(family(tmp_path, *configured("a", f"${capacity}")))
        other = await stack.enter_async_context(served(tmp_path, *configured("b", f"${capacity}")))
        assert await race([killed, other], 4) == 4
        async with held_stream(killed, bedrock_sim, max_tokens=20) as (reply, _):
            for process in workers(killed):
                os.kill(process, signal.SIGKILL)
            with pytest.raises(aiohttp.ClientError):
                await reply.content.read()
        await eventually(lambda: killed.entries("calls.lost"))
        await eventually(lambda: len(killed.entries("worker.started")) == 4, 60)
        assert await insist(killed) == "ok"
        async with held_stream(killed, bedrock_sim, max_tokens=20) as (reply, gate):
            killed.process.kill()
            await finish(reply, gate)

        async def is_ended():
            # a gateway that asks the database looks for others that are silent
            await call(other, SONNET)
            await asyncio.sleep(0.2)
            return cluster().sql("SELECT 1 FROM gateways WHERE is_ended", address.database)

        await eventually(is_ended, 60)
        assert await insist(other) == "ok"
        again = await stack.enter_async_context(served(tmp_path, *configured("a", f"${capacity}")))
        begun = 7 + await race([again, other], 40)
        calls = await agreed([again, other], capacity, begun + 1)
    begun_calls = [one for one in calls if one["outcome"] != "refused" and one["model"] == HAIKU]
    charges = sorted(Decimal(str(one["charges_usd"]["all"])) for one in begun_calls)
    assert Counter(one["outcome"] for one in begun_calls) == {"ok": begun, "lost": 1}
    assert capacity <= sum(charges) <= capacity + charges[-1]


async def agreed(gateways, capacity, count):
    """Wait until at least `count` stored calls are charged to the quota, and all balances are right. Return all stored
    calls.

    At each gateway, the balance must equal `capacity` minus the charges of all stored calls.
    """

    async def settled():
        calls = await gateways[0].stored()
        charges = [Decimal(str(one["charges_usd"]["all"])) for one in calls if one["charges_usd"].get("all")]
        balances = [(await gateway.bucket("all"))["balance_usd"] for gateway in gateways]
        return calls if len(charges) >= count and {*balances} == {capacity - sum(charges)} else None

    return await eventually(settled, 60)


async def test_a_restart_of_the_database_under_load_loses_no_call(tmp_path, configured):
    """Check that a restart of the database under load loses no call and charges none twice.

    While the database is stopped, the gateways serve calls from the amounts that the database has granted them, and
    then refuse calls. When it runs again, they serve calls again.
    """
    async with AsyncExitStack() as stack:
        starts = [served(tmp_path, *configured(name)) for name in "ab"]
        gateways = await asyncio.gather(*map(stack.enter_async_context, starts))
        outcomes, is_over = [], asyncio.Event()

        async def client(gateway):
            while not is_over.is_set():
                outcomes.append(await call(gateway))
                await asyncio.sleep(0.05)

        async def come(*wanted):
            """Wait until each of the wanted outcomes has occurred."""
            begin = len(outcomes)
            await eventually(lambda: {*wanted} <= {*outcomes[begin:]}, 60)

        clients = [asyncio.create_task(client(gateways[number % 2])) for number in range(4)]
        await come("ok")
        await asyncio.to_thread(cluster().stop, "immediate")
        try:
            await come("ok")
            await come("database is away")
        finally:
            await asyncio.to_thread(cluster().start)
        await come("ok")
        is_over.set()
        await asyncio.gather(*clients)
        for gateway in gateways:
            assert await insist(gateway) == "ok"
        begun = outcomes.count("ok") + len(gateways)
        calls = await agreed(gateways, 1000, begun)
    assert Counter(one["outcome"] for one in calls if one["outcome"] != "refused") == {"ok": begun}


async def test_a_hand_over_under_load_loses_no_call(tmp_path, bedrock_sim, address):
    bedrock_sim.default = SLOW
    arguments = configuration(tmp_path, bedrock_sim.url)
    storage = {"url": cluster().url(address), "shared": True, "lease_seconds": 3}
    changed(tmp_path, lambda document: document.update(storage=storage))
    async with family(tmp_path, *arguments, *WORKERS) as gateway:
        async with loaded(gateway, tmp_path) as load:
            await gateway.restart()
            await more_calls(load)
        assert load.faults == []
        await is_settled(gateway, len(load.ids))
        calls = await gateway.stored(len(load.ids))
    assert Counter(one["id"] for one in calls) == Counter(load.ids)
    assert {one["outcome"] for one in calls} == {"ok"}
