"""Tests of workers with further features: discovered models, stored bodies, `storage.sync` and Ctrl-C."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack

from tests.end_to_end.test_discovered_models import LITE, filled
from tests.end_to_end.test_handover import finish, held_stream
from tests.end_to_end.test_restarts import configuration
from tests.end_to_end.test_workers import WORKERS, changed
from tests.helpers.gateway import NOVA
from tests.helpers.processes import START_SECONDS, family
from tests.helpers.waiting import eventually

LARGE = "x" * 500_000
"""A text that does not fit into the buffers of a socket."""
STREAMS = 6
BODIES = {"save_raws": True, "max_bytes": 524_288}


async def bodies(gateway, call):
    """Wait until the bodies of the call with the id `call` are stored. Return the request body."""

    async def stored():
        async with gateway.session.get(f"{gateway.url}/api/calls/{call}/bodies") as reply:
            return (await reply.json())["request"]["body"] if reply.status == 200 else None

    return await eventually(stored)


async def test_models_of_all_workers_are_those_of_the_last_search(tmp_path, bedrock_sim):
    arguments = configuration(tmp_path, bedrock_sim.url)
    filled(bedrock_sim)
    changed(tmp_path, lambda document: document["providers"]["b"].update(models="discover"))

    async def are(status, model):
        replies = await asyncio.gather(*(gateway.chat(model=model) for _ in range(10)))
        return {reply for reply, _ in replies} == {status}

    async with family(tmp_path, *arguments, *WORKERS) as gateway:
        await eventually(lambda: are(200, NOVA))
        assert await are(404, "us.amazon.nova-micro-v1:0")
        bedrock_sim.listing.add_model("amazon.nova-micro-v1:0")
        os.kill(gateway.current, signal.SIGHUP)
        await eventually(lambda: are(200, "amazon.nova-micro-v1:0"))
        assert await are(200, LITE)


async def test_ctrl_c_loses_no_body_and_no_record(tmp_path, bedrock_sim):
    """Check that the record and the bodies of each open stream are stored if Ctrl-C stops the gateway.

    Ctrl-C signals the main process and all workers.
    """
    arguments = configuration(tmp_path, bedrock_sim.url)
    changed(tmp_path, lambda document: document.update(storage={"sync": True}, database=BODIES))
    message = [{"role": "user", "content": LARGE}]
    async with family(tmp_path, *arguments, *WORKERS) as gateway:
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(held_stream(gateway, bedrock_sim, messages=message))
                for _ in range(STREAMS)
            ]
            os.killpg(gateway.process.pid, signal.SIGINT)
            await gateway.line("gateway.draining")
            await asyncio.gather(*(finish(reply, gate) for reply, gate in streams))
        assert await asyncio.wait_for(gateway.process.wait(), START_SECONDS) == 0
        await gateway.reading
        assert [entry["status"] for entry in gateway.entries("worker.ended")] == [0, 0]
    async with family(tmp_path, *arguments, *WORKERS) as gateway:
        calls = await gateway.stored(STREAMS)
        assert [call["outcome"] for call in calls] == ["ok"] * STREAMS
        for call in calls:
            assert LARGE in await bodies(gateway, call["id"])
