"""Tests of limits on the number of calls, and on the bytes of their bodies. A call is refused before its body is read.
An ended call no longer counts.
"""

import asyncio
import gzip
import json
from urllib.parse import urlsplit

import pytest

from gateway.call import request_body
from tests.helpers.gateway import CAP, HAIKU, bedrock, gate
from tests.helpers.raw_http import Raw, raw_connections  # noqa: F401 (a fixture of every test here)
from tests.helpers.waiting import eventually

CONVERSE = f"/bedrock/model/{HAIKU}/converse"
HEAD = "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n{length}\r\n\r\n"
ROADS = ("/v1/messages", "/v1/chat/completions", "/v1/responses", CONVERSE)
GRANTS = [{"src": ["*"], "app": {CAP: [{"role": "user"}, {"models": "**"}, {"read_metrics": True}]}}]


def gated(state, sim, **limits):
    listeners = [
        {"listen": "127.0.0.1:0"},
        {"listen": "127.0.0.2:0", "identity": "static", "login": "bob@example.com"},
    ]
    server = {"listeners": listeners, "limits": limits, "drain_seconds": 0.1}
    return gate(state, {"b": bedrock(sim.url)}, grants=GRANTS, server=server)


async def uploading(running, path=CONVERSE, *, size=1000, at=0, chunked=False):
    """Begin a call, and return its connection when the gateway waits for the rest of the body."""
    place = urlsplit(running.running.urls[at])
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    raw = await Raw.open(place.hostname, place.port, first=HEAD.format(path=path, length=length).encode())
    assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    return raw


async def refusal(raw):
    status, headers, body = await raw.reply()
    return status, headers.get("retry-after"), body.decode()


def held(running):
    value = running.running.gateway.metrics.registry.get_sample_value
    return value("irisgate_calls_in_flight"), value("irisgate_buffered_bytes")


@pytest.mark.parametrize("path", ROADS)
async def test_a_call_over_the_limit_is_refused_in_its_dialect_before_its_body(tmp_path, bedrock_sim, path):
    async with gated(tmp_path, bedrock_sim, calls=2) as running:
        first, second = [await uploading(running) for _ in range(2)]
        await eventually(lambda: held(running) == (2, 2000))
        status, again, body = await refusal(await uploading(running, path))
        assert (status, again) == (503, "1")
        assert "2 calls in flight already" in json.loads(body).get("message", body)
        for raw in (first, second):
            await raw.close()
        await eventually(lambda: held(running) == (0, 0))
        assert (await running.lines.until("calls.refused"))[0]["limit"] == "calls"


async def test_one_caller_does_not_take_the_places_of_others(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim, calls_per_identity=1) as running:
        await uploading(running)
        await eventually(lambda: held(running)[0] == 1)
        status, again, body = await refusal(await uploading(running))
        assert (status, again, "(loopback) has 1 calls in flight" in body) == (429, "1", True)
        await uploading(running, at=1)
        await eventually(lambda: held(running)[0] == 2)


async def test_bodies_share_a_budget_by_their_announced_length(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim, buffer_bytes=10_000) as running:
        large = await uploading(running, size=9000)
        await eventually(lambda: held(running) == (1, 9000))
        status, again, body = await refusal(await uploading(running, size=1001, at=1))
        assert (status, again, "10000 bytes" in body) == (503, "1", True)
        await uploading(running, size=1000, at=1)
        await large.close()
        await eventually(lambda: held(running) == (1, 1000))


@pytest.mark.parametrize("coding", ["chunked", "gzip"])
async def test_a_body_of_unknown_length_is_counted_as_it_comes(tmp_path, bedrock_sim, coding):
    async with gated(tmp_path, bedrock_sim, buffer_bytes=10_000) as running:
        if coding == "gzip":
            data = gzip.compress(b" " * 20_000)
            reply = await running.post(CONVERSE, data, headers={"content-encoding": "gzip"})
            status, body = reply.status, await reply.text()
        else:
            raw = await uploading(running, chunked=True)
            raw.writer.write(b"1000\r\n" + b" " * 4096 + b"\r\n")
            await eventually(lambda: held(running) == (1, 4096))
            raw.writer.write(b"2000\r\n" + b" " * 8192 + b"\r\n")
            status, _, body = await refusal(raw)
        assert (status, "10000 bytes" in body) == (503, True)
        await eventually(lambda: held(running) == (0, 0))


async def test_a_finished_call_gives_its_bytes_back_in_every_way_to_end(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim) as running:
        messages = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
        for path, body in (
            (CONVERSE, messages),
            (CONVERSE.replace("converse", "converse-stream"), messages),
            (CONVERSE, {"messages": "no"}),
            (CONVERSE, b"{"),
            ("/bedrock/model/none/converse", messages),
        ):
            await running.post(path, body)
            await eventually(lambda: held(running) == (0, 0))


async def test_health_metrics_and_pages_go_through_in_an_overload(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim, calls=1) as running:
        await uploading(running)
        await eventually(lambda: held(running)[0] == 1)
        for path in ("/healthz", "/readyz", "/metrics", "/api/whoami", "/v1/models"):
            assert (await running.get(path)).status == 200, path


async def test_limits_are_those_of_the_current_configuration(tmp_path, bedrock_sim):
    """Check that a change of the configured limits applies to calls that begin after the change."""
    from gateway.call.admission import Admission
    from gateway.config.server import Limits
    from gateway.contract.errors import Refused

    async with gated(tmp_path, bedrock_sim) as running:
        gateway = running.running.gateway
        limits = Limits(calls=1)
        gateway.metrics.admission = lambda *_: None
        admission = Admission(lambda: limits, gateway.metrics, gateway.log)
        admission.enter("a", 0)
        with pytest.raises(Refused):
            admission.enter("a", 0)
        limits = Limits(calls=2)
        admission.enter("a", 0)


@pytest.mark.parametrize("path", ROADS)
async def test_a_dripped_body_has_a_slowest_rate(tmp_path, bedrock_sim, monkeypatch, path):
    monkeypatch.setattr(request_body, "GRACE_SECONDS", 0.3)
    async with gated(tmp_path, bedrock_sim, body_bytes_per_second=1000) as running:
        raw = await uploading(running, path, size=1_000_000)

        async def drip():
            while True:
                raw.writer.write(b" ")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        status, _, body = await raw.reply()
        dripping.cancel()
        assert (status, b"too slowly" in body) == (408, True)
        await eventually(lambda: held(running) == (0, 0))


async def test_one_caller_gets_half_of_the_room_for_bodies(tmp_path, bedrock_sim):
    async with gated(tmp_path, bedrock_sim, buffer_bytes=10_000) as running:
        await uploading(running, size=4000)
        await eventually(lambda: held(running) == (1, 4000))
        assert (await refusal(await uploading(running, size=1001)))[0] == 503
        await uploading(running, size=5000, at=1)
        await eventually(lambda: held(running) == (2, 9000))
