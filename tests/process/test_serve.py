"""Tests of the gateway in the tests' own process: stopping it with calls in flight, and what is left afterwards."""

import asyncio
import gc
import json
import threading
import time
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web_app

from gateway.config.load import loads
from gateway.contract.registry import discover
from gateway.process.serve import CannotStart, listening
from gateway.store.journal import require_unlocked
from gateway.telemetry.log import configure
from gateway.testkit import scenarios
from gateway.upstream.client import Upstream
from tests.helpers.gateway import EVERYTHING, HAIKU, Lines, bedrock, gate
from tests.helpers.waiting import eventually

CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}], "stream": True}


def document(url="http://127.0.0.1:9", drain=0.2, **more):
    return {
        "providers": {"b": bedrock(url, **more)},
        "grants": EVERYTHING,
        "server": {"listeners": [{"listen": "127.0.0.1:0"}], "drain_seconds": drain},
    }


@asynccontextmanager
async def held_stream(state, simulated, drain):
    """Begin a stream that pauses after its first bytes, and then stop the gateway. Yield the gateway, the reply, the
    task that stops it, and the log lines.
    """
    simulated.script(scenarios.replace(scenarios.NAMED["text"], gate=scenarios.Gate()))
    loaded = loads(json.dumps(document(simulated.url, drain)))
    lines = Lines()
    async with aiohttp.ClientSession() as session:
        running_context = listening(loaded.config, discover(), state=state, log=configure(lines))
        running = await running_context.__aenter__()
        async with session.post(f"{running.urls[0]}/v1/chat/completions", json=CHAT) as reply:
            await reply.content.readany()
            stopping = asyncio.create_task(running_context.__aexit__(None, None, None))
            yield running, reply, stopping, lines
            await stopping


async def test_a_stop_ends_within_the_drain_time_and_is_announced(tmp_path, bedrock_sim):
    """Check that a stop takes no longer than the drain time, and that clients get an error that announces it."""
    begun = time.monotonic()
    async with held_stream(tmp_path, bedrock_sim, 0.3) as (_, reply, stopping, lines):
        rest = await reply.content.read()
        await stopping
    assert 0.3 <= time.monotonic() - begun < 15
    assert b'"error"' in rest
    (call,) = await lines.until("call.finished")
    assert call["outcome"] == "failed"


async def test_a_gateway_that_has_stopped_leaves_no_thread(tmp_path, bedrock_sim):
    before = set(threading.enumerate())
    config = loads(json.dumps(document(bedrock_sim.url))).config
    async with (
        listening(config, discover(), state=tmp_path, log=configure(Lines())) as running,
        aiohttp.ClientSession(running.urls[0]) as session,
        session.post("/v1/chat/completions", json=CHAT) as reply,
    ):
        assert b"[DONE]" in await reply.read()
    del running
    # aiohttp would keep the application
    web_app._cached_build_middleware.cache_clear()

    def left():
        gc.collect()
        return {thread.name for thread in set(threading.enumerate()) - before}

    await eventually(lambda: "log-writer" not in left())


async def test_who_is_in_a_hurry_does_not_wait_for_calls(tmp_path, bedrock_sim):
    begun = time.monotonic()
    async with held_stream(tmp_path, bedrock_sim, 60) as (running, _, stopping, _):
        await eventually(lambda: running.gateway.draining)
        assert not stopping.done()
        running.hurry.set()
    assert time.monotonic() - begun < 30


async def test_a_part_that_fails_to_close_skips_no_other(tmp_path, monkeypatch):
    async def fail(_upstream):
        raise OSError("the connections do not close")

    monkeypatch.setattr(Upstream, "close", fail)
    config = loads(json.dumps(document())).config
    with pytest.raises(OSError, match="the connections do not close"):
        async with listening(config, discover(), state=tmp_path, log=configure(Lines())) as running:
            port = int(running.urls[0].rpartition(":")[2])
    require_unlocked(tmp_path / "journal")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_connection_without_a_call_delays_no_stop(tmp_path):
    begun = time.monotonic()
    async with gate(tmp_path, {}, server={"drain_seconds": 60}) as gw:
        await gw.get("/healthz")
    assert time.monotonic() - begun < 30


async def test_the_file_of_a_unix_socket_goes_with_the_gateway(tmp_path):
    path = tmp_path / "s"
    listeners = [{"listen": f"unix:{path}", "identity": "loopback"}]
    async with gate(tmp_path, {}, server={"listeners": listeners}):
        assert path.is_socket()
        with pytest.raises(CannotStart, match="address in use"):
            async with gate(tmp_path / "other", {}, server={"listeners": listeners}):
                pass
        assert path.is_socket()
    assert not path.exists()


@pytest.mark.parametrize("name", ["session.key", "irisgate.db"])
async def test_what_cannot_be_used_in_the_state_folder_is_named(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(CannotStart) as caught:
        async with gate(tmp_path, {}):
            pass
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)
