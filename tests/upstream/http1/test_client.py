"""Tests of the HTTP client for providers, over real sockets: which connections are used again, host names, and
addresses.
"""

import asyncio
import errno
import socket

import pytest

from gateway.config.model import Timeouts
from gateway.contract.errors import NotReached, Truncated, UpstreamFailed
from gateway.contract.flag import UpstreamRequest
from gateway.upstream.client import Notices
from gateway.upstream.http1 import dial, pool
from gateway.upstream.http1.connection import WRITE_BYTES
from tests.helpers.descriptors import descriptors
from tests.helpers.plain_server import REPLY, REQUEST, call, client, provider, serving, to
from tests.helpers.waiting import SECONDS, eventually


async def test_a_request_has_each_header_once():
    async with serving(REPLY) as server, client() as upstream:
        request = UpstreamRequest(
            "POST", "/v1/chat", b"{}", headers={"User-Agent": "x", "Content-Length": "7", "Host": "evil"}, query="a=1"
        )
        await upstream.open(to(server), request, {"authorization": "Bearer k"}, Timeouts())
    line, *headers = server.heads[0].rstrip().split("\r\n")
    assert line == "POST /v1/chat?a=1 HTTP/1.1"
    assert sorted(headers) == [
        "accept-encoding: identity", "accept: */*", "authorization: Bearer k", "content-length: 2",
        f"host: 127.0.0.1:{server.port}", "user-agent: x",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "body", "lengths"), [("GET", b"", 0), ("GET", b"{}", 1), ("POST", b"", 1), ("DELETE", b"", 1)]
)
async def test_a_request_without_a_body_says_so_where_a_body_is_expected(method, body, lengths):
    async with serving(REPLY) as server, client() as upstream:
        assert await call(upstream, to(server), UpstreamRequest(method, "/x", body)) == (200, b"hello")
    assert server.heads[0].count("content-length:") == lengths


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/ä", "/a%20b", "/a#b"])
async def test_a_path_cannot_break_the_request_line(path):
    async with serving(REPLY) as server, client() as upstream:
        await call(upstream, to(server), UpstreamRequest("GET", path, b""))
    line, *rest = server.heads[0].split("\r\n")
    assert line in {f"GET {written} HTTP/1.1" for written in ("/a%20b", "/a%0D%0AX:%20y", "/%C3%A4", "/a%23b")}
    assert not [header for header in rest if header.startswith("X:")]


@pytest.mark.parametrize(
    ("name", "value"), [("a", "b\r\nc: d"), ("a", "b\nc: d"), ("a", "b\r"), ("a\nb", "c"), ("a", "b\0c")]
)
async def test_a_header_with_a_line_break_is_not_sent(name, value):
    async with serving(REPLY) as server, client() as upstream:
        with pytest.raises(ValueError, match="line break"):
            await call(upstream, to(server), UpstreamRequest("GET", "/", b"", headers={name: value}))
        assert await call(upstream, to(server)) == (200, b"hello")
    assert len(server.heads) == 1


async def test_calls_one_after_another_share_a_connection():
    async with serving(REPLY) as server, client() as upstream:
        for _ in range(3):
            assert await call(upstream, to(server)) == (200, b"hello")
        assert server.connections == 1
        await asyncio.gather(*(call(upstream, to(server)) for _ in range(3)))
        assert server.connections == 3


AFTER_WHICH_A_CONNECTION_IS_NEW = {
    "close": REPLY.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"),
    "HTTP/1.0": REPLY.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0\r\n\r\n",
    "bytes after the reply": REPLY + b"x",
    "a second reply": REPLY + REPLY,
}


@pytest.mark.parametrize("name", AFTER_WHICH_A_CONNECTION_IS_NEW)
async def test_a_connection_is_not_used_again_after_anything_odd(name):
    async with serving(AFTER_WHICH_A_CONNECTION_IS_NEW[name], REPLY) as server, client() as upstream:
        assert await call(upstream, to(server)) == (200, b"hello")
        assert await call(upstream, to(server)) == (200, b"hello")
        assert server.connections == 2


async def test_a_reply_that_is_not_read_to_its_end_ends_its_connection():
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", REPLY) as server, client() as upstream:
        reply = await upstream.open(to(server), REQUEST, {}, Timeouts())
        reply.close()
        assert await call(upstream, to(server)) == (200, b"hello")
        assert server.connections == 2


async def test_bytes_that_come_late_are_not_the_next_calls_reply():
    """Check that if a provider sends two replies to one request, the second one is not taken for the reply to the next
    request.
    """
    more = asyncio.Event()

    async def answer(reader, writer):
        await reader.readexactly(len(REQUEST.body))
        writer.write(REPLY)
        await more.wait()
        writer.write(REPLY.replace(b"hello", b"evil!"))

    async with serving(answer, REPLY) as server, client() as upstream:
        assert await call(upstream, to(server)) == (200, b"hello")
        more.set()
        await eventually(lambda: not upstream._pool._open)
        assert await call(upstream, to(server)) == (200, b"hello")
        assert server.connections == 2


async def test_an_idle_connection_is_closed_after_its_time(monkeypatch):
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.05)
    async with serving(REPLY) as server, client() as upstream:
        await call(upstream, to(server))
        await eventually(lambda: not upstream._pool._open)
        assert upstream._pool._idle == {}
        assert await call(upstream, to(server)) == (200, b"hello")


async def test_an_early_reply_to_a_long_body_is_read_and_the_rest_is_not_sent():
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge"

    async def refuse(reader, writer):
        writer.write(refusal)
        await writer.drain()
        await asyncio.sleep(SECONDS)

    async with serving(refuse, REPLY) as server, client() as upstream:
        long = UpstreamRequest("POST", "/", bytes(40 * WRITE_BYTES))
        assert await call(upstream, to(server), long) == (413, b"large")
        assert await call(upstream, to(server)) == (200, b"hello")
        assert server.connections == 2


async def test_the_answer_of_a_provider_that_closes_during_a_body_is_read():
    """Check that an early reply is read, although the rest of the request can no longer be written (RFC 9112, 9.5)."""
    refusal = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge"

    async def refuse(reader, writer):
        await reader.readexactly(100_000)
        writer.write(refusal)
        await writer.drain()
        writer.close()
        raise ConnectionError

    async with serving(refuse) as server, client() as upstream:
        long = UpstreamRequest("POST", "/", bytes(40 * WRITE_BYTES))
        for _ in range(10):
            assert await call(upstream, to(server), long) == (413, b"large")
        assert server.connections == 10


async def test_a_reply_to_head_has_no_body_whatever_its_head_says():
    lengths = [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Content-Length: 0"]
    replies = [b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % length for length in lengths]
    async with serving(*replies, REPLY) as server, client() as upstream:
        for _ in replies:
            assert await call(upstream, to(server), UpstreamRequest("HEAD", "/", b"")) == (200, b"")
        assert await call(upstream, to(server)) == (200, b"hello")
        assert server.connections == 1


async def test_a_read_that_waits_ends_when_the_reply_is_closed():
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n") as server, client() as upstream:
        reply = await upstream.open(to(server), REQUEST, {}, Timeouts())
        reading = asyncio.create_task(reply.read(100, lambda _: None))
        await eventually(lambda: reply._waits)
        reply.close()
        with pytest.raises(Truncated, match="the gateway closed the connection"):
            await reading


async def test_a_call_that_is_cancelled_at_any_step_leaves_nothing(names):
    """Check that a call that is cancelled leaves no connection and no descriptor.

    The call is cancelled after each possible number of iterations of the event loop.
    """
    names["models.test"] = ["127.0.0.1", "127.0.0.2"]
    async with serving(REPLY) as server, client() as upstream:
        await call(upstream, to(server))
        before = descriptors()
        is_done = False
        steps = 0
        while not is_done:
            upstream._pool.close()
            upstream._dialer._names.clear()
            calling = asyncio.create_task(call(upstream, to(server, host="models.test")))
            for _ in range(steps):
                await asyncio.sleep(0)
            is_done = calling.done()
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
            steps += 1
            busy = upstream._pool._open - {one for idle in upstream._pool._idle.values() for one in idle}
            await eventually(lambda busy=busy: not busy & upstream._pool._open)
        upstream._pool.close()
        await eventually(lambda: not upstream._pool._open)
        await eventually(lambda: descriptors() <= before)
    assert steps > 10


async def test_a_long_body_arrives_unchanged_while_the_provider_reads_slowly():
    body = bytes(range(256)) * 50_000
    got = bytearray()

    async def read(reader, writer):
        while len(got) < len(body):
            got.extend(await reader.read(300_000))
            await asyncio.sleep(0)
        writer.write(REPLY)

    async with serving(read) as server, client() as upstream:
        assert await call(upstream, to(server), UpstreamRequest("POST", "/", body)) == (200, b"hello")
    assert got == body


async def test_a_provider_that_is_read_slowly_is_slowed_down():
    """Check that a provider must wait while the client does not read. Only the buffers of the two sockets are filled in
    advance.
    """
    sent = 0

    async def flood(reader, writer):
        nonlocal sent
        await reader.readexactly(len(REQUEST.body))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while sent < 50_000_000:
            writer.write(bytes(50_000))
            await writer.drain()
            sent += 50_000
        writer.close()

    async with serving(flood) as server, client() as upstream:
        reply = await upstream.open(to(server), REQUEST, {}, Timeouts())
        reply.begin_stream()
        total = len(await reply.next())
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 30_000_000  # mostly in the buffers of the two sockets
        while data := await reply.next():
            total += len(data)
        assert total > 49_000_000
        reply.close()


@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3])
async def test_a_provider_that_sends_no_head_is_given_up(interim):
    async def silent(reader, writer):
        writer.write(interim)
        await reader.read()

    async with serving(silent) as server, client() as upstream:
        with pytest.raises(UpstreamFailed, match=r"sent no head of a reply for 0\.2 seconds"):
            await call(upstream, to(server), head_seconds=0.2)
        await eventually(lambda: not upstream._pool._open)


async def test_a_head_that_comes_with_its_deadline_is_a_reply():
    """Check that a reply's head is read if it arrives in the same iteration of the event loop in which its deadline
    passes.
    """
    async with serving(lambda reader, writer: reader.read()) as server, client() as upstream:
        calling = asyncio.create_task(call(upstream, to(server)))
        await eventually(lambda: server.heads)
        (connection,) = upstream._pool._open
        head, empty_line, body = REPLY.partition(b"\r\n\r\n")
        connection.data_received(head + empty_line)
        connection.alarm.set(0.0, connection.alarm._ring)
        connection.alarm._fire()
        await asyncio.sleep(0)
        connection.data_received(body)
        assert await calling == (200, b"hello")


async def test_a_call_that_is_cancelled_leaves_no_connection():
    async with serving(lambda reader, writer: reader.read()) as server, client() as upstream:
        calling = asyncio.create_task(call(upstream, to(server)))
        await eventually(lambda: server.heads)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        await eventually(lambda: not upstream._pool._open)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br"])
async def test_a_coding_that_was_not_asked_for_is_named(coding):
    reply = REPLY.replace(b"OK\r\n", b"OK\r\nContent-Encoding: %s\r\n" % coding.encode())
    async with serving(reply) as server, client() as upstream:
        with pytest.raises(UpstreamFailed, match=f"content coding {coding}"):
            await call(upstream, to(server))


# names and addresses


async def test_calls_at_once_share_one_look_up_and_later_ones_its_result(names):
    names["models.test"] = ["127.0.0.1"]
    async with serving(REPLY) as server, client() as upstream:
        where = to(server, host="models.test")
        await asyncio.gather(*(call(upstream, where) for _ in range(5)))
        await call(upstream, where)
        assert names.asked == ["models.test"]
        assert f"host: models.test:{server.port}" in server.heads[0]


async def test_a_look_up_is_repeated_after_its_time_and_after_a_failure(names, monkeypatch):
    names["models.test"] = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    async with serving(REPLY) as server, client() as upstream:
        where = to(server, host="models.test")
        with pytest.raises(NotReached, match="cannot be looked up: Temporary failure"):
            await call(upstream, where)
        names["models.test"] = ["127.0.0.2"]  # nothing listens there
        with pytest.raises(NotReached, match="nothing listens there"):
            await call(upstream, where)
        names["models.test"] = ["127.0.0.1"]
        assert await call(upstream, where) == (200, b"hello")
        monkeypatch.setattr(dial, "NAME_SECONDS", -1.0)
        upstream._pool.close()
        upstream._dialer._names.clear()
        await call(upstream, where)
        upstream._pool.close()
        await call(upstream, where)
        assert len(names.asked) == 5


async def test_a_look_up_that_failed_after_its_call_gave_up_is_repeated(names):
    names["models.test"] = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    async with serving(REPLY) as server, client() as upstream:
        first = asyncio.create_task(call(upstream, to(server, host="models.test")))
        await eventually(lambda: names.asked)
        first.cancel()
        await eventually(lambda: not upstream._dialer._names)
        names["models.test"] = ["127.0.0.1"]
        assert await call(upstream, to(server, host="models.test")) == (200, b"hello")


async def test_one_call_that_gives_up_does_not_take_the_look_up_from_others(names):
    names["models.test"] = ["127.0.0.1"]
    async with serving(REPLY) as server, client() as upstream:
        first = asyncio.create_task(call(upstream, to(server, host="models.test")))
        await eventually(lambda: names.asked)
        second = asyncio.create_task(call(upstream, to(server, host="models.test")))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == (200, b"hello")
        assert names.asked == ["models.test"]


async def test_an_address_that_does_not_answer_does_not_hold_the_call(names, monkeypatch):
    """Check that the second address is tried soon if the first one does not answer (RFC 8305)."""
    names["models.test"] = ["192.0.2.1", "127.0.0.1"]
    real = asyncio.selector_events.BaseSelectorEventLoop.sock_connect

    async def connect(loop, sock, address):
        if address[0].startswith("192.0.2."):
            await asyncio.sleep(SECONDS)
        await real(loop, sock, address)

    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", connect)
    monkeypatch.setattr(dial, "EYEBALLS_SECONDS", 0.02)
    async with serving(REPLY) as server, client() as upstream:
        for _ in range(2):  # the addresses are used in turn
            assert await call(upstream, to(server, host="models.test")) == (200, b"hello")
            upstream._pool.close()


async def test_an_address_that_refuses_is_passed_over(names):
    names["models.test"] = ["127.0.0.3", "127.0.0.1"]
    async with serving(REPLY) as server, client() as upstream:
        for _ in range(2):
            assert await call(upstream, to(server, host="models.test")) == (200, b"hello")
            upstream._pool.close()


async def test_addresses_that_fail_for_different_reasons_are_all_named(names, monkeypatch):
    names["models.test"] = ["127.0.0.3", "::1"]

    async def connect(loop, sock, address):
        number = errno.ENETUNREACH if ":" in address[0] else errno.ECONNREFUSED
        raise OSError(number, f"{errno.errorcode[number]} {address[0]}")

    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", connect)
    async with client() as upstream:
        with pytest.raises(
            NotReached, match=r"ECONNREFUSED 127\.0\.0\.3.*ENETUNREACH ::1|ENETUNREACH ::1.*ECONNREFUSED"
        ):
            await call(upstream, provider("http://models.test"))


async def test_a_host_with_ipv6_only_is_reached():
    async with serving(REPLY, host="::1") as server, client() as upstream:
        assert await call(upstream, to(server, host="[::1]")) == (200, b"hello")
    assert f"host: [::1]:{server.port}" in server.heads[0]


async def test_no_free_descriptor_is_an_error_with_its_reason(monkeypatch):
    def none(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(dial.aiohappyeyeballs.impl.socket, "socket", none)
    async with client() as upstream:
        with pytest.raises(NotReached, match="Too many open files"):
            await call(upstream, provider("http://127.0.0.1:1"))


async def test_a_provider_that_closes_each_new_connection_gets_no_request_again():
    async def refuse(reader, writer):
        writer.close()

    listening = await asyncio.start_server(refuse, "127.0.0.1", 0)
    where = provider(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    begun = []
    async with client() as upstream:

        async def wait():
            await eventually(lambda: not upstream._pool._open)

        notices = Notices(wait, lambda: begun.append(1))
        with pytest.raises(UpstreamFailed, match="p broke off before it answered: the provider closed the connection"):
            await upstream.open(where, REQUEST, {}, Timeouts(), notices)
    listening.close()
    assert begun == []
