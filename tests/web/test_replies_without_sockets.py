"""Tests of replies to calls (`gateway/call/reply.py`), which a connection writes without aiohttp's code for responses.

The tests use a fake transport instead of sockets.
"""

import asyncio

import pytest

from gateway.call.reply import Reply
from tests.helpers.fake_transport import GET, opening, settled, status_of  # noqa: F401 (a fixture)

JSON = {"content-type": "application/json"}
ENDING = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
UPGRADE = GET.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")


def replying(body=b"{}", go=None, **fields):
    """Return a request handler that returns a `Reply`. If `go` is given, the handler first waits for this event."""

    async def handler(_request):
        if go is not None:
            await go.wait()
        return Reply(200 if body else 204, JSON if body else {}, body, **fields)

    return handler


def parts(reply):
    """Return the status line, the headers by lower-case name, and the body of one reply."""
    head, _, body = reply.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    return line, {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}, body


async def test_replies_of_calls_leave_their_connection_open(opened):
    one = opened(replying())
    for _ in range(2):
        await one.receives(GET)
        line, headers, body = parts(one.read())
        assert headers.pop("date").endswith(" GMT")
        assert (line, headers, body) == ("HTTP/1.1 200 OK", {**JSON, "content-length": "2"}, b"{}")
        assert (one.end, list(one.connections._idle)) == ("", [one.connection])


@pytest.mark.parametrize(("keep_alive", "request_"), [(False, GET), (True, ENDING), (False, ENDING)])
async def test_the_last_reply_of_a_connection_says_so(opened, keep_alive, request_):
    one = opened(replying(keep_alive=keep_alive))
    await one.receives(request_)
    line, headers, _ = parts(one.read())
    assert (line, headers["connection"], one.end) == ("HTTP/1.1 200 OK", "close", "closed")


async def test_a_reply_of_a_call_after_a_close_is_the_last_one(opened):
    go = asyncio.Event()
    one = opened(replying(go=go))
    await one.receives(GET)
    one.connection.close()
    go.set()
    await settled()
    assert (parts(one.read())[1]["connection"], one.end) == ("close", "closed")


async def test_a_reply_of_a_call_has_the_version_of_its_request(opened):
    one = opened(replying())
    await one.receives(GET.replace(b"1.1", b"1.0"))
    line, _, body = parts(one.read())
    assert (line, body, one.end) == ("HTTP/1.0 200 OK", b"{}", "closed")


async def test_a_reply_of_a_call_without_a_body_has_no_length(opened):
    one = opened(replying(b""))
    await one.receives(GET)
    line, headers, body = parts(one.read())
    assert (line, body, one.end) == ("HTTP/1.1 204 No Content", b"", "")
    assert headers.keys() & {"content-length", "content-type"} == set()


async def test_what_follows_an_offer_of_another_protocol_is_a_request(opened):
    one = opened(replying())
    await one.receives(UPGRADE + GET)
    assert (one.read().count(b"HTTP/1.1 200 OK"), one.end) == (2, "")


@pytest.mark.parametrize("ends", [False, True])
async def test_a_reply_to_a_client_that_has_left_is_not_written(opened, ends, caplog):
    go = asyncio.Event()
    one = opened(replying(go=go))
    await one.receives(GET)
    one.transport.close()
    if ends:
        one.connection.connection_lost(None)
    go.set()
    await settled()
    assert (one.read(), caplog.records) == (b"", [])
    assert one.connection._task_handler is None or one.connection._task_handler.done()


@pytest.mark.parametrize("reads", [False, True])
async def test_a_request_ends_when_its_reply_is_read(opened, reads, caplog):
    one = opened(replying())
    await settled()
    one.connection.pause_writing()
    await one.receives(GET)
    assert (status_of(one.read()), list(one.connections._idle)) == (200, [])
    if reads:
        one.connection.resume_writing()
    else:
        one.connection.connection_lost(OSError("no route"))
    await settled()
    assert list(one.connections._idle) == ([one.connection] if reads else [])
    assert (one.connection.awaits_head, caplog.records) == (reads, [])
