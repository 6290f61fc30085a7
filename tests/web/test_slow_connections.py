"""Tests of many slow connections: all are closed by their deadlines, while calls succeed."""

import asyncio
import json
import resource
import socket
import sys
from contextlib import suppress
from time import monotonic
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from gateway.call import request_body
from gateway.config.server import Limits
from gateway.telemetry.log import configure
from gateway.telemetry.metrics import Metrics
from gateway.web import connections as connections_module
from gateway.web import reading_timer
from gateway.web.connection_limits import Connections
from gateway.web.http_server import Runner
from tests.helpers import processes
from tests.helpers.gateway import EVERYTHING, Lines, bedrock, gate
from tests.helpers.processes import CHAT, environment
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
LONG = 64 * 1024 * 1024
"""Length of a reply that is too long for the kernel's buffers."""


async def dripped(raw, data):
    with suppress(ConnectionError):
        for byte in data:
            raw.writer.write(bytes([byte]))
            await raw.writer.drain()
            await asyncio.sleep(SECONDS / 5)


async def calls(running, stop):
    """Make calls one after the other until `stop` is set, and check that each succeeds.

    Each call has a new connection. An open connection could have been closed as idle while a busy machine stopped the
    test.
    """
    while not stop.is_set():
        assert (await running.post("/v1/chat/completions", CHAT, headers={"Connection": "close"})).status == 200
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_crowd_of_slow_connections_is_gone_by_its_deadline(tmp_path, bedrock_sim, monkeypatch, kind):
    monkeypatch.setattr(request_body, "BODY_SECONDS", SECONDS)
    monkeypatch.setattr(request_body, "GRACE_SECONDS", SECONDS)
    monkeypatch.setattr(reading_timer, "UNREAD_SECONDS", SECONDS)
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
        # the connection of the present call may be left
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


async def long_reply(_request):
    return web.Response(body=bytes(LONG))


@pytest.mark.parametrize(("least", "is_whole"), [(64 * 1024, True), (2**40, False)])
async def test_a_client_that_reads_a_long_reply_slowly_keeps_its_connection(monkeypatch, least, is_whole):
    """Check a client that takes longer than `UNREAD_SECONDS` to read a reply.

    Its connection is kept if it reads at the minimum rate or faster, and is closed otherwise.
    """
    monkeypatch.setattr(reading_timer, "UNREAD_SECONDS", SECONDS)
    monkeypatch.setattr(reading_timer, "MIN_READ_BYTES", least)
    app = web.Application()
    app.add_routes([web.get("/", long_reply)])
    metrics = Metrics(SimpleNamespace(providers={}, metrics=SimpleNamespace(users=0)))
    limits = Limits()
    runner = Runner(app, Connections(lambda: limits, metrics, configure(Lines())))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        raw = await Raw.open(*runner.addresses[0], first=b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        head = await raw.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        read, began = 0, monotonic()
        with suppress(ConnectionError):
            while piece := await raw.reader.read(min(LONG - read, 512 * 1024)):
                read += len(piece)
                # the deadline passes while most of the reply is not read yet
                await asyncio.sleep(0.01 if monotonic() - began < 3 * SECONDS else 0)
        assert (read == LONG) is is_whole
    finally:
        await runner.cleanup()


async def test_five_thousand_connections_leave_a_small_process_alive(tmp_path, bedrock_sim):
    """Check that a gateway that may open 1,024 file descriptors serves calls in spite of 5,000 connections that send
    nothing.
    """
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
                    async with session.post(running.url + "/v1/chat/completions", json=CHAT) as reply:
                        assert reply.status == 200
            assert len(running.lines) < 100
    finally:
        for each in crowd:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
