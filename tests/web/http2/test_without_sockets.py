"""Tests of HTTP/2 without sockets: deadlines in seconds, and windows in bytes. A test decides how much time passes."""

import asyncio
import gc

import pytest
from aiohttp import web

from tests.helpers.fake_transport import PEER, hello, opening, settled  # noqa: F401 (a fixture)
from tests.helpers.http2 import H2, ErrorCodes, H2Configuration, SettingCodes, events

IDLE_SECONDS, UNREAD_SECONDS, CLOSE_SECONDS = 75, 120, 5
"""A gateway's default deadlines in seconds."""
STREAM_WINDOW, CONNECTION_WINDOW = 256 * 1024, 1024 * 1024
AIOHTTP_BUFFER = 512 * 1024
"""Number of bytes of a body that aiohttp buffers before it pauses reading, with HTTP/2 as with HTTP/1.1."""
HEAD = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "127.0.0.1")]


class Client:
    """An HTTP/2 client, whose connection has a fake transport."""

    def __init__(self, one, window=None):
        self.one = one
        self.h2 = H2(H2Configuration(client_side=True, header_encoding="utf-8"))
        if window is not None:
            self.h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()

    async def sent(self):
        """Send the bytes that the client's `h2` object has ready, and return the events in the gateway's reply."""
        protocol = self.one.transport.protocol or self.one.connection
        if data := self.h2.data_to_send():
            protocol.data_received(data)
        await settled()
        return self.h2.receive_data(self.one.read())

    async def asks(self, body=b"", *, ends=True):
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, HEAD, end_stream=ends and not body)
        if body:
            self.h2.send_data(number, body, end_stream=ends)
        return await self.sent()


def kinds(received):
    return [type(event).__name__ for event in received if not isinstance(event, events.RemoteSettingsChanged)]


async def long(_request):
    return web.Response(body=b"x" * 5000)


async def test_an_idle_connection_says_goodbye_and_is_closed(opened):
    one = opened()
    client = Client(one)
    assert "StreamEnded" in kinds(await client.asks())
    await one.passes(IDLE_SECONDS - 1)
    client.h2.ping(b"12345678")
    await client.sent()
    assert one.end == ""
    await one.passes(2)
    assert (kinds(await client.sent()), one.end) == (["ConnectionTerminated"], "closed")
    await one.passes(CLOSE_SECONDS)
    assert one.end == "aborted"


async def test_the_first_bytes_of_a_connection_may_come_with_it(opened):
    """Check that a request is served if its bytes arrive together with the new connection, before the event loop runs
    again.

    This happens after a TLS handshake.
    """
    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    one = opened()
    assert "StreamEnded" in kinds(await Client(one).asks())
    gc.collect()
    assert failures == []
    assert one.server.connections == [one.transport.protocol]


async def test_a_connection_with_a_stream_is_not_idle(opened):
    waiting = asyncio.Event()

    async def slow(_request):
        await waiting.wait()
        return web.Response()

    one = opened(slow, connections_per_peer=1)
    client = Client(one)
    await client.asks()
    assert (one.connections.count, list(one.connections._idle)) == (1, [])
    await one.passes(10 * IDLE_SECONDS)
    assert not one.connections.admit(object(), PEER)
    waiting.set()
    assert kinds(await client.sent()) == ["ResponseReceived", "StreamEnded"]
    assert one.connections.admit(object(), PEER)
    assert one.end == "aborted"


async def test_a_reply_without_a_window_is_reset_in_two_minutes(opened):
    one = opened(long, idle_seconds=3600)
    client = Client(one, window=1000)
    assert "StreamEnded" not in kinds(await client.asks())
    await one.passes(UNREAD_SECONDS - 1)
    assert kinds(await client.sent()) == []
    await one.passes(1)
    (reset,) = await client.sent()
    assert (type(reset), reset.error_code) == (events.StreamReset, ErrorCodes.INTERNAL_ERROR)
    assert (one.end, one.transport.protocol.awaits_head) == ("", True)


async def test_a_window_in_time_brings_the_rest_of_a_reply(opened):
    one = opened(long, idle_seconds=3600)
    client = Client(one, window=1000)
    await client.asks()
    await one.passes(UNREAD_SECONDS - 1)
    client.h2.increment_flow_control_window(10_000, 1)
    assert kinds(await client.sent()) == ["DataReceived", "StreamEnded"]
    await one.passes(UNREAD_SECONDS)
    assert (kinds(await client.sent()), one.end) == ([], "")


async def test_a_client_that_reads_nothing_is_neither_read_nor_kept(opened):
    one = opened(long, idle_seconds=3600)
    client = Client(one)
    await client.sent()
    one.transport.unread = 1024 * 1024
    one.transport.protocol.pause_writing()
    assert one.transport.is_paused
    assert "DataReceived" not in kinds(await client.asks())
    one.transport.protocol.resume_writing()
    assert not one.transport.is_paused
    assert kinds(await client.sent()) == ["DataReceived", "StreamEnded"]
    one.transport.protocol.pause_writing()
    await one.passes(UNREAD_SECONDS)
    assert one.end == "aborted"


async def test_a_body_that_nobody_reads_gets_no_window(opened):
    reading = asyncio.Event()

    async def late(request):
        await reading.wait()
        return web.Response(text=str(len(await request.read())))

    one = opened(late)
    client = Client(one)
    await client.asks(b"x" * 1000, ends=False)
    sent = 1000
    for _ in range(100):
        size = min(client.h2.local_flow_control_window(1), 16_384)
        if size:
            client.h2.send_data(1, b"x" * size)
            sent += size
        await client.sent()
    assert client.h2.local_flow_control_window(1) == 0
    assert AIOHTTP_BUFFER + STREAM_WINDOW <= sent <= AIOHTTP_BUFFER + STREAM_WINDOW + 16_384
    reading.set()
    await client.sent()
    await client.sent()
    assert client.h2.local_flow_control_window(1) > STREAM_WINDOW // 4
    client.h2.send_data(1, b"", end_stream=True)
    *_, data, _ = await client.sent()
    assert data.data == str(sent).encode()


async def test_the_body_of_a_stream_that_has_ended_keeps_no_window(opened):
    one = opened()
    client = Client(one)
    for _ in range(20):
        await client.asks(b"x" * 16_000, ends=False)
        number = client.h2.highest_outbound_stream_id
        client.h2.send_data(number, b"x" * 16_000)
        await client.sent()
        client.h2.reset_stream(number)
        await client.sent()
    await client.sent()
    assert client.h2.outbound_flow_control_window > CONNECTION_WINDOW // 4


async def test_the_rest_of_a_body_is_read_for_five_seconds_after_the_reply(opened):
    one = opened()
    client = Client(one)
    received = await client.asks(b"x", ends=False)
    assert kinds(received)[-1] == "StreamEnded"
    await one.passes(CLOSE_SECONDS - 1)
    assert kinds(await client.sent()) == []
    await one.passes(1)
    (reset,) = await client.sent()
    assert (type(reset), reset.error_code) == (events.StreamReset, ErrorCodes.NO_ERROR)


async def test_a_draining_connection_takes_no_stream_and_ends_after_its_last_one(opened):
    waiting = asyncio.Event()

    async def slow(_request):
        await waiting.wait()
        return web.Response()

    one = opened(slow)
    client = Client(one)
    await client.asks()
    one.server.pre_shutdown()
    assert kinds(await client.sent()) == ["ConnectionTerminated"]
    (reset,) = await client.asks()
    assert (type(reset), reset.error_code) == (events.StreamReset, ErrorCodes.REFUSED_STREAM)
    assert one.end == ""
    waiting.set()
    assert kinds(await client.sent()) == ["ResponseReceived", "StreamEnded"]
    assert one.end == "closed"


async def test_a_shutdown_ends_the_streams_that_are_left(opened):
    one = opened(lambda _request: asyncio.Event().wait(), {"handler_cancellation": True})
    client = Client(one)
    await client.asks()
    ending = asyncio.create_task(one.server.shutdown(1))
    await settled()
    await one.passes(1)
    await one.passes(1)
    await one.passes(1)
    await ending
    assert one.end == "closed"


@pytest.mark.parametrize("handler", [hello, long])
async def test_an_ended_connection_leaves_nothing(opened, handler):
    one = opened(handler, {"handler_cancellation": True})
    client = Client(one, window=100)
    await client.asks(b"x", ends=False)
    protocol = one.transport.protocol
    protocol.connection_lost(None)
    await settled()
    assert (protocol._streams, protocol._by_handler, one.connections.count, one.server.connections) == ({}, {}, 0, [])
