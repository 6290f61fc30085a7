"""Tests of `irisgate serve --workers 2`, in which worker processes serve the calls.

The workers must share quotas, sessions and the configuration, and each call must be recorded and charged once.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from decimal import Decimal

import pytest

from tests.end_to_end.test_handover import held_stream
from tests.end_to_end.test_restarts import configuration
from tests.helpers.gateway import CAP, EVERYTHING, HAIKU
from tests.helpers.processes import family, irisgate
from tests.helpers.waiting import eventually

WORKERS = ("--workers", "2")
TOKENS = 43
"""Number of tokens that a short call uses."""
TOGETHER = 24
"""Maximum number of calls that `race` makes at the same time."""


def changed(tmp_path, change):
    """Let the function `change` change the parsed configuration, and write the result to the configuration file."""
    path = tmp_path / "config.hujson"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


async def spent(gateway):
    """Return the number of dollars by which the balance of the quota has decreased."""
    bucket = await gateway.bucket("all")
    return bucket["capacity_usd"] - bucket["balance_usd"]


async def sum_of_charges(gateway, count):
    calls = await gateway.stored(count)
    assert len({call["id"] for call in calls}) == len(calls) == count
    return sum(Decimal(str(call["charges_usd"].get("all", 0))) for call in calls)


async def is_settled(gateway, count):
    """Wait until `count` calls are stored and the balance has decreased by exactly their charges."""

    async def agrees():
        return await spent(gateway) == await sum_of_charges(gateway, count)

    await eventually(agrees)


async def test_calls_of_all_workers_are_recorded_and_charged_once(tmp_path, bedrock_sim):
    async with family(tmp_path, *configuration(tmp_path, bedrock_sim.url), *WORKERS) as gateway:
        replies = await asyncio.gather(*(gateway.chat() for _ in range(60)))
        assert Counter(status for status, _ in replies) == {200: 60}
        await is_settled(gateway, 60)
        assert len(gateway.entries("worker.started")) == 2
        assert len({entry["id"] for entry in gateway.entries("call.finished")}) == 60
        await gateway.session.close()
        await gateway.end()
    assert not list((tmp_path / "state" / "journal").glob("replaced-*"))


async def refusal(gateway):
    """Make a call, and repeat it while other calls have reserved the rest of the quota.

    Return the message of the refusal, or "" if the call was served.
    """

    async def outcome():
        status, body = await gateway.chat(max_tokens=20)
        message = json.loads(body)["error"]["message"] if status != 200 else ""
        assert status in (200, 429), message
        return None if "held by calls" in message else (message,)

    (message,) = await eventually(outcome, 60)
    return message


async def race(gateway):
    """Make 200 calls, at most `TOGETHER` at a time. Return the number of calls that were served."""
    together = asyncio.Semaphore(TOGETHER)

    async def one():
        async with together:
            return await refusal(gateway)

    return [await each for each in asyncio.as_completed([one() for _ in range(200)])].count("")


async def test_200_calls_on_a_bucket_of_20_are_20(tmp_path, bedrock_sim):
    arguments = configuration(tmp_path, bedrock_sim.url)
    async with family(tmp_path, *arguments, *WORKERS) as gateway:
        await refusal(gateway)
        (call,) = await gateway.stored(1)
    cost = Decimal(str(call["charges_usd"]["all"]))
    changed(tmp_path, lambda document: document["quotas"]["all"].update(capacity=f"${20 * cost}"))
    state = ("--state", str(tmp_path / "race"))
    async with family(tmp_path, *arguments, *state, *WORKERS) as gateway:
        assert await race(gateway) == 20
        await eventually(lambda: is_spent(gateway, 20 * cost))
        await gateway.refill("all", 5 * cost)
        assert await race(gateway) == 5


async def is_spent(gateway, amount):
    return await spent(gateway) == amount


@pytest.mark.parametrize("limit", ["requests", "tokens"])
async def test_a_rate_limit_is_one_for_all_workers(tmp_path, bedrock_sim, limit):
    """Check that all workers together serve exactly 20 calls. The rate limit is 20 requests, or as many tokens as 20
    calls use.
    """
    arguments = configuration(tmp_path, bedrock_sim.url)
    allowed = {"requests": "20/day"} if limit == "requests" else {"tokens": f"{20 * TOKENS}/day"}
    grants = [*EVERYTHING, {"src": ["*"], "app": {CAP: [{"rate_limits": [allowed]}]}}]
    changed(tmp_path, lambda document: document.update(grants=grants))
    async with family(tmp_path, *arguments, *WORKERS) as gateway:
        if limit == "requests":
            assert await race(gateway) == 20
        else:
            statuses = [(await gateway.chat(max_tokens=1))[0] for _ in range(40)]
            assert statuses == [200] * 20 + [429] * 20


async def test_one_chat_is_one_session_whatever_worker_serves_it(tmp_path, bedrock_sim):
    async with family(tmp_path, *configuration(tmp_path, bedrock_sim.url), *WORKERS) as gateway:
        # the first calls of a chat arrive at the same time, and further ones later
        await asyncio.gather(*(gateway.chat() for _ in range(12)))
        for _ in range(4):
            await gateway.chat()
        calls = await gateway.stored(16)
        assert len({call["session_id"] for call in calls}) == 1


async def test_a_changed_configuration_reaches_all_workers_and_a_wrong_one_none(tmp_path, bedrock_sim):
    arguments = configuration(tmp_path, bedrock_sim.url)

    async def statuses():
        replies = await asyncio.gather(*(gateway.chat() for _ in range(20)))
        return {status for status, _ in replies}

    async def are(status):
        return await statuses() == {status}

    async with family(tmp_path, *arguments, *WORKERS) as gateway:
        assert await statuses() == {200}
        changed(tmp_path, lambda document: document["providers"]["b"].update(models=["another"]))
        await eventually(lambda: are(404))
        good = (tmp_path / "config.hujson").read_text()
        (tmp_path / "config.hujson").write_text(good.replace("another", HAIKU) + "}")
        await gateway.line("config.refused")
        assert await statuses() == {404}
        (tmp_path / "config.hujson").write_text(good.replace("another", HAIKU))
        await eventually(lambda: are(200))
        # a worker that comes later has it too
        (killed, _) = [entry["process"] for entry in gateway.entries("worker.started")]
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: len(gateway.entries("worker.started")) == 3, 60)
        assert await statuses() == {200}


async def test_the_metric_of_used_quotas_has_calls_in_flight_of_workers(tmp_path, bedrock_sim):
    arguments = configuration(tmp_path, bedrock_sim.url)
    changed(tmp_path, lambda document: document["quotas"]["all"].update(capacity="$1.00"))
    async with family(tmp_path, *arguments, *WORKERS) as gateway:

        async def used():
            async with gateway.session.get(f"{gateway.url}/metrics") as reply:
                text = await reply.text()
            (line,) = [one for one in text.splitlines() if one.startswith("irisgate_quota_used_ratio{")]
            return float(line.split()[-1])

        async def is_free():
            return await used() == 0

        async with held_stream(gateway, bedrock_sim, max_tokens=100_000) as (reply, gate):
            assert await used() > 0.5
            gate.let_pass(100)
            await reply.content.read()
        await eventually(is_free)


async def test_sigterm_lets_streams_of_workers_end(tmp_path, bedrock_sim):
    async with family(tmp_path, *configuration(tmp_path, bedrock_sim.url), *WORKERS) as gateway:
        async with held_stream(gateway, bedrock_sim) as (reply, gate):
            gateway.process.send_signal(signal.SIGTERM)
            await gateway.line("gateway.draining")
            gate.let_pass(100)
            assert b"[DONE]" in await reply.content.read()
        assert await asyncio.wait_for(gateway.process.wait(), 60) == 0
        await gateway.reading
        assert [entry["outcome"] for entry in gateway.entries("call.finished")] == ["ok"]
        assert [entry["status"] for entry in gateway.entries("worker.ended")] == [0, 0]


async def test_a_second_sigterm_ends_streams_of_workers(tmp_path, bedrock_sim):
    async with family(tmp_path, *configuration(tmp_path, bedrock_sim.url), *WORKERS) as gateway:
        async with held_stream(gateway, bedrock_sim) as (reply, _):
            gateway.process.send_signal(signal.SIGTERM)
            await gateway.line("gateway.draining")
            gateway.process.send_signal(signal.SIGTERM)
            assert b"error" in await asyncio.wait_for(reply.content.read(), 60)
        assert await asyncio.wait_for(gateway.process.wait(), 60) == 0
        await gateway.reading
        assert [entry["outcome"] for entry in gateway.entries("call.finished")] == ["failed"]


@pytest.mark.parametrize("number", ["0", "-1", "two", ""])
async def test_a_wrong_number_of_workers_is_an_error_of_usage(tmp_path, bedrock_sim, number):
    status, _, err = await irisgate(tmp_path, *configuration(tmp_path, bedrock_sim.url), f"--workers={number}")
    assert (status, "write a number from 1 on, or auto" in err, "Traceback" in err) == (2, True, False)
