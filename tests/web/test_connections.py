"""Tests that slow, silent and surplus connections are closed while other calls are served."""

import asyncio
import json
import resource
import socket
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from gateway.call.runtime import runtime
from gateway.config.server import Limits
from gateway.telemetry.log import configure
from gateway.telemetry.metrics import Metrics
from gateway.web import connection_limits, reading_timer
from gateway.web import connections as connections_module
from gateway.web.connection_limits import RESERVED_DESCRIPTORS, most_connections
from tests.helpers.gateway import Lines, bedrock, gate
from tests.helpers.hostile_http import crashes
from tests.helpers.raw_http import Raw, raw_connections  # noqa: F401 (a fixture of every test here)
from tests.helpers.waiting import eventually

HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
INVALID = "the request is not valid HTTP/1.1"
TOO_LONG = f'a line of the head is longer than {Limits().header_bytes} bytes ("server.limits.header_bytes")'


def gated(state, sim, **limits):
    return gate(state, {"b": bedrock(sim.url)}, server={"limits": limits})


async def opened(running, first=b""):
    place = urlsplit(running.url)
    return await Raw.open(place.hostname, place.port, first=first)


def answers_with(running, handler):
    """Let the function `handler` answer the requests of all new connections."""
    runner, *_ = running.running.sites._served
    runner.server.request_handler = handler


async def long_reply(_request):
    return web.Response(body=b"x" * 10_000_000)


async def call_in_flight(running):
    """Send the head of a call, and return the connection. The gateway is then waiting for a body of 5 bytes."""
    head = b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    raw = await opened(running, head)
    assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    return raw


async def metric(running, name):
    text = await (await running.get("/metrics")).text()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"irisgate_{name}"))


@pytest.mark.parametrize(
    "first", [b"G", b"GET /healthz HTTP/1.1\r\n", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "]
)
async def test_a_head_that_does_not_end_is_answered_with_408(tmp_path, bedrock_sim, first):
    async with gated(tmp_path, bedrock_sim, head_seconds=0.2) as running:
        raw = await opened(running, first)
        status, _, body = await raw.reply()
        assert (status, "too slowly" in json.loads(body)["error"]) == (408, True)
        assert await raw.ended()
        assert await metric(running, 'connections_refused_total{limit="head_seconds"}') == 1
        (entry,) = await running.lines.until("connections.refused")
        assert entry["limit"] == "head_seconds"


async def test_a_dripped_head_has_one_deadline(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim, head_seconds=0.3) as running:
        raw = await opened(running)

        async def drip():
            for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 1000:
                raw.writer.write(bytes([byte]))
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        assert (await asyncio.wait_for(raw.reply(), 30))[0] == 408
        dripping.cancel()


async def test_a_connection_that_waits_long_between_requests_is_closed(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim, idle_seconds=0.2, head_seconds=0.1) as running:
        silent, used = await opened(running), await opened(running)
        for _ in range(2):
            assert (await used.ask("/healthz"))[0] == 200
        for raw in (silent, used):
            assert await raw.ended()


async def test_a_reload_changes_the_idle_time_of_open_connections(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim, idle_seconds=3600) as running:
        silent, used = await opened(running), await opened(running)
        assert (await used.ask("/healthz"))[0] == 200
        current = running.running.gateway.current
        config = current.runtime.config
        limits = replace(config.server.limits, idle_seconds=0.1)
        current.runtime = runtime(replace(config, server=replace(config.server, limits=limits)))
        for raw in (silent, used):
            assert await raw.ended()


async def test_a_slow_call_is_not_an_idle_connection(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim, idle_seconds=0.1, head_seconds=0.1) as running:
        bedrock_sim.delay = 0.5
        raw = await opened(running)
        path = f"/bedrock/model/{running.running.gateway.runtime.config.providers['b'].models[0]}/converse"
        status, _, _ = await raw.ask(path, {"messages": [{"role": "user", "content": [{"text": "hi"}]}]})
        assert status == 200


async def test_the_connection_that_is_idle_for_longest_makes_room(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim, connections=8) as running:
        idle = [await opened(running) for _ in range(8)]
        assert (await idle[0].ask("/healthz"))[0] == 200
        for _ in range(4):
            assert (await (await opened(running)).ask("/healthz"))[0] == 200
        assert await idle[1].ended()
        assert (await idle[0].ask("/healthz"))[0] == 200


async def test_a_connection_that_makes_room_is_closed_at_once(tmp_path, bedrock_sim):
    """Check that a connection that must make room for a new one is closed at once, even if its client has not read the
    whole reply.

    The gateway does not wait for the client, because the unread bytes take memory.
    """
    size, small = 30_000, 4096

    async def answer(_request):
        return web.Response(body=b"x" * size)

    async with gated(tmp_path, bedrock_sim, connections=8) as running:
        answers_with(running, answer)
        running.running.sites.bounds[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, small)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, small)
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, running.running.sites.bounds[0].socket.getsockname())
            await asyncio.get_running_loop().sock_sendall(client, HEAD)
            await eventually(lambda: _is_unread(running))
            assert [(await (await opened(running)).ask("/"))[0] for _ in range(8)] == [200] * 8
            reader, writer = await asyncio.open_connection(sock=client)
            with suppress(ConnectionResetError):
                assert len(await reader.read()) < size
            writer.close()


def _is_unread(running):
    """Return whether the only connection is idle, although its client has not read the whole reply."""
    (connection,) = running.running.connections._open or [None]
    return connection is not None and connection.has_no_head and connection._raw.get_write_buffer_size() > 0


async def test_a_call_in_flight_never_makes_room(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim, connections=8) as running:
        busy = [await call_in_flight(running) for _ in range(8)]
        refused = await opened(running)
        assert await refused.ended()
        for raw in busy:
            raw.writer.write(b"12345")
            assert (await raw.reply())[0] == 400
        assert (await running.lines.until("connections.refused"))[0]["limit"] == "connections"


async def test_a_client_that_reads_nothing_is_closed_and_makes_room(tmp_path, bedrock_sim, monkeypatch):
    """Check that a client that does not read its reply is disconnected, and that a new connection is then accepted."""
    monkeypatch.setattr(reading_timer, "UNREAD_SECONDS", 0.3)
    async with gated(tmp_path, bedrock_sim, connections=8) as running:
        request = b"GET /aperture/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        for _ in range(8):
            await opened(running, request * 500)
        await eventually(lambda: open_connections(running) == 0)
        assert (await running.get("/healthz")).status == 200


async def test_a_client_that_has_read_its_reply_has_no_deadline_for_reading(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim) as running:
        answers_with(running, long_reply)
        raw = await opened(running, HEAD)
        (connection,) = await eventually(lambda: running.running.connections._open)
        await eventually(lambda: connection._reading._timer is not None)
        assert (await raw.reply())[0] == 200
        await eventually(lambda: connection._reading._timer is None)
        assert (await raw.ask("/"))[0] == 200


async def test_a_request_that_has_begun_is_served_before_its_connection_closes(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim) as running:
        busy = await call_in_flight(running)
        (connection,) = running.running.connections._open
        connection.close()
        busy.writer.write(b"12345")
        assert (await busy.reply())[0] == 400
        assert await busy.ended()


async def test_a_stop_closes_idle_connections_while_it_waits_for_calls(tmp_path, bedrock_sim):
    context = gated(tmp_path, bedrock_sim)
    running = await context.__aenter__()
    busy, idle = await call_in_flight(running), await opened(running)
    assert (await idle.ask("/healthz"))[0] == 200
    stopping = asyncio.create_task(context.__aexit__(None, None, None))
    assert await idle.ended()
    assert not stopping.done()
    busy.writer.write(b"12345")
    assert (await busy.reply())[0] == 400
    await stopping


async def test_a_connection_that_is_closed_waits_for_its_reader_a_bounded_time(tmp_path, bedrock_sim, monkeypatch):
    monkeypatch.setattr(connections_module, "CLOSE_SECONDS", 0.1)

    async with gated(tmp_path, bedrock_sim) as running:
        answers_with(running, long_reply)
        await opened(running, HEAD)
        (connection,) = await eventually(lambda: running.running.connections._open)
        await eventually(lambda: connection._reading._timer is not None)
        connection.force_close()
        await eventually(lambda: open_connections(running) == 0)


def open_connections(running):
    return running.running.gateway.metrics.registry.get_sample_value("irisgate_connections")


async def test_the_rest_of_a_refused_body_is_no_late_head(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim, head_seconds=0.2) as running:
        head = b"POST /v1/messages HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 5\r\n\r\n"
        raw = await opened(running, head + b"12")
        assert (await raw.reply())[0] == 403
        raw.writer.write(b"345")
        # a head that began later, and does not end, is given up first: the deadline of both has then passed
        late = await opened(running, b"GET /")
        await asyncio.wait_for(late.reader.read(), 30)
        assert (await raw.ask("/healthz"))[0] == 200


async def test_a_sweep_looks_once_at_a_connection_with_half_a_head(monkeypatch):
    """Check that one sweep (a check for idle connections) examines each connection only once, even if `idle_seconds` is
    very short.
    """
    now, looks = [0.0], []

    class HalfAHead:
        awaits_head = True

        @property
        def has_no_head(self):
            looks.append(now[0])
            return False

    monkeypatch.setattr(connection_limits, "monotonic", lambda: now[0])
    limits = Limits(idle_seconds=0.01)
    metrics = Metrics(SimpleNamespace(providers={}, metrics=SimpleNamespace(users=0)))
    connections = connection_limits.Connections(lambda: limits, metrics, configure(Lines()))
    assert connections.admit(HalfAHead(), "")
    now[0] = 100.0
    connections._sweep()
    assert looks == [100.0]


def test_half_of_the_descriptors_are_left_for_providers(monkeypatch):
    monkeypatch.setattr(connection_limits.resource, "getrlimit", lambda _: (1025, 1025))
    assert most_connections(Limits()) == (1025 - RESERVED_DESCRIPTORS) // 2
    assert most_connections(Limits(connections=500)) == 500
    assert most_connections(Limits(connections=5000)) == 1025 - RESERVED_DESCRIPTORS
    monkeypatch.setattr(connection_limits.resource, "getrlimit", lambda _: (1_000_000, 1_000_000))
    assert most_connections(Limits()) == connection_limits.MAX_CONNECTIONS


def test_an_address_of_another_machine_has_a_limit_of_its_own():
    """Check that connections from another machine are counted by its address, without the port and the zone.

    Connections over loopback and over unix sockets are not counted by address.
    """
    hosts = [
        connection_limits._remote_host(peer) for peer in (("10.0.0.7", 1), ("fe80::1%eth0", 1, 0, 2), ("::1", 1), "")
    ]
    assert hosts == ["10.0.0.7", "fe80::1", "", ""]


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (b"\x16\x03\x01\x02\x00secret\r\n\r\n", 400, INVALID),
        (b"GET / HTTP/1.1\r\nSecret: a\x00b\r\n\r\n", 400, INVALID),
        (b"GET / HTTP/1.1\r\nSecret" + b"x" * 40_000 + b": 1\r\n\r\n", 431, TOO_LONG),
    ],
)
async def test_a_malformed_request_is_answered_without_an_echo(tmp_path, bedrock_sim, data, status, text):
    async with gated(tmp_path, bedrock_sim) as running:
        raw = await opened(running, data)
        answer, headers, body = await raw.reply()
        assert (answer, headers["content-type"].split(";")[0]) == (status, "application/json")
        assert json.loads(body) == {"error": text}
        assert "secret" not in body.decode().lower()
        assert headers["server"] == "irisgate"
        (entry,) = await running.lines.until("http.error")
        assert entry["request_id"] == headers["x-request-id"]
        assert b"ecret" not in running.lines.data
        assert await raw.ended()


@pytest.mark.parametrize(
    ("error", "status", "kind"), [(RuntimeError("secret"), 500, "RuntimeError"), (TimeoutError(), 504, "504")]
)
async def test_a_request_on_which_the_gateway_fails_gets_a_page(tmp_path, bedrock_sim, error, status, kind):
    async def broken(_request):
        raise error

    async with gated(tmp_path, bedrock_sim) as running:
        answers_with(running, broken)
        raw = await opened(running, HEAD)
        answer, headers, body = await raw.reply()
        assert (answer, json.loads(body)) == (status, {"error": "the gateway failed on this request"})
        (entry,) = await running.lines.until("http.error")
        assert (entry["kind"], entry["request_id"]) == (kind, headers["x-request-id"])
        assert ("RuntimeError: secret" in entry.get("exception", "")) == (status == 500)
        assert await raw.ended()


def a_part_and(error):
    """Return a handler that writes the beginning of a reply, and then raises `error`."""

    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"a part")
        raise error

    return handler


async def test_a_reply_on_which_the_gateway_fails_ends_without_a_second_reply(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim) as running:
        answers_with(running, a_part_and(RuntimeError))
        raw = await opened(running, HEAD)
        data = await asyncio.wait_for(raw.reader.read(), 10)
        assert (data.count(b"HTTP/1.1"), data.endswith(b"a part\r\n")) == (1, True)
        await running.lines.until("http.error")


@pytest.mark.parametrize("is_begun", [False, True])
async def test_a_client_that_leaves_is_no_fault(tmp_path, bedrock_sim, is_begun):
    failed = []

    async def left(request):
        response = web.StreamResponse()
        if is_begun:
            await response.prepare(request)
        request.transport.abort()
        try:
            await response.prepare(request)
            await response.write(b"a part")
        except ConnectionError as error:
            failed.append(error)
            raise

    async with gated(tmp_path, bedrock_sim) as running:
        answers_with(running, left)
        raw = await opened(running, HEAD)
        with suppress(ConnectionResetError):
            await raw.reader.read()
        await eventually(lambda: failed)
        await running.log_is_written()
        assert crashes(running) == []


async def test_a_stream_that_ends_as_incomplete_is_no_fault_of_the_request(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim) as running:
        answers_with(running, a_part_and(ConnectionAbortedError))
        data = await asyncio.wait_for((await opened(running, HEAD)).reader.read(), 10)
        assert data.endswith(b"a part\r\n")
        await running.log_is_written()
        assert crashes(running) == []


async def test_a_connection_that_the_gateway_lost_elsewhere_is_a_fault(tmp_path, bedrock_sim):
    async def broken(_request):
        raise ConnectionResetError("secret")

    async with gated(tmp_path, bedrock_sim) as running:
        answers_with(running, broken)
        answer, _, body = await (await opened(running, HEAD)).reply()
        assert (answer, json.loads(body)) == (500, {"error": "the gateway failed on this request"})
        assert [entry["kind"] for entry in await running.lines.until("http.error")] == ["ConnectionResetError"]


async def test_aiohttp_logs_no_requests(tmp_path, bedrock_sim, caplog):
    """Check that aiohttp logs no requests, even at its log level `INFO`. Its lines would show paths and queries."""
    caplog.set_level("INFO", "aiohttp")
    async with gated(tmp_path, bedrock_sim) as running:
        assert (await (await opened(running)).ask("/healthz?key=secret"))[0] == 200
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


@pytest.mark.parametrize("name", ["Origin", "Host", "Content-Type", "Sec-Fetch-Site"])
async def test_a_header_that_decides_may_come_once_only(tmp_path, bedrock_sim, name):
    async with gated(tmp_path, bedrock_sim) as running:
        raw = await opened(running)
        status, _, body = await raw.ask("/api/whoami", headers=[(name, "127.0.0.1"), (name, "evil.example")])
        words = ("more than once", "not valid HTTP/1.1")
        assert (status, any(word in json.loads(body)["error"] for word in words)) == (400, True)


def test_the_limit_of_descriptors_is_raised_to_the_hard_one(monkeypatch):
    raised = []
    monkeypatch.setattr(connection_limits.resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(connection_limits.resource, "setrlimit", lambda *limit: raised.append(limit))
    connection_limits.raise_descriptor_limit()
    assert raised == [(resource.RLIMIT_NOFILE, (4096, 4096))]
