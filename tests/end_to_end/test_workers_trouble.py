"""Tests in which workers, or the keeper (the main process of a gateway with workers), are killed or replaced under
load.

No call may be lost or charged twice.
"""

import asyncio
import os
import signal
from collections import Counter
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path

from tests.end_to_end.test_handover import finish, held_stream
from tests.end_to_end.test_restarts import SLOW, Load, configuration
from tests.end_to_end.test_workers import WORKERS, is_settled
from tests.helpers.processes import family
from tests.helpers.waiting import eventually

COST = Decimal("0.0000517")


@asynccontextmanager
async def loaded(gateway, tmp_path):
    """Make calls of all kinds during an `async with` block. At the end of the block, wait until each client has
    finished its last call.
    """
    load = Load(gateway.url, str(tmp_path / "http.sock"))
    load.begin()
    await eventually(lambda: len(load.ids) > 2 * len(load.tasks), 60)
    yield load
    await load.end()


async def more_calls(load):
    """Wait until each client has made some more calls."""
    before = len(load.ids)
    await eventually(lambda: len(load.ids) > before + 2 * len(load.tasks), 60)


def workers(gateway):
    """Return the process ids of the workers that are alive, the oldest first."""
    ended = {entry["process"] for entry in gateway.entries("worker.ended")}
    started = [entry["process"] for entry in gateway.entries("worker.started")]
    return [process for process in started if process not in ended]


async def test_a_killed_worker_costs_only_its_open_calls(tmp_path, bedrock_sim):
    bedrock_sim.default = SLOW
    async with family(tmp_path, *configuration(tmp_path, bedrock_sim.url), *WORKERS) as gateway:
        async with loaded(gateway, tmp_path) as load:
            os.kill(workers(gateway)[0], signal.SIGKILL)
            await eventually(lambda: len(gateway.entries("worker.started")) == 3, 60)
            await more_calls(load)
            faults = len(load.faults)
            await more_calls(load)
            assert len(load.faults) == faults > 0
        (ended,) = gateway.entries("worker.ended")
        assert (ended["status"], ended["reason"]) == (-9, "it was killed by signal 9")
        await eventually(lambda: gateway.entries("calls.lost"))
        (lost,) = gateway.entries("calls.lost")
        # a client may have got a whole reply whose record was not written; it saw no fault
        assert 0 < lost["calls"] <= faults
        count = len(load.ids) + lost["calls"]
        await is_settled(gateway, count)
        calls = await gateway.stored(count)
    assert Counter(call["outcome"] for call in calls) == {"ok": len(load.ids), "lost": lost["calls"]}
    assert {call["id"] for call in calls if call["outcome"] == "ok"} == set(load.ids)
    assert all(call["charges_usd"]["all"] > 0 for call in calls)


async def test_workers_end_with_their_keeper_and_nothing_is_lost(tmp_path, bedrock_sim):
    """Check that after the keeper (the main process) was killed, its workers end, and the next gateway has all records.

    These include the records of calls that ended after the keeper was killed.
    """
    arguments = configuration(tmp_path, bedrock_sim.url)
    async with family(tmp_path, *arguments, *WORKERS) as gateway:
        processes = workers(gateway)
        statuses = [(await gateway.chat())[0] for _ in range(20)]
        async with held_stream(gateway, bedrock_sim) as (reply, gate):
            gateway.process.kill()
            await eventually(lambda: is_free(gateway.url))
            await finish(reply, gate)
        await eventually(lambda: not any(map(is_alive, processes)))
    async with family(tmp_path, *arguments, *WORKERS) as gateway:
        statuses += [(await gateway.chat())[0] for _ in range(20)]
        await is_settled(gateway, 41)
    assert statuses == [200] * 40


def is_alive(process):
    """Return whether a process is alive. A zombie (a process that has ended, but was not waited for) is not."""
    try:
        return Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def is_free(url):
    """Return whether nothing listens at the address."""
    host, port = url.removeprefix("http://").split(":")
    with suppress(OSError):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        return False
    return True


async def test_a_keeper_killed_under_load_loses_no_ended_call(tmp_path, bedrock_sim):
    arguments = configuration(tmp_path, bedrock_sim.url)
    async with family(tmp_path, *arguments, *WORKERS) as gateway:
        load = Load(gateway.url, str(tmp_path / "http.sock"))
        load.begin()
        await more_calls(load)
        os.kill(gateway.process.pid, signal.SIGKILL)
        load.is_over = True
        await asyncio.gather(*load.tasks, return_exceptions=True)
        await eventually(lambda: is_free(gateway.url))
    whole = set(load.ids)
    async with family(tmp_path, *arguments, *WORKERS) as gateway:
        calls = await gateway.stored(len(whole))
        assert whole - {None} <= {call["id"] for call in calls}
        await is_settled(gateway, len(calls))


async def test_a_hand_over_under_load_loses_no_call_of_a_worker(tmp_path, bedrock_sim):
    bedrock_sim.default = SLOW
    async with family(tmp_path, *configuration(tmp_path, bedrock_sim.url), *WORKERS) as gateway:
        async with loaded(gateway, tmp_path) as load:
            for _ in range(2):
                await gateway.restart()
                await more_calls(load)
                assert load.faults == []
        assert load.faults == []
        await is_settled(gateway, len(load.ids))
        calls = await gateway.stored(len(load.ids))
        await gateway.session.close()
        await gateway.end()
    assert Counter(call["id"] for call in calls) == Counter(load.ids)
    assert Counter(entry["id"] for entry in gateway.entries("call.finished")) == Counter(load.ids)
    assert {call["outcome"] for call in calls} == {"ok"}
    assert len(gateway.entries("worker.ended")) == 6
    assert not list((tmp_path / "state" / "journal").glob("replaced-*"))


async def test_a_stream_of_a_worker_outlives_a_hand_over(tmp_path, bedrock_sim):
    """Check a stream of the old process that ends after a hand-over. It must be charged once, to the balance that the
    new process also uses.
    """
    async with family(tmp_path, *configuration(tmp_path, bedrock_sim.url), *WORKERS) as gateway:
        async with held_stream(gateway, bedrock_sim) as (reply, gate):
            await gateway.restart()
            assert (await gateway.chat())[0] == 200
            await finish(reply, gate)
        await is_settled(gateway, 2)
        calls = await gateway.stored(2)
        assert {Decimal(str(call["charges_usd"]["all"])) for call in calls if call["stream"]} == {COST}
