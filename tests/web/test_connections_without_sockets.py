"""Tests of single connections without sockets: their deadlines in seconds, their limits in bytes, and how they end.

The transport is a fake, and a test decides how much time passes. So the tests do not wait.
"""

import asyncio
import json
from types import SimpleNamespace

import pytest
from aiohttp import web

from gateway.call.context import CALL, REQUEST_ID
from gateway.call.request_body import MalformedBody
from gateway.config.server import Limits
from gateway.web import connection_limits
from gateway.web.connection_limits import most_connections
from tests.helpers.fake_transport import GET, PEER, Transport, hello, opening, settled, status_of  # noqa: F401 (a fixture)

POST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD_SECONDS, IDLE_SECONDS, UNREAD_SECONDS, CLOSE_SECONDS = 15, 75, 120, 5
"""A gateway's default deadlines. They are repeated here as numbers, so that a test fails if one changes."""
MEBIBYTE = 1024 * 1024


async def test_half_a_head_gets_its_reply_at_its_deadline(opened):
    one = opened()
    await settled()
    await one.receives(GET[:10])
    await one.passes(HEAD_SECONDS - 1)
    await one.receives(GET[10:20])
    assert (one.read(), one.end, one.timers()) == (b"", "", ["_head_is_late"])
    await one.passes(1)
    head, _, body = one.read().partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    assert (status, one.end) == ("HTTP/1.1 408 Request Timeout", "closed")
    assert json.loads(body) == {"error": "the head of the request came too slowly"}
    assert headers.pop("x-request-id").startswith("req_")
    assert headers == {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "server": "irisgate",
    }
    assert one.log.entries == [("connections.refused", {"limit": "head_seconds", "peer": "100.64.0.1", "count": 1})]


async def test_half_a_head_with_the_end_of_a_handshake_has_a_deadline(opened):
    """Check that an incomplete head is answered with 408 at its deadline, even if its bytes arrive together with the
    connection.

    This happens if they follow a TLS handshake or a PROXY header in the same packet.
    """
    one = opened()
    await one.receives(GET[:10])
    assert not one.connection.has_no_head
    await one.passes(HEAD_SECONDS)
    assert (status_of(one.read()), one.end) == (408, "closed")


async def test_half_a_head_with_the_end_of_a_handshake_makes_room(opened):
    one = opened(connections=1)
    await one.receives(GET[:10])
    assert one.connections.admit(object(), "")
    assert one.end == "aborted"


async def test_the_rest_of_a_body_that_nobody_reads_keeps_no_connection_open(opened):
    """Check a request that was answered before its whole body had come. When the rest of the body has come, the
    connection is idle, and is closed after `IDLE_SECONDS`.
    """
    one = opened()
    await one.receives(POST + b"12")
    assert status_of(one.read()) == 200
    await one.receives(b"345")
    assert one.connection.has_no_head
    await one.passes(IDLE_SECONDS + 1)
    assert one.end == "closed"


async def test_a_short_idle_time_closes_a_connection_after_the_rest_of_a_body(opened):
    one = opened(idle_seconds=1)
    await one.receives(POST + b"12")
    await one.passes(2)
    assert one.end == ""
    await one.receives(b"345")
    await one.passes(2)
    assert one.end == "closed"


async def test_the_rest_of_a_body_comes_in_time_or_the_connection_is_closed(opened):
    one = opened()
    await one.receives(POST + b"12")
    await one.passes(CLOSE_SECONDS - 1)
    assert one.end == ""
    await one.passes(1)
    await one.passes(1)
    assert one.end == "closed"


async def test_a_whole_head_has_no_deadline(opened):
    waiting = asyncio.Event()

    async def slow(_request):
        await waiting.wait()
        return web.Response()

    one = opened(slow)
    await settled()
    await one.receives(GET[:10])
    await one.receives(GET[10:])
    assert (one.timers(), list(one.connections._idle)) == ([], [])
    await one.passes(10 * IDLE_SECONDS)
    assert (one.read(), one.end) == (b"", "")
    waiting.set()
    await settled()
    assert status_of(one.read()) == 200
    await one.passes(IDLE_SECONDS - 1)
    assert one.end == ""
    await one.passes(2)
    assert one.end == "closed"


async def test_every_head_has_a_deadline_of_its_own(opened):
    one = opened()
    await settled()
    await one.receives(GET[:10])
    await one.receives(GET[10:])
    assert status_of(one.read()) == 200
    await one.passes(HEAD_SECONDS - 1)
    await one.receives(GET[:10])
    await one.passes(HEAD_SECONDS - 1)
    assert (one.read(), one.end) == (b"", "")
    await one.passes(1)
    assert (status_of(one.read()), one.end) == (408, "closed")


@pytest.mark.parametrize(("read", "end"), [(MEBIBYTE - 1, "aborted"), (MEBIBYTE, "")])
async def test_a_client_must_read_a_mebibyte_in_two_minutes(opened, read, end):
    one = opened(idle_seconds=3600)
    one.transport.unread = 10 * MEBIBYTE
    one.connection.pause_writing()
    await one.passes(UNREAD_SECONDS - 1)
    assert one.end == ""
    one.transport.unread -= read
    await one.passes(1)
    assert one.end == end
    # nothing more is read
    await one.passes(UNREAD_SECONDS - 1)
    assert one.end == end
    await one.passes(1)
    assert one.end == "aborted"


async def test_a_client_that_has_read_enough_has_a_new_deadline_later(opened):
    one = opened(idle_seconds=3600)
    one.transport.unread = MEBIBYTE
    one.connection.pause_writing()
    await one.passes(UNREAD_SECONDS - 1)
    one.connection.resume_writing()
    await one.passes(UNREAD_SECONDS)
    one.connection.pause_writing()
    await one.passes(UNREAD_SECONDS - 1)
    assert one.end == ""
    await one.passes(1)
    assert one.end == "aborted"


async def test_a_connection_that_is_closed_is_aborted_five_seconds_later(opened):
    one = opened()
    one.connection.force_close()
    await one.passes(CLOSE_SECONDS - 1)
    one.connection.force_close()
    assert one.end == "closed"
    await one.passes(1)
    assert one.end == "aborted"


async def test_reading_delays_no_abort_of_a_connection_that_is_closed(opened):
    one = opened(idle_seconds=3600)
    one.transport.unread = MEBIBYTE
    one.connection.pause_writing()
    one.connection.force_close()
    await one.passes(CLOSE_SECONDS - 1)
    one.connection.resume_writing()
    one.connection.pause_writing()
    assert one.timers() == ["abort"]
    await one.passes(1)
    assert one.end == "aborted"


async def test_a_connection_that_has_ended_leaves_no_timer_and_no_transport(opened):
    one = opened()
    await settled()
    await one.receives(GET[:10])
    one.connection.pause_writing()
    assert sorted(one.timers()) == ["_check", "_head_is_late"]
    one.connection.connection_lost(None)
    assert (one.timers(), one.connection._raw, one.connections.count) == ([], None, 0)
    one.connection.abort()
    assert one.end == "closed"


async def test_a_connection_is_aborted_at_once(opened):
    one = opened()
    one.connection.abort()
    assert one.end == "aborted"
    assert one.connection.transport is None


async def test_a_refused_connection_reads_nothing(opened):
    one = opened(connections_per_peer=0)
    assert one.end == "aborted"
    await one.receives(GET)
    assert (one.connection._messages, one.read(), one.server.connections) == (type(one.connection._messages)(), b"", [])
    one.connection.connection_lost(None)
    one.connection.abort()
    assert one.timers() == []


async def test_a_handshake_no_longer_counts_when_its_connection_does(opened):
    counts = []
    one = opened()
    second = one.server()
    second.handshake = lambda: counts.append(one.connections.count)
    second.connection_made(Transport())
    assert (counts, one.connections.count) == ([1], 2)
    second.connection_lost(None)


async def test_a_request_that_has_just_arrived_makes_no_room(opened):
    one = opened(connections_per_peer=1)
    await settled()
    one.connection.data_received(GET)
    assert not one.connections.admit(object(), PEER)
    await settled()
    assert (status_of(one.read()), one.end) == (200, "")


@pytest.mark.parametrize("requests", [0, 1])
async def test_an_idle_connection_is_closed_at_once(opened, requests):
    one = opened()
    await settled()
    for _ in range(requests):
        await one.receives(GET)
        assert status_of(one.read()) == 200
    one.connection.close()
    assert one.end == "closed"


async def test_a_request_that_has_begun_is_served_before_a_close(opened):
    one = opened()
    await settled()
    await one.receives(GET[:10])
    one.connection.close()
    assert one.end == ""
    await one.receives(GET[10:])
    reply = one.read()
    assert (status_of(reply), b"Connection: close" in reply, one.end) == (200, True, "closed")


async def test_half_a_head_that_does_not_go_on_delays_a_close_until_its_deadline(opened):
    one = opened()
    await settled()
    await one.receives(GET[:10])
    one.connection.close()
    await one.passes(HEAD_SECONDS)
    assert (status_of(one.read()), one.end) == (408, "closed")


async def test_no_head_is_late_on_a_connection_that_is_closed(opened, caplog):
    one = opened(head_seconds=1)
    await settled()
    await one.receives(GET[:10])
    one.connection.force_close()
    await one.passes(1)
    assert (one.read(), one.log.entries, caplog.records) == (b"", [], [])


async def test_the_rest_of_a_body_delays_a_close_for_a_bounded_time(opened):
    one = opened()
    await one.receives(POST + b"12")
    one.connection.close()
    assert (status_of(one.read()), one.end) == (200, "")
    await one.passes(CLOSE_SECONDS)
    await one.passes(1)
    assert one.end == "closed"


async def test_a_request_that_has_just_arrived_is_served_before_a_close(opened):
    one = opened()
    await settled()
    one.connection.data_received(GET)
    # the request is parsed, but its handler does not run yet
    one.connection.close()
    await settled()
    reply = one.read()
    assert (status_of(reply), b"Connection: close" in reply, one.end) == (200, True, "closed")


async def test_a_stream_that_has_begun_ends_before_its_connection_is_closed(opened):
    waiting = asyncio.Event()

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await waiting.wait()
        await response.write(b"the end")
        return response

    one = opened(stream)
    await one.receives(GET)
    one.connection.close()
    waiting.set()
    await settled()
    reply = one.read()
    assert (status_of(reply), b"the end" in reply, one.end) == (200, True, "closed")


async def test_what_follows_a_request_without_a_body_is_no_body(opened):
    waiting = asyncio.Event()

    async def slow(_request):
        await waiting.wait()
        return web.Response()

    one = opened(slow)
    await one.receives(GET)
    await one.receives(b"\x16\x03" + b"x" * 100_000)
    waiting.set()
    await settled()
    replies = one.read().split(b"HTTP/1.1 ")
    assert ([reply[:3] for reply in replies[1:]], one.end) == ([b"200", b"400"], "closed")


@pytest.mark.parametrize(
    ("call", "is_cancelled"),
    [
        (None, True),
        (SimpleNamespace(goes_on=None), True),
        (SimpleNamespace(goes_on=lambda: False), True),
        (SimpleNamespace(goes_on=lambda: True), False),
    ],
)
async def test_a_call_ends_with_its_connection_unless_it_goes_on(opened, call, is_cancelled):
    ends, waiting = [], asyncio.Event()

    async def handler(request):
        if call is not None:
            request[CALL] = call
        try:
            await waiting.wait()
            ends.append("whole")
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        return web.Response()

    one = opened(handler, {"handler_cancellation": True})
    await one.receives(GET)
    one.connection.connection_lost(None)
    await settled()
    waiting.set()
    await settled()
    assert ends == ["cancelled" if is_cancelled else "whole"]


async def test_a_reply_keeps_its_connection_open(opened):
    one = opened()
    for _ in range(2):
        await one.receives(GET)
        reply = one.read()
        assert (status_of(reply), b"Connection: close" in reply, one.end) == (200, False, "")


class Reads:
    """A handler that reads the body of each request. The list `results` has the bodies, and "malformed" for a malformed
    one.
    """

    def __init__(self):
        self.results = []

    async def __call__(self, request):
        request[REQUEST_ID] = f"req_{len(self.results)}"
        try:
            self.results.append(await request.read())
        except MalformedBody:
            self.results.append("malformed")
            return web.Response(status=400)
        return web.Response()


def chunk(size):
    """Return `size` bytes: a chunk with one byte of content and a long extension, without the chunk's final CR LF."""
    return b"1;" + b"x" * (size - 5) + b"\r\n "


MOST_FRAMING = 64 * 1024 + 8
"""Maximum number of bytes on the wire for a chunked body with one byte of content. The other bytes are framing, such as
chunk sizes.
"""


async def test_framing_has_a_limit_for_each_body(opened):
    """Check that each of two bodies on one connection may have the maximum number of bytes of framing."""
    handler = Reads()
    one = opened(handler)
    for _ in range(2):
        await one.receives(CHUNKED)
        await one.receives(chunk(MOST_FRAMING))
        await one.receives(b"\r\n0\r\n\r\n")
        assert (status_of(one.read()), one.end) == (200, "")
    assert handler.results == [b" ", b" "]


@pytest.mark.parametrize("before", [0, 1])
async def test_framing_beyond_its_limit_is_malformed(opened, before):
    handler = Reads()
    one = opened(handler)
    for _ in range(before):
        await one.receives(CHUNKED)
        await one.receives(chunk(100) + b"\r\n0\r\n\r\n")
        assert status_of(one.read()) == 200
    await one.receives(CHUNKED)
    data = chunk(MOST_FRAMING + 1)
    await one.receives(data[:100])
    assert one.read() == b""
    await one.receives(data[100:])
    reply = one.read()
    assert (status_of(reply), b"Connection: close" in reply, handler.results[-1]) == (400, True, "malformed")
    assert one.log.entries == [("http.error", {"kind": "MalformedBody", "request_id": f"req_{before}", "count": 1})]
    assert one.end == "closed"


async def test_what_follows_a_malformed_body_is_not_read(opened, caplog):
    waiting = asyncio.Event()

    async def slow(request):
        with pytest.raises(MalformedBody):
            await request.read()
        await waiting.wait()
        return web.Response(status=400)

    one = opened(slow)
    await one.receives(CHUNKED)
    for data in (b"zz\r\n", b"zz\r\n", GET):
        await one.receives(data)
    assert not one.connection._messages
    waiting.set()
    await settled()
    assert (one.read().count(b"HTTP/1.1"), one.end) == (1, "closed")
    assert one.log.entries == [("http.error", {"kind": "MalformedBody", "request_id": "", "count": 1})]
    assert caplog.records == []


@pytest.mark.parametrize(
    ("status", "text"),
    [(410, "Gone: the request is not served"), (599, "error: the request is not served")],
)
async def test_an_error_page_of_aiohttp_is_replaced(opened, status, text):
    class Page(web.HTTPException):
        status_code = status

    async def fails(_request):
        raise Page

    one = opened(fails)
    await one.receives(GET)
    head, _, body = one.read().partition(b"\r\n\r\n")
    assert (json.loads(body), status_of(head), one.end) == ({"error": text}, status, "closed")
    assert b"\r\nx-request-id: req_" in head


async def test_a_write_fails_with_the_reason_for_the_end_of_the_connection(opened):
    failures = []

    async def long(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await response.write(b"x" * MEBIBYTE)
        except ConnectionError as error:
            failures.append(repr(error.__cause__))
            raise
        return response

    one = opened(long)
    await settled()
    one.connection.pause_writing()
    await one.receives(GET)
    one.connection.connection_lost(OSError("no route"))
    await settled()
    assert failures == ["OSError('no route')"]


def test_the_default_limits_of_connections(monkeypatch):
    """Check the default maximum number of client connections: half of the process's file descriptors after the first
    200, at least 1 and at most 20,000.
    """
    for descriptors, most in ((1025, 412), (1026, 413), (1_000_000, 20_000), (202, 1), (201, 1), (100, 1)):
        monkeypatch.setattr(connection_limits.resource, "getrlimit", lambda _, soft=descriptors: (soft, 2_000_000))
        assert most_connections(Limits()) == most


async def test_an_idle_connection_has_no_task_and_no_timer(opened):
    """Check that requests that arrive together are answered in order. The connection then has no task and no timer."""
    before = asyncio.all_tasks()
    one = opened(lambda request: hello_from(request.path))
    await one.receives(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3")
    head, *replies = one.read().split(b"HTTP/1.1 200 OK")
    assert (head, [reply[-2:] for reply in replies]) == (b"", [b"/1", b"/2"])
    assert asyncio.all_tasks() == before
    await one.receives(b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (one.read()[-2:], one.timers(), asyncio.all_tasks()) == (b"/3", [], before)


async def hello_from(path):
    return web.Response(text=path)


async def test_nothing_is_served_after_a_reply_that_ends_its_connection(opened):
    served = []

    async def handle(request):
        served.append(request.path)
        response = web.Response()
        response.force_close()
        return response

    one = opened(handle)
    await one.receives(GET + GET)
    await one.receives(GET)
    assert (served, one.end, one.connection.awaits_head) == (["/"], "closed", False)
