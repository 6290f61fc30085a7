"""Attacks over HTTP/2: floods of frames, resets, headers that become huge when they are decompressed, and clients that
keep the flow-control window closed.

Each attack ends when the gateway closes the connection or the stream. Meanwhile the gateway serves other clients.
"""

import asyncio
import json
import random
import struct
from contextlib import asynccontextmanager

import pytest

from gateway.testkit import scenarios
from gateway.testkit.scenarios import Scenario
from tests.helpers.gateway import HAIKU, bedrock, gate
from tests.helpers.http2 import ErrorCodes, Reset, http2

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, _, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4
CALM = ErrorCodes.ENHANCE_YOUR_CALM
LIMIT = 1000
"""The default of `control_frames_per_minute`."""
HELLO = json.dumps({"max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], "model": HAIKU}).encode()


def frame(kind, payload=b"", stream=0, flags=0):
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


@pytest.fixture
async def gw(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as running:
        yield running


@asynccontextmanager
async def attacker(gw, **options):
    """Yield a connection to the gateway. Check at the end that the gateway still serves another client."""
    async with http2(gw.url, **options) as client:
        yield client
        async with http2(gw.url) as other:
            assert (await other.get("/healthz"))[0] == 200


def opened(client):
    """Send the head of a request, but no body. Return the number of its stream."""
    return client.ask("/v1/messages", method="POST", ends=False)


FLOODS = {
    "SETTINGS": lambda number: frame(SETTINGS),
    "SETTINGS with values": lambda number: frame(SETTINGS, struct.pack("!HI", 4, 65_535) * 10),
    "SETTINGS acknowledged": lambda number: frame(SETTINGS, flags=1),
    "PING": lambda number: frame(PING, b"12345678"),
    "PING acknowledged": lambda number: frame(PING, b"12345678", flags=1),
    "PRIORITY": lambda number: frame(PRIORITY, struct.pack("!IB", 0, 1), number),
    "WINDOW_UPDATE": lambda number: frame(WINDOW_UPDATE, struct.pack("!I", 1)),
    "WINDOW_UPDATE of a stream": lambda number: frame(WINDOW_UPDATE, struct.pack("!I", 1), number),
    "empty DATA": lambda number: frame(DATA, stream=number),
    "DATA of padding": lambda number: frame(DATA, b"\x63" + bytes(99), number, flags=8),
    "DATA of one byte": lambda number: frame(DATA, b"x", number),
    "an unknown type": lambda number: frame(0x77, b"?"),
    "PRIORITY_UPDATE": lambda number: frame(0x10, struct.pack("!I", number) + b"u=1"),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_a_flood_of_frames_ends_the_connection(gw, flood):
    async with attacker(gw) as client:
        number = opened(client)
        client.writer.write(flood(number) * (LIMIT + 100))
        assert await client.ended() == CALM
        (line,) = await gw.lines.until("connections.refused")
        assert line["limit"] == "control_frames_per_minute"


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_what_a_client_may_send_ends_nothing(gw, flood):
    async with attacker(gw) as client:
        number = opened(client)
        client.writer.write(flood(number) * 500)
        assert (await client.get("/healthz"))[0] == 200


async def test_a_client_earns_control_frames_by_what_it_reads(tmp_path, bedrock_sim):
    server = {"limits": {"control_frames_per_minute": 100}}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, server=server) as gw, attacker(gw) as client:
        for _ in range(6):
            client.writer.write(frame(PING, b"12345678") * 40)
            await asyncio.gather(*(client.get("/healthz") for _ in range(6)))
        assert client.goaway is None


async def test_rapid_resets_end_the_connection(gw, bedrock_sim):
    bedrock_sim.default = Scenario(stall_after=0)
    async with attacker(gw) as client:
        sent = 0
        while client.goaway is None and sent < 1000:
            for _ in range(50):
                number = client.ask("/v1/messages", HELLO)
                client.h2.reset_stream(number, ErrorCodes.CANCEL)
                sent += 1
            client.flush()
            await asyncio.sleep(0)
        assert await client.ended() == CALM
        assert len(bedrock_sim.requests) <= 200
        (line,) = await gw.lines.until("connections.refused")
        assert line["limit"] == "resets_per_minute"


async def test_resets_that_a_client_provokes_end_the_connection(gw):
    """Check that "MadeYouReset" (CVE-2025-8671) ends the connection: the client breaks a rule in many streams, so that
    the gateway resets these streams.
    """
    async with attacker(gw) as client:
        for _ in range(300):
            number = client.ask("/v1/messages", method="POST", ends=False)
            client.writer.write(frame(WINDOW_UPDATE, struct.pack("!I", 2**31 - 1), number))
            await asyncio.sleep(0)
        assert await client.ended() == CALM


async def test_malformed_requests_end_the_connection(gw):
    async with attacker(gw) as client:
        for _ in range(300):
            client.ask("/healthz", headers=[("connection", "close")])
        assert await client.ended() == CALM


async def test_further_streams_are_refused(gw, bedrock_sim):
    bedrock_sim.default = Scenario(stall_after=1)
    async with attacker(gw) as client:
        client.h2.remote_settings.max_concurrent_streams = 1000
        numbers = [client.ask("/v1/messages", method="POST", ends=False) for _ in range(101)]
        with pytest.raises(Reset) as failure:
            await client.reply(numbers[-1])
        assert failure.value.args == (ErrorCodes.REFUSED_STREAM,)
        assert client.goaway is None


async def test_a_head_of_many_frames_is_not_decompressed(gw):
    async with attacker(gw) as client:
        client.writer.write(frame(HEADERS, b"\x00", 1) + frame(CONTINUATION, b"\x00" * 16_384, 1) * 10)
        assert await client.ended() == CALM


async def test_a_head_of_empty_frames_ends_the_connection(gw):
    async with attacker(gw) as client:
        client.writer.write(frame(HEADERS, b"\x00", 1) + frame(CONTINUATION, b"", 1) * 100)
        assert await client.ended() in {CALM, ErrorCodes.PROTOCOL_ERROR}


async def test_a_bomb_of_headers_ends_the_connection(gw):
    """Check that the gateway closes a connection on which a small header block would become huge (CVE-2016-6581).

    The client sends one long header and then repeats it 12,000 times by HPACK references of one byte.
    """
    async with attacker(gw) as client:
        value = b"a" * 4000
        long = b"\x40\x01x" + b"\x7f" + bytes([0xA1, 0x1E]) + value  # 4000 in HPACK's integers
        client.writer.write(frame(HEADERS, long + b"\xbe" * 12_000, 1, END_STREAM | END_HEADERS))
        assert await client.ended() in {CALM, ErrorCodes.COMPRESSION_ERROR}


@pytest.mark.parametrize("length", [16_385, 2**24 - 1])
async def test_a_frame_that_is_too_long_is_not_read(gw, length):
    async with attacker(gw) as client:
        client.writer.write(struct.pack("!I", length)[1:] + bytes(6))
        assert await client.ended() == ErrorCodes.FRAME_SIZE_ERROR


async def test_clients_without_a_window_delay_no_others(gw, bedrock_sim):
    bedrock_sim.default = scenarios.text("word " * 10_000)
    async with attacker(gw, window=0) as client:
        numbers = [client.ask("/v1/messages", HELLO) for _ in range(10)]
        async with http2(gw.url) as other:
            for _ in range(5):
                assert (await other.get("/healthz"))[0] == 200
        await client.until(lambda: all(client.heads(number) for number in numbers))
        assert not any(map(client.body, numbers))


async def test_a_client_that_pushes_is_ended(gw):
    async with attacker(gw) as client:
        client.writer.write(frame(PUSH_PROMISE, struct.pack("!I", 2), 1, END_HEADERS))
        assert await client.ended() == ErrorCodes.PROTOCOL_ERROR


async def test_random_frames_break_nothing(gw):
    """Check that frames with random types, flags, streams and contents raise no exception in the event loop."""
    loop, crashes = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _loop, context: crashes.append(context))
    dice = random.Random(2)
    for _ in range(150):
        async with http2(gw.url) as client:
            if dice.random() < 0.7:
                opened(client)
            for _ in range(5):
                kind, stream = dice.choice([*range(11), 0x77]), dice.choice([0, 1, 1, 2, 3])
                size = dice.choice([0, 1, 4, 5, 6, 8, 20, 200])
                client.writer.write(frame(kind, dice.randbytes(size), stream, dice.choice([0, 1, 4, 5, 8, 32, 255])))
            client.writer.write(frame(0x77, dice.randbytes(20)))
            await asyncio.sleep(0)
    async with http2(gw.url) as client:
        assert (await client.get("/healthz"))[0] == 200
    assert crashes == []
    await gw.log_is_written()
    assert not gw.lines.entries("call.crashed")
