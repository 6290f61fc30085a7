"""Crowds of slow connections: all are gone by their deadlines, while calls go through."""

import asyncio
import json
import resource
import socket
import sys
from contextlib import suppress
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.call import request_body
from gateway.web import connections as connections_module
from tests.helpers import processes
from tests.helpers.gateway import EVERYTHING, HAIKU, bedrock, gate
from tests.helpers.processes import environment
from tests.helpers.raw_http import Raw, raw_connections  # noqa: F401 (a fixture of every test here)
from tests.helpers.waiting import eventually

CROWD = 200
SECONDS = 0.5
"""Value of every deadline in these tests."""
GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n{"
LARGE = b"GET /aperture/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 60
KINDS = {
    # first bytes, and the bytes that follow one after the other
    "silent": (b"", b""),
    "half a head": (GET, b""),
    "a dripped head": (GET + b"X: ", b"x" * 1000),
    "half a body": (POST, b""),
    "a dripped body": (POST, b" " * 1000),
    "idle": (GET + b"\r\n", b""),
    "an unread reply": (LARGE, b""),
}
CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}]}


async def dripped(raw, data):
    with suppress(ConnectionError):
        for byte in data:
            raw.writer.write(bytes([byte]))
            await raw.writer.drain()
            await asyncio.sleep(SECONDS / 5)


async def calls(running, stop):
    """Make calls one after the other, of which each must succeed, until `stop` is set."""
    while not stop.is_set():
        assert (await running.post("/v1/chat/completions", CHAT)).status == 200
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_crowd_of_slow_connections_is_gone_by_its_deadline(tmp_path, bedrock_sim, monkeypatch, kind):
    monkeypatch.setattr(request_body, "BODY_SECONDS", SECONDS)
    monkeypatch.setattr(request_body, "GRACE_SECONDS", SECONDS)
    monkeypatch.setattr(connections_module, "UNREAD_SECONDS", SECONDS)
    monkeypatch.setattr(connections_module, "CLOSE_SECONDS", SECONDS)
    limits = {"head_seconds": SECONDS, "idle_seconds": SECONDS}
    first, rest = KINDS[kind]
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, server={"limits": limits}) as running:
        place = urlsplit(running.url)
        crowd = [await Raw.open(place.hostname, place.port, first=first) for _ in range(CROWD)]
        if kind == "an unread reply":
            for raw in crowd:
                raw.writer.transport.pause_reading()
        stop = asyncio.Event()
        calling = asyncio.create_task(calls(running, stop))
        dripping = [asyncio.create_task(dripped(raw, rest)) for raw in crowd] if rest else []
        count = running.running.gateway.metrics.registry.get_sample_value
        # the connection of the calls is left
        await eventually(lambda: count("irisgate_connections") <= 1, 20)
        assert not calling.done()
        stop.set()
        await calling
        for task in dripping:
            task.cancel()
        await asyncio.gather(*dripping, return_exceptions=True)
        statuses = {record["status"] for record in running.lines.entries("call.finished")}
        assert statuses <= {200, 408}, statuses
        assert count("irisgate_calls_in_flight") == 0
        assert count("irisgate_buffered_bytes") == 0
        throttled = {"connections.refused", "http.error"}
        assert sum(len(running.lines.entries(event)) for event in throttled) < 10


async def test_five_thousand_connections_leave_a_small_process_alive(tmp_path, bedrock_sim):
    """Check a gateway with 1,024 descriptors while 5,000 connections are opened that send nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 6000:
        pytest.skip("this process may not open 5,000 connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 6000), hard))
    config = tmp_path / "config.hujson"
    config.write_text(json.dumps({"providers": {"b": bedrock(bedrock_sim.url)}, "grants": EVERYTHING}))
    crowd = []
    try:
        command = f"ulimit -n 1024; exec {sys.executable} -m gateway serve --config {config} --listen 127.0.0.1:0 2>&1"
        async with (
            processes.running("sh", "-c", command, cwd=tmp_path, env=environment(tmp_path)) as running,
            # an idle connection makes room for the crowd
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
        ):
            place = urlsplit(running.url)
            for number in range(5000):
                crowd.append(socket.socket())
                crowd[-1].setblocking(False)
                crowd[-1].connect_ex((place.hostname, place.port))
                if number % 1000 == 999:
                    async with session.get(running.url + "/healthz") as reply:
                        assert reply.status == 200
                    async with session.post(running.url + "/v1/chat/completions", json=processes.CHAT) as reply:
                        assert reply.status == 200
            assert len(running.lines) < 100
    finally:
        for each in crowd:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
