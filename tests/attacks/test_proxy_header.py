"""Tests of hostile PROXY headers. Only the first header of a connection counts, and no connection delays others."""

import asyncio
import json
import struct
from contextlib import suppress
from dataclasses import replace

import pytest

from gateway.access.identity import proxy_protocol
from gateway.access.identity.modes import Modes
from gateway.access.identity.proxy_header import LONGEST, SIGNATURE
from gateway.call.runtime import runtime
from gateway.config.server import Listener
from gateway.telemetry.log import configure
from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.tailnet_nodes import Node, User
from tests.helpers.gateway import EVERYTHING, NOVA, Lines, bedrock, gate
from tests.helpers.hostile_http import CONVERSE, CONVERSE_PATH, connected, crashes, post, request
from tests.helpers.raw_http import Raw
from tests.helpers.waiting import eventually

ALICE = Node("laptop.example.ts.net", ("100.64.0.7", "fd7a:115c:a1e0::7"), User("alice@example.com"))
BOB = Node("phone.example.ts.net", ("100.64.0.8",), User("bob@example.com"))
WHOAMI = request("GET /api/whoami HTTP/1.1")
ONE = b"PROXY TCP4 100.64.0.7 127.0.0.1 4711 80\r\n"
BOBS = b"PROXY TCP4 100.64.0.8 127.0.0.1 4712 80\r\n"
HALF_OPEN = 200
PROMPT = 4.0
"""Seconds within which a caller must be served while all other connections are silent."""


def two(source=(100, 64, 0, 7), more=b"", *, command=0x21, family=0x11, length=None):
    """Return a PROXY header of version 2, with the bytes `more` after its addresses."""
    data = struct.pack("!4s4sHH", bytes(source), bytes((127, 0, 0, 1)), 4711, 80) + more
    return SIGNATURE + struct.pack("!BBH", command, family, len(data) if length is None else length) + data


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


@pytest.fixture
async def proxied(tmp_path, bedrock_sim):
    async with LocalApiSim(tmp_path / "tailscaled.sock") as sim:
        # nobody registers late here
        sim.late_seconds = 0
        sim.add(ALICE)
        sim.add(BOB)
        listeners = [{"listen": "127.0.0.1:0", "identity": "proxy-protocol", "tailscaled": str(sim.path)}]
        provider = bedrock(bedrock_sim.url, models=[NOVA])
        async with gate(tmp_path, {"b": provider}, grants=EVERYTHING, server={"listeners": listeners}) as running:
            running.sim = sim
            yield running


async def login(raw):
    status, _, body = await raw.reply()
    return json.loads(body)["login"] if status == 200 else status


@pytest.mark.parametrize("second", [BOBS, two((100, 64, 0, 8))])
async def test_a_second_header_is_no_header(proxied, second):
    for first in (ONE, two()):
        raw = await connected(proxied, first=first + second + WHOAMI)
        assert await login(raw) == 400
        raw = await connected(proxied, first=first + WHOAMI)
        assert await login(raw) == "alice@example.com"
        raw.writer.write(second + WHOAMI)
        assert await login(raw) == 400
        assert await raw.ended()


async def test_a_header_in_a_body_is_a_body(proxied, bedrock_sim):
    for inner in (BOBS, two((100, 64, 0, 8)), BOBS + WHOAMI):
        raw = await connected(proxied, first=ONE)
        head = request(f"POST {CONVERSE_PATH} HTTP/1.1", f"Content-Length: {len(inner)}", body=inner)
        raw.writer.write(head + WHOAMI)
        assert [await login(raw), await login(raw)] == [400, "alice@example.com"]
    raw = await connected(proxied, first=ONE)
    raw.writer.write(post(CONVERSE_PATH, CONVERSE, "X-Proxy: PROXY TCP4 100.64.0.8 127.0.0.1 1 1"))
    assert (await raw.reply())[0] == 200
    assert {record["identity"] for record in await proxied.calls(4)} == {"alice@example.com"}


async def test_what_a_proxy_adds_behind_the_addresses_is_passed_over(proxied):
    added = [
        tlv(0x01, b"h2"),
        tlv(0x02, b"evil.example"),
        tlv(0x04, b"\0" * 500),
        tlv(0x20, b"\x01\0\0\0\0" + tlv(0x21, b"TLSv1.3")),
        tlv(0xEA, b"bob@example.com"),
        b"\xff",
        b"\x01\xff\xff",
        BOBS + WHOAMI,
        two((100, 64, 0, 8)) + WHOAMI,
        b"\0" * (LONGEST - 28),
    ]
    for more in added:
        raw = await connected(proxied, first=two(more=more) + WHOAMI)
        assert await login(raw) == "alice@example.com", more[:20]


@pytest.mark.parametrize(
    "first",
    [
        two(length=0xFFFF),
        two(more=b"\0" * LONGEST),
        two(length=11),
        two(length=0),
        two(command=0x11),
        two(command=0x22),
        two(command=0x31),
        SIGNATURE[:-1] + b"\r" + two()[12:],
        b"PROXY " + b"x" * 200,
        b"PROXY TCP4 " + b"1" * 200 + b"\r\n",
        b"PROXY TCP4 100.64.0.7 127.0.0.1 4711 80\n",
        b"PROXY TCP4 100.64.0.7 127.0.0.1 4711 80\n\r\n",
        b"PROXY TCP4 100.64.0.7\r\n",
        b"PROXY TCP4 100.64.0.7 127.0.0.1 99999 80\r\n",
        b"PROXY TCP4 100.64.0.7 127.0.0.1 -1 80\r\n",
        b"PROXY TCP4 100.064.0.7 127.0.0.1 4711 80\r\n",
        b"PROXY TCP4 100.64.7 127.0.0.1 4711 80\r\n",
        b"PROXY TCP4 fd7a:115c:a1e0::7 ::1 4711 80\r\n",
        b"PROXY TCP6 100.64.0.7 127.0.0.1 4711 80\r\n",
        b"PROXY TCP6 fd7a:115c:a1e0::7%x ::1 4711 80\r\n".replace(b"TCP6", b"TCP4"),
        b"PROXY UDP4 100.64.0.7 127.0.0.1 4711 80\r\n",
        b"PROXY tcp4 100.64.0.7 127.0.0.1 4711 80\r\n",
        b"proxy TCP4 100.64.0.7 127.0.0.1 4711 80\r\n",
        b" PROXY TCP4 100.64.0.7 127.0.0.1 4711 80\r\n",
        b"\r\nPROXY TCP4 100.64.0.7 127.0.0.1 4711 80\r\n",
        b"PROXY  TCP4 100.64.0.7 127.0.0.1 4711 80\r\n",
        "PROXY TCP4 １００.64.0.7 127.0.0.1 4711 80\r\n".encode(),
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
async def test_a_header_that_is_none_ends_the_connection(proxied, first):
    raw = await connected(proxied, first=first + WHOAMI)
    answer = b""
    with suppress(ConnectionError):
        answer = await asyncio.wait_for(raw.reader.read(-1), 30)
    assert b" 200 " not in answer
    assert b"login" not in answer
    assert proxied.sim.asked == []
    assert crashes(proxied) == []


async def test_a_caller_whom_the_proxy_does_not_name_is_nobody(proxied):
    for first in (b"PROXY UNKNOWN\r\n", BOBS.replace(b"TCP4", b"UNKNOWN"), two(command=0x20), two(family=0x00)):
        raw = await connected(proxied, first=first + WHOAMI)
        assert await login(raw) == 403
    for first in (two(family=0x12), two(family=0x31, more=b"\0" * 204)):
        raw = await connected(proxied, first=first + WHOAMI)
        assert await login(raw) == 403
    assert all(query["addr"].startswith("127.0.0.1:") for query in proxied.sim.asked)


@pytest.mark.parametrize("first", [ONE, two(), two(more=tlv(0x04, b"padding"))])
async def test_a_header_may_be_split_at_every_byte(proxied, first):
    data, together = first + WHOAMI, asyncio.Semaphore(16)

    async def split(at):
        async with together:
            raw = await connected(proxied, first=data[:at])
            await raw.writer.drain()
            await asyncio.sleep(0.002)
            raw.writer.write(data[at:])
            assert await login(raw) == "alice@example.com", at
            await raw.close()
            Raw.opened.remove(raw)

    await asyncio.gather(*map(split, range(1, len(first) + 3)))


async def test_while_many_say_nothing_others_are_served(proxied):
    """Check that callers are served while many other connections are silent.

    Some of the silent connections have sent nothing. Others have sent a part of a PROXY header, a complete PROXY
    header, or the header and a part of a request.
    """
    openings = [b"", b"PROXY TCP4 100.6", SIGNATURE, two()[:20], ONE, ONE + WHOAMI[:20]]
    for number in range(HALF_OPEN):
        await connected(proxied, first=openings[number % len(openings)])
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for first, name in ((ONE, "alice@example.com"), (BOBS, "bob@example.com")):
        raw = await connected(proxied, first=first + WHOAMI)
        assert await login(raw) == name
        raw.writer.write(post(CONVERSE_PATH, CONVERSE))
        assert (await raw.reply())[0] == 200
    assert loop.time() - begun < PROMPT
    assert crashes(proxied) == []


async def test_a_silent_connection_is_closed_despite_earlier_bytes(proxied, monkeypatch):
    """Check that a connection that stops inside its PROXY header is closed at the deadline.

    Bytes that it has sent do not extend the deadline.
    """
    monkeypatch.setattr(proxy_protocol, "HEADER_SECONDS", 0.2)
    waiting = [await connected(proxied, first=first) for first in (b"", b"P", SIGNATURE, two()[:-1], ONE[:-1])]

    async def drip(raw):
        with suppress(ConnectionError):
            for byte in ONE:
                raw.writer.write(bytes([byte]))
                await asyncio.sleep(0.05)

    slow = await connected(proxied)
    dripping = asyncio.create_task(drip(slow))
    assert [await raw.ended() for raw in [*waiting, slow]] == [True] * 6
    dripping.cancel()
    assert proxied.sim.asked == []


def limited(proxied, **limits):
    """Change limits of the running gateway, as a reload does."""
    config = proxied.running.gateway.runtime.config
    server = replace(config.server, limits=replace(config.server.limits, **limits))
    proxied.running.gateway.current.runtime = runtime(replace(config, server=server))


async def test_connections_that_wait_for_a_header_count_and_make_room(proxied):
    """Check that connections that have not completed their PROXY header count toward the limit of connections.

    If the limit is reached, one of them is closed to accept a new connection.
    """
    limited(proxied, connections=8)
    waiting = [await connected(proxied, first=first) for first in (b"", b"P", ONE[:-1], two()[:-1]) * 2]
    count = proxied.running.gateway.metrics.registry.get_sample_value
    await eventually(lambda: count("irisgate_connections") == 8)
    raw = await connected(proxied, first=ONE + WHOAMI)
    assert await login(raw) == "alice@example.com"
    assert await waiting[0].ended()
    assert count("irisgate_connections") <= 8
    for each in waiting[1:]:
        await each.close()
    await eventually(lambda: count("irisgate_connections") == 1)


async def test_half_a_head_in_the_packet_of_the_header_has_a_deadline(proxied):
    limited(proxied, head_seconds=0.1)
    raw = await connected(proxied, first=ONE + WHOAMI[:20])
    assert (await asyncio.wait_for(raw.reply(), 30))[0] == 408
    assert await raw.ended()


async def test_connections_behind_a_proxy_count_for_the_address_in_the_header(proxied):
    limited(proxied, connections_per_peer=2)
    head = request("POST /v1/messages HTTP/1.1", "Expect: 100-continue", "Content-Length: 5")
    for _ in range(2):
        raw = await connected(proxied, first=ONE + head)
        assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert await (await connected(proxied, first=ONE + WHOAMI)).ended()
    assert (await proxied.lines.until("connections.refused"))[0]["peer"] == "100.64.0.7"
    assert await login(await connected(proxied, first=BOBS + WHOAMI)) == "bob@example.com"
    await Raw.close_all()  # without this, the gateway would wait for the two bodies


async def test_connections_from_tailscale_serve_do_not_count_by_address():
    """Check that the limit of connections per address does not apply to a proxy on another machine.

    One such proxy sends the requests of many callers.
    """

    class Transport:
        """A transport whose peer is another machine."""

        def get_extra_info(self, name):
            return {"sockname": ("10.0.0.1", 80), "peername": ("10.0.0.2", 4711)}[name]

    for mode, client in (("serve-headers", ""), ("static", ("10.0.0.2", 4711))):
        modes = Modes(configure(Lines()))
        modes.listen("10.0.0.1:80", Listener(identity=mode, login="a"))
        assert modes.client(Transport()) == client
        await modes.close()
