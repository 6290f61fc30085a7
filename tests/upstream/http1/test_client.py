"""Tests of the client for providers with real sockets: connections that are used again or not, TLS, proxies, names."""

import asyncio
import errno
import socket
import ssl
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.config.model import Provider, Timeouts
from gateway.contract.errors import NotReached, UpstreamFailed
from gateway.contract.flag import UpstreamRequest
from gateway.upstream.client import Notices, Upstream
from gateway.upstream.http1 import dial, pool
from gateway.upstream.http1.connection import WRITE_BYTES
from gateway.upstream.http1.targets import base
from tests.helpers.tls import certified
from tests.helpers.waiting import SECONDS, eventually

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
REQUEST = UpstreamRequest("POST", "/v1/chat", b'{"a": 1}', headers={"content-type": "application/json"})


class Server:
    """A server that answers the n-th request with the n-th reply, and the last reply again after that.

    `heads` has the head of each request, and `bodies` its body. A reply that is a function gets the writer.
    """

    def __init__(self, *replies):
        self.replies = replies
        self.heads, self.bodies, self.connections, self.serving = [], [], 0, set()
        self.port = 0

    async def serve(self, reader, writer):
        self.connections += 1
        self.serving.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                await self.answer(reader, writer)
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    async def close(self):
        for task in self.serving:
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)

    async def answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        reply = self.replies[min(len(self.heads), len(self.replies) - 1)]
        self.heads.append(head)
        length = [int(line.partition(":")[2]) for line in head.split("\r\n") if line.startswith("content-length:")]
        if callable(reply):
            await reply(reader, writer)
            return
        self.bodies.append(await reader.readexactly(length[0] if length else 0))
        writer.write(reply)
        await writer.drain()


@asynccontextmanager
async def serving(*replies, tls=None, host="127.0.0.1"):
    server = Server(*replies)
    listening = await asyncio.start_server(server.serve, host, 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.close()


@asynccontextmanager
async def client():
    upstream = Upstream()
    try:
        yield upstream
    finally:
        await upstream.close()


def provider(url):
    return Provider("p", url)


def to(server, scheme="http", host="127.0.0.1"):
    return provider(f"{scheme}://{host}:{server.port}")


async def call(upstream, where, request=REQUEST, **seconds):
    """Send a request, and return the status and the body of the reply."""
    async with asyncio.timeout(SECONDS):
        reply = await upstream.open(where, request, {}, Timeouts(**seconds))
        try:
            return reply.head.status, await reply.read(10**7, lambda _: None)
        finally:
            reply.close()


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


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/ä", "/a%20b"])
async def test_a_path_cannot_break_the_request_line(path):
    async with serving(REPLY) as server, client() as upstream:
        await call(upstream, to(server), UpstreamRequest("GET", path, b""))
    line, *rest = server.heads[0].split("\r\n")
    assert line in {f"GET {written} HTTP/1.1" for written in ("/a%20b", "/a%0D%0AX:%20y", "/%C3%A4")}
    assert not [header for header in rest if header.startswith("X:")]


async def test_a_header_with_a_line_break_is_not_sent():
    async with serving(REPLY) as server, client() as upstream:
        with pytest.raises(ValueError, match="line break"):
            await call(upstream, to(server), UpstreamRequest("GET", "/", b"", headers={"a": "b\r\nc: d"}))
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
    """Check that a reply that nobody asked for, after the end of the last, is never taken for an answer."""
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
    """Check that at most some hundred kilobytes are read ahead of a slow client."""
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
        events = reply.events()
        await anext(events)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 30_000_000  # mostly in the buffers of the two sockets
        total = 0
        async for data in events:
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


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return certified(tmp_path_factory.mktemp("tls"), "localhost")


def server_tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def trusted(certificate, monkeypatch):
    """Let the client accept the test's certificate, as an operator does for an authority of their own."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    dial.tls_context.cache_clear()
    yield
    dial.tls_context.cache_clear()


async def test_tls_is_used_again_and_verified(certificate, trusted):
    async with serving(REPLY, tls=server_tls(certificate), host="localhost") as server, client() as upstream:
        assert await call(upstream, to(server, "https", "localhost")) == (200, b"hello")
        assert await call(upstream, to(server, "https", "localhost")) == (200, b"hello")
        assert server.connections == 1
        with pytest.raises(NotReached, match=r"certificate of 127\.0\.0\.1:.* is not accepted: .*mismatch") as caught:
            await call(upstream, to(server, "https", "127.0.0.1"))
        assert caught.value.problem.reason == "tls"


async def test_an_unknown_certificate_is_refused(certificate):
    dial.tls_context.cache_clear()
    async with serving(REPLY, tls=server_tls(certificate), host="localhost") as server, client() as upstream:
        with pytest.raises(NotReached, match="is not accepted: self-signed certificate"):
            await call(upstream, to(server, "https", "localhost"))
    assert server.heads == []


async def test_a_handshake_that_hangs_ends_at_the_deadline():
    """Check the deadline with a server without TLS, which waits for the end of a head."""
    async with serving(REPLY) as server, client() as upstream:
        with pytest.raises(NotReached, match="no connection in time"):
            await call(upstream, to(server, "https"), connect_seconds=0.2)


# names and addresses


@pytest.fixture
def names(monkeypatch):
    """Replace the look-up of names: `names[host]` has the addresses, or an exception. `names.asked` has the hosts."""

    class Names(dict):
        def __init__(self):
            super().__init__()
            self.asked = []

    known = Names()
    real = asyncio.base_events.BaseEventLoop.getaddrinfo

    async def look_up(loop, host, port, **options):
        if host not in known:
            return await real(loop, host, port, **options)
        known.asked.append(host)
        await asyncio.sleep(0.01)
        if isinstance(known[host], Exception):
            raise known[host]
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in known[host]
        ]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", look_up)
    return known


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
    """Check that the next address is tried beside one that is silent (RFC 8305)."""
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


# proxies


def proxied(monkeypatch, **variables):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


async def test_a_call_over_http_goes_through_the_proxy(monkeypatch, names):
    async with serving(REPLY) as proxy:
        proxied(monkeypatch, http_proxy=f"http://me:pa%40ss@127.0.0.1:{proxy.port}")
        async with client() as upstream:
            assert await call(upstream, provider("http://models.test/api")) == (200, b"hello")
    assert proxy.heads[0].startswith("POST http://models.test/api/v1/chat HTTP/1.1\r\nhost: models.test\r\n")
    assert "\r\nproxy-authorization: Basic bWU6cGFAc3M=\r\n" in proxy.heads[0]
    assert names.asked == []


def tunnels(port, *replies):
    """Return a function for `serving`: a proxy that agrees to CONNECT, and then copies bytes to `port` and back."""
    reply = replies[0] if replies else b"HTTP/1.1 200 Connection established\r\n\r\n"

    async def tunnel(reader, writer):
        writer.write(reply)
        if not reply.startswith(b"HTTP/1.1 200"):
            raise ConnectionError
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)

        async def copy(source, target):
            while data := await source.read(65536):
                target.write(data)
            raise ConnectionError

        try:
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        finally:
            far_writer.close()

    return tunnel


async def test_a_call_over_https_goes_through_the_proxy_in_tls(monkeypatch, certificate, trusted):
    async with serving(REPLY, tls=server_tls(certificate)) as server, serving(tunnels(server.port)) as proxy:
        proxied(monkeypatch, HTTPS_PROXY=f"127.0.0.1:{proxy.port}")
        monkeypatch.setattr(dial, "_is_local", lambda _: False)
        async with client() as upstream:
            for _ in range(2):
                assert await call(upstream, to(server, "https", "localhost")) == (200, b"hello")
    assert proxy.heads == [f"CONNECT localhost:{server.port} HTTP/1.1\r\nhost: localhost:{server.port}\r\n\r\n"]
    assert server.heads[0].startswith("POST /v1/chat HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "answered HTTP/1.1 407 Proxy Authentication Required"),
        (b"", "ended the connection"),
        (b"SSH-2.0\r\n\r\n", "answered SSH-2.0"),
    ],
)
async def test_a_proxy_that_refuses_is_named(monkeypatch, reply, words):
    async with serving(tunnels(0, reply)) as proxy:
        proxied(monkeypatch, HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}")
        async with client() as upstream:
            with pytest.raises(
                NotReached, match=f"models.test:443: the proxy 127.0.0.1:{proxy.port} {words}"
            ) as caught:
                await call(upstream, provider("https://models.test"))
    assert caught.value.problem.reason == "proxy"


@pytest.mark.parametrize(
    ("url", "variables", "direct"),
    [
        ("http://127.0.0.1", {"http_proxy": "http://proxy.test"}, True),
        ("http://localhost", {"http_proxy": "http://proxy.test"}, True),
        ("http://[::1]", {"all_proxy": "http://proxy.test"}, True),
        ("http://models.test", {"http_proxy": "http://proxy.test", "no_proxy": "models.test"}, True),
        ("http://a.models.test", {"http_proxy": "http://proxy.test", "NO_PROXY": ".models.test"}, True),
        ("http://models.test", {"http_proxy": "http://proxy.test", "no_proxy": "*"}, True),
        ("http://models.test", {"https_proxy": "http://proxy.test"}, True),
        ("https://models.test", {"https_proxy": "http://proxy.test"}, False),
        ("https://models.test", {"all_proxy": "http://proxy.test"}, False),
        ("http://models.test", {"http_proxy": "http://proxy.test", "no_proxy": "other.test"}, False),
    ],
)
async def test_the_environment_says_which_calls_go_through_a_proxy(monkeypatch, names, url, variables, direct):
    proxied(monkeypatch, **variables)
    names["models.test"] = names["a.models.test"] = names["proxy.test"] = socket.gaierror(socket.EAI_NONAME, "no")
    async with client() as upstream:
        where = upstream._dialer.proxy_for(base(url).origin)
        assert (where is None) is direct


async def test_a_proxy_that_is_no_http_proxy_is_named(monkeypatch):
    proxied(monkeypatch, all_proxy="socks5://127.0.0.1:1080")
    async with client() as upstream:
        with pytest.raises(NotReached, match="the proxy in the environment for https is no http:// URL"):
            await call(upstream, provider("https://models.test"))


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
