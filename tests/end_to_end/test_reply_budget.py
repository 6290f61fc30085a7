"""Tests that the buffered bytes of replies count in the same memory budget as request bodies. They no longer count
after the reply.
"""

import asyncio
import gzip
import json

import pytest

from tests.helpers.every_client import (
    CLIENTS,
    EVENTS,
    FLAGS,
    LONG_FRAME,
    ends_with_an_error,
    gated,
    head,
    streamed,
    whole,
)
from tests.helpers.gateway import bedrock, gate
from tests.helpers.raw_http import Raw
from tests.helpers.raw_provider import chunk, sends
from tests.helpers.waiting import eventually

BUDGET = {"limits": {"buffer_bytes": 400_000}}
PIECE = b"x" * 50_000
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def held(gw):
    value = gw.running.gateway.metrics.registry.get_sample_value
    return value("irisgate_buffered_bytes"), value("irisgate_calls_in_flight")


def endless(flag):
    """Return the first bytes of an event in the format of `flag`. The event is never completed."""
    return LONG_FRAME if flag.startswith("bedrock") else b"data: "


@pytest.mark.parametrize("with_events", [False, True], ids=["first", "later"])
async def test_an_event_without_an_end_is_refused_by_the_budget(tmp_path, with_events):
    for client, (flag, *_) in CLIENTS.items():
        path, body = streamed(client)
        content_type, events, _ = EVENTS[flag]
        before = (chunk(events),) if with_events else ()
        play = sends(head(content_type), *before, chunk(endless(flag)), drip=chunk(PIECE), every=0)
        async with gated(tmp_path / client, {flag: play}, server=BUDGET) as (gw, peers):
            reply = await asyncio.wait_for(gw.post(path, body), 30)
            assert reply.status == (200 if with_events else 503)
            assert (with_events, ends_with_an_error(path, reply.body)) in {
                (True, True),
                (False, "converse" not in path),
            }
            assert with_events or reply.headers["retry-after"] == "1"
            (record,) = await gw.calls()
            assert (record["outcome"], record["error"]) == ("failed", "unavailable")
            await eventually(lambda gw=gw: held(gw) == (0, 0))
            await eventually(lambda peer=peers[flag]: peer.closed == 1)
            assert (await gw.lines.until("calls.refused"))[0]["limit"] == "buffer_bytes"


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 500000\r\n\r\n", b"Connection: close\r\n\r\n"], ids=["length", "none"]
)
async def test_a_whole_reply_beyond_the_budget_is_a_503(tmp_path, framing):
    play = sends(JSON + framing, drip=PIECE, every=0)
    async with gated(tmp_path, dict.fromkeys(FLAGS, play), server=BUDGET) as (gw, _):
        for client in CLIENTS:
            path, body = whole(client)
            reply = await asyncio.wait_for(gw.post(path, body), 30)
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            await eventually(lambda: held(gw) == (0, 0))
        assert {record["outcome"] for record in await gw.calls(len(CLIENTS))} == {"failed"}


async def test_long_events_are_counted_while_they_are_incomplete(tmp_path):
    """Check that the bytes of an incomplete event count in the memory budget until the event is passed on. An event
    within the budget is delivered.
    """
    go_on = asyncio.Event()

    async def play(writer):
        writer.write(head("text/event-stream") + chunk(b'data: {"x": "' + PIECE * 3))
        await go_on.wait()
        writer.write(chunk(b'"}\n\ndata: [DONE]\n\n') + b"0\r\n\r\n")

    async with gated(tmp_path, {"openai_chat": play}, server=BUDGET) as (gw, _):
        call = asyncio.create_task(gw.post(*streamed("chat native")))
        await eventually(lambda: held(gw)[0] > 150_000)
        go_on.set()
        assert len((await call).body) > 150_000
        await eventually(lambda: held(gw) == (0, 0))


async def test_a_reply_that_nobody_reads_counts_until_its_client_is_gone(tmp_path):
    text = "y" * 8_000_000
    reply = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": text}}]}
    data = json.dumps(reply).encode()
    play = sends(JSON + b"Content-Length: %d\r\n\r\n" % len(data), data)
    async with gated(tmp_path, {"openai_chat": play}) as (gw, _):
        path, body = whole("chat native")
        raw = await Raw.open("127.0.0.1", int(gw.url.rpartition(":")[2]))
        sent = json.dumps(body).encode()
        raw.writer.write(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(sent)}\r\n\r\n".encode() + sent
        )
        raw.writer.transport.pause_reading()
        (record,) = await gw.calls()
        assert record["outcome"] == "ok"
        assert held(gw)[0] > len(text)
        raw.writer.transport.abort()
        await eventually(lambda: held(gw) == (0, 0))


@pytest.mark.parametrize("codings", [1, 2])
async def test_a_body_beyond_the_budget_only_when_decoded_is_a_503(tmp_path, bedrock_sim, codings):
    body = b" " * 30_000_000
    for _ in range(codings):
        body = gzip.compress(body, 1)
    limits = {"limits": {"buffer_bytes": 4_000_000}}
    headers = {"content-encoding": ", ".join(["gzip"] * codings)}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, server=limits) as gw:
        reply = await gw.post("/v1/messages", body, headers=headers)
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        await eventually(lambda: held(gw) == (0, 0))


async def test_a_provider_has_a_limit_of_calls_in_flight(tmp_path):
    """Check that a call is refused if its provider has the maximum number of calls in flight.

    Calls of other providers are served, and so are later calls of this provider.
    """
    plays = dict.fromkeys(FLAGS, sends())
    async with gated(tmp_path, plays, calls_in_flight=1) as (gw, peers):
        waiting = {}
        for client, (flag, *_) in CLIENTS.items():
            if flag not in waiting:
                waiting[flag] = asyncio.create_task(gw.post(*whole(client)))
        await eventually(lambda: all(peer.requests == 1 for peer in peers.values()))
        for client, (flag, *_) in CLIENTS.items():
            for request in (whole, streamed):
                reply = await gw.post(*request(client))
                assert (reply.status, reply.headers["retry-after"]) == (503, "1")
                assert f'provider \\"{flag}\\" has 1 calls in flight already' in reply.body.decode()
        assert all(peer.requests == 1 for peer in peers.values())
        metrics = await (await gw.get("/metrics")).text()
        assert 'irisgate_provider_calls_in_flight{provider="openai_chat"} 1.0' in metrics
        assert 'irisgate_calls_refused_total{limit="providers.openai_chat.calls_in_flight"} 4.0' in metrics
        waiting["openai_chat"].cancel()
        await eventually(lambda: peers["openai_chat"].closed == 1)
        again = asyncio.create_task(gw.post(*whole("chat native")))
        await eventually(lambda: peers["openai_chat"].requests == 2)
        for task in (*waiting.values(), again):
            task.cancel()
