"""Tests of a process that is killed at any moment.

Every call whose last byte was sent must be recorded and charged once.
"""

import asyncio
import json
import random
from decimal import Decimal
from itertools import count

import aiohttp

from tests.helpers.gateway import CAP, EVERYTHING, HAIKU, bedrock
from tests.helpers.processes import served
from tests.helpers.waiting import eventually

ROUNDS = 10
FINISHED = 6
"""Number of calls that must have ended in a round before the process is killed."""
LONGEST = 0.5
"""Maximum number of seconds from the end of call number `FINISHED` to the kill of the gateway."""
TOGETHER = 8


def chat(stream):
    return {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}], "stream": stream}


async def one(session, url, stream, whole):
    """Make a call. If the reply is complete, add its id to `whole`."""
    async with session.post(f"{url}/v1/chat/completions", json=chat(stream)) as reply:
        body = await reply.read()
        if reply.status == 200 and (body.rstrip().endswith(b"[DONE]") if stream else json.loads(body)):
            whole.append(reply.headers["x-request-id"])


async def load(url, whole):
    """Make calls, `TOGETHER` at a time, until the gateway is killed."""
    numbers = count()

    async def calling(session):
        for number in numbers:
            await one(session, url, number % 3 == 0, whole)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(calling(session) for _ in range(TOGETHER)), return_exceptions=True)


async def test_a_killed_process_has_each_finished_call_exactly_once(tmp_path, bedrock_sim):
    """Check that after the gateway was killed, every call whose last byte a client has received is stored, and that no
    call is stored twice.
    """
    config = tmp_path / "config.hujson"
    quotas = {"all": {"capacity": "$1000.00", "rate": "$0.00/day"}}
    grants = [*EVERYTHING, {"src": ["*"], "app": {CAP: [{"quotas": [{"bucket": "all"}]}]}}]
    providers = {"b": bedrock(bedrock_sim.url)}
    config.write_text(json.dumps({"providers": providers, "grants": grants, "quotas": quotas}))
    serve = ("serve", "--config", str(config), "--listen", "127.0.0.1:0", "--state", str(tmp_path / "state"))
    moments = random.Random(0)
    whole = []
    for _ in range(ROUNDS):
        async with served(tmp_path, *serve) as running:
            loading = asyncio.create_task(load(running.url, whole))
            enough = len(whole) + FINISHED
            await eventually(lambda enough=enough: len(whole) >= enough)
            await asyncio.sleep(moments.uniform(0, LONGEST))
            running.process.kill()
            await loading
    async with served(tmp_path, *serve) as running:
        calls = await running.stored()
        async with running.session.get(f"{running.url}/api/quotas") as reply:
            (bucket,) = (await reply.json())["quotas"]
        async with running.session.get(f"{running.url}/api/sessions?limit=200") as reply:
            sessions = (await reply.json())["sessions"]
    known = [call["id"] for call in calls]
    charged = sum(Decimal(str(call["charges_usd"].get("all", 0))) for call in calls)
    assert charged > 0
    assert Decimal(str(bucket["balance_usd"])) == 1000 - charged
    assert len(known) == len(set(known))
    assert set(whole) <= set(known)
    assert sum(session["calls"] for session in sessions) == len(known)
