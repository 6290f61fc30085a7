"""Tests of requests that a worker passes on to its parent process (the keeper). They check the contents, the caller's
identity, and failures.
"""

import asyncio
import json
import os
import stat
import struct
from contextlib import asynccontextmanager, closing
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest

from gateway.access.identity.origin import Origin
from gateway.process.handover import wire
from gateway.process.workers import forwarded
from gateway.process.workers.forwarded import FILE, MAX_BYTES, encoded
from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.tailnet_nodes import Node, User
from tests.helpers.behind_worker import behind_worker
from tests.helpers.gateway import CAP, HAIKU, bedrock, gate
from tests.helpers.raw_http import Raw, raw_connections  # noqa: F401 (a fixture of every test here)
from tests.helpers.tls import certified
from tests.helpers.waiting import eventually

ALICE = Node("laptop.example.ts.net", ("100.64.0.7",), User("alice@example.com"))
BOB = Node("phone.example.ts.net", ("100.64.0.8",), User("bob@example.com"))
USERS = [{"src": ["*"], "app": {CAP: [{"role": "user"}, {"models": "**"}]}}]


@asynccontextmanager
async def served(state, sim, **options):
    async with gate(state, {"b": bedrock(sim.url)}, **options) as gw, behind_worker(gw, state) as behind:
        yield gw, behind


@pytest.fixture
async def both(tmp_path, bedrock_sim):
    async with served(tmp_path, bedrock_sim) as running:
        yield running


@pytest.fixture
def gw(both):
    return both[0]


async def connected(gw, at=0, **options):
    place = urlsplit(gw.running.urls[at])
    return await Raw.open(place.hostname, place.port, **options)


async def whoami(raw, **options):
    status, _, body = await raw.ask("/api/whoami", **options)
    return json.loads(body)["login"] if status == 200 else (status, json.loads(body)["error"])


PATHS = ("/api/whoami", "/api/openapi.json", "/v1/models", "/healthz", "/no/such/path", "/api/usage?format=csv", "/")


@pytest.mark.parametrize("path", PATHS)
async def test_a_reply_has_the_keepers_status_headers_and_body(gw, tmp_path, path):
    raw = await Raw.unix(tmp_path / FILE, encoded(origin_of(gw)))
    own = await raw.ask(path, headers=[("Connection", "close")])
    ours = await (await connected(gw)).ask(path)
    for headers in (own[1], ours[1]):
        assert len(headers.pop("x-request-id")) == 28
        headers.pop("date", None)
        headers.pop("connection", None)
    assert (ours[0], ours[1], len(ours[2])) == (own[0], own[1], len(own[2]))


def origin_of(gw, **changes):
    place = urlsplit(gw.url)
    return Origin(**{"id": "a", "peer": ("127.0.0.1", 4711), "local": (place.hostname, place.port), **changes})


async def test_a_head_has_no_body_and_the_connection_goes_on(gw):
    raw = await connected(gw)
    raw.writer.write(b"HEAD /api/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    head = await raw.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"\r\ncontent-length: " in head
    assert await whoami(raw) == "(loopback)"


async def test_a_client_of_http_1_0_gets_a_whole_reply(gw):
    raw = await connected(gw)
    raw.writer.write(b"GET /api/whoami HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    head, _, body = (await raw.reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ")
    assert json.loads(body)["login"] == "(loopback)"


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_arrives_whole(gw, bedrock_sim, is_chunked):
    body = json.dumps({"model": HAIKU, "messages": [{"role": "user", "content": "x" * 1_000_000}]}).encode()

    async def pieces():
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    data = pieces() if is_chunked else body
    headers = {"content-type": "application/json"}
    async with gw.session.post(f"{gw.url}/v1/chat/completions", data=data, headers=headers) as reply:
        assert reply.status == 200
    (request,) = bedrock_sim.requests
    assert len(request.body) > 1_000_000


async def test_the_keepers_limit_of_bodies_holds(tmp_path, bedrock_sim):
    async with served(tmp_path, bedrock_sim, server={"limits": {"body_bytes": 2000}}) as (gw, _):
        reply = await gw.post("/v1/chat/completions", b"x" * 100_000)
        assert reply.status == 413


async def test_a_malformed_body_is_refused_and_the_worker_goes_on(gw):
    raw = await connected(gw)
    raw.writer.write(b"POST /api/quotas HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    status, _, _ = await raw.reply()
    assert status == 400
    assert (await gw.get("/api/whoami")).status == 200


async def test_an_expected_reply_comes_before_the_body(gw):
    raw = await connected(gw)
    data = json.dumps({"model": HAIKU, "messages": [{"role": "user", "content": "Hi"}]}).encode()
    raw.writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data)
    )
    assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    raw.writer.write(data)
    status, _, _ = await raw.reply()
    assert status == 200


async def test_events_arrive_as_they_are_sent_and_end_with_the_client(both):
    gw, behind = both
    raw = await connected(gw)
    raw.writer.write(b"GET /ui/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await raw.reader.readuntil(b"retry: ")
    assert (gw.running.connections.count, behind.connections.count) == (1, 1)
    raw.writer.close()
    await eventually(lambda: (gw.running.connections.count, behind.connections.count) == (0, 0))


async def test_a_client_of_http2_is_served_too(gw):
    http2 = pytest.importorskip("tests.helpers.http2")
    async with http2.http2(gw.url) as client:
        replies = await asyncio.gather(*(client.get(path) for path in ("/api/whoami", "/ui/", "/no/such/path")))
        assert [status for status, _, _ in replies] == [200, 200, 404]


async def test_pages_know_of_the_workers_tls(tmp_path, bedrock_sim):
    certificate, key = certified(tmp_path, "localhost")
    listeners = [{"listen": "127.0.0.1:0", "tls": {"certificate": str(certificate), "key": str(key)}}]
    state = tmp_path / "state"
    state.mkdir()
    async with (
        served(state, bedrock_sim, server={"listeners": listeners}) as (gw, _),
        gw.session.post(f"{gw.url}/v1/v1/messages", ssl=False, data=b"{}") as reply,
    ):
        assert f"to {gw.url}" in await reply.text()


# who the caller is


@pytest.fixture
async def sim(tmp_path):
    async with LocalApiSim(tmp_path / "tailscaled.sock") as running:
        for node in (ALICE, BOB):
            running.add(node)
        yield running


def listeners(sim, path):
    return [
        {"listen": "127.0.0.1:0"},
        {"listen": "127.0.0.2:0", "identity": "whois", "tailscaled": str(sim.path)},
        {"listen": "127.0.0.3:0", "identity": "proxy-protocol", "tailscaled": str(sim.path)},
        {"listen": f"unix:{path}", "identity": "serve-headers"},
        {"listen": "127.0.0.4:0", "identity": "static", "login": "robot"},
    ]


@pytest.fixture
async def every(tmp_path, bedrock_sim, sim):
    """Yield a gateway with a listener of each identity mode, and the path of the one listener that is a unix socket."""
    path = tmp_path / "http.sock"
    server = {"listeners": listeners(sim, path)}
    async with served(tmp_path, bedrock_sim, server=server, grants=USERS) as (gw, _):
        yield gw, path


async def test_each_mode_identifies_callers_as_without_workers(every, sim):
    gw, path = every
    alice, bob = await connected(gw, 1), await connected(gw, 1)
    sim.proxied(alice.port, ALICE)
    sim.proxied(bob.port, BOB)
    proxied = await connected(gw, 2, first=b"PROXY TCP4 100.64.0.8 127.0.0.1 4711 80\r\n")
    serve, static, local = await Raw.unix(path), await connected(gw, 4), await connected(gw)
    by_serve = {"host": "localhost", "headers": [("Tailscale-User-Login", "carol@example.com")]}
    for _ in range(2):
        assert await whoami(alice) == "alice@example.com"
        assert await whoami(bob) == "bob@example.com"
        assert await whoami(proxied) == "bob@example.com"
        assert await whoami(serve, **by_serve) == "carol@example.com"
        assert await whoami(static) == "robot"
        assert await whoami(local) == "(loopback)"


async def test_tailscaled_is_asked_once_for_a_clients_connection(every, sim):
    gw, _ = every
    alice = await connected(gw, 1)
    sim.proxied(alice.port, ALICE)
    assert await whoami(alice) == "alice@example.com"
    asked = len(sim.asked)
    assert [await whoami(alice) for _ in range(3)] == ["alice@example.com"] * 3
    assert len(sim.asked) == asked


async def test_a_port_of_another_caller_before_gives_no_identity(every, sim):
    gw, _ = every
    alice = await connected(gw, 1)
    port = alice.port
    sim.proxied(port, ALICE)
    assert await whoami(alice) == "alice@example.com"
    alice.writer.close()
    await alice.writer.wait_closed()
    bob = await connected(gw, 1, local=port)
    sim.proxied(port, BOB)
    assert await whoami(bob) == "bob@example.com"


@pytest.mark.parametrize(
    "headers",
    [
        [("Connection", "close, x-forwarded-for"), ("X-Forwarded-For", "100.64.0.7")],
        [("Connection", "keep-alive, tailscale-user-login"), ("Tailscale-User-Login", "alice@example.com")],
        [("Forwarded", "for=100.64.0.7")],
    ],
)
async def test_a_header_that_a_proxy_adds_is_seen_by_the_keeper(gw, headers):
    status, reason = await whoami(await connected(gw), headers=headers)
    assert status == 403
    assert "a proxy forwarded this request" in reason


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("evil.example", []),
        ("127.0.0.1", [("Origin", "http://evil.example")]),
        ("127.0.0.1", [("Sec-Fetch-Site", "cross-site")]),
        ("127.0.0.1", [("X-Forwarded-Host", "evil.example"), ("Origin", "http://evil.example")]),
    ],
)
async def test_pages_of_other_sites_are_refused(gw, host, headers):
    status, reason = await whoami(await connected(gw), host=host, headers=headers)
    assert (status, "access denied" in reason) == (403, True)


async def test_the_host_that_serve_names_is_the_origin(every):
    _, path = every
    headers = [("Tailscale-User-Login", "carol@example.com"), ("X-Forwarded-Host", "ai.example.ts.net")]
    own, other = ("Origin", "https://ai.example.ts.net"), ("Origin", "https://evil.example")
    assert await whoami(await Raw.unix(path), host="localhost", headers=[*headers, own]) == "carol@example.com"
    refused = await whoami(await Raw.unix(path), host="localhost", headers=[*headers, other])
    assert refused == (403, 'access denied: origin "https://evil.example" is not this gateway\'s')


@pytest.mark.parametrize(
    "head",
    [
        "GET /api/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n",
        "GET http://evil.example/api/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        "GET /api/whoami#x HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        "POST /api/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip, chunked\r\n",
        "POST /api/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "GET /api/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\rGET /healthz HTTP/1.1\r\n",
        "GET /api/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\n b\r\n",
        "GET /api/whoami HTTP/9.9\r\nHost: 127.0.0.1\r\n",
    ],
)
async def test_a_request_that_proxies_could_read_otherwise_is_refused(gw, head):
    raw = await connected(gw)
    raw.writer.write(head.encode() + b"\r\n")
    status, _, _ = await raw.reply()
    assert status == 400
    assert await raw.reader.read() == b""


@pytest.mark.parametrize("size", [4, 0])
async def test_a_client_cannot_send_the_ends_of_a_connection(gw, size):
    raw = await connected(gw)
    raw.writer.write(encoded(origin_of(gw, peer=("100.64.0.7", 1)))[4 - size :] + b"GET / HTTP/1.1\r\n\r\n")
    status, _, _ = await raw.reply()
    assert status == 400


# the private socket


async def is_closed(raw):
    """Wait until the other end closes the connection. Return True if it has not sent a single byte."""
    try:
        return await raw.reader.read() == b""
    except ConnectionResetError:
        return True


async def test_only_the_same_user_reaches_the_private_socket(gw, tmp_path, monkeypatch):
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    user = os.geteuid()
    monkeypatch.setattr(wire.os, "geteuid", lambda: user + 1)
    assert await is_closed(await Raw.unix(tmp_path / FILE, encoded(origin_of(gw))))
    (line,) = await gw.lines.until("pages.connection_refused")
    assert f"belongs to user {user}" in line["reason"]


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        struct.pack(">I", MAX_BYTES + 1),
        struct.pack(">I", 2) + b"{}",
        struct.pack(">I", 3) + b"\xff\xff\xff",
    ],
)
async def test_what_does_not_begin_as_a_workers_connection_is_closed(gw, tmp_path, beginning):
    assert await is_closed(await Raw.unix(tmp_path / FILE, beginning))
    await gw.lines.until("pages.connection_refused")


async def test_a_beginning_may_come_in_pieces(gw, tmp_path):
    data = encoded(origin_of(gw)) + b"GET /api/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    raw = await Raw.unix(tmp_path / FILE)
    for byte in data:
        raw.writer.write(bytes([byte]))
        await raw.writer.drain()
    assert (await raw.reply())[0] == 200


async def test_a_connection_that_never_begins_is_closed(gw, tmp_path, monkeypatch):
    monkeypatch.setattr(forwarded, "OPENING_SECONDS", 0.01)
    assert await is_closed(await Raw.unix(tmp_path / FILE))


async def test_a_connection_to_no_listener_has_no_caller(gw, tmp_path):
    raw = await Raw.unix(tmp_path / FILE, encoded(origin_of(gw, local=("127.0.0.1", 1))))
    assert await whoami(raw) == (403, "access denied: the caller is not known")


async def test_few_connections_are_remembered(monkeypatch):
    monkeypatch.setattr(forwarded, "REMEMBERED", 2)
    clients = forwarded._Clients()
    one, two, three = (Origin(id=name, peer=None, local=None) for name in "abc")
    first, second = clients.of(one), clients.of(two)
    assert clients.of(one) is first
    clients.of(three)
    assert clients.of(one) is first
    assert clients.of(two) is not second


# a keeper that does not answer


async def test_without_a_keeper_a_page_is_a_503_in_json(both, tmp_path):
    gw, behind = both
    behind.listener.close()
    assert not (tmp_path / FILE).exists()
    reply = await gw.get("/api/whoami")
    assert (reply.status, reply.headers["retry-after"]) == (503, "2")
    assert "does not answer" in json.loads(reply.body)["error"]
    assert reply.headers["x-request-id"].startswith("req_")
    await behind.listener.start()
    assert (await gw.get("/api/whoami")).status == 200
    (line,) = await gw.lines.until("pages.unavailable")
    assert line["reason"]


@asynccontextmanager
async def keeper_that_says(state, reply):
    """Replace the keeper (the workers' parent process) by a server that answers each request with `reply` and closes
    the connection.
    """

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    (state / FILE).unlink(missing_ok=True)
    server = await asyncio.start_unix_server(answer, state / FILE)
    with closing(server):
        yield


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"SMTP\r\n\r\n"])
async def test_a_keeper_that_ends_before_its_reply_is_a_503(gw, tmp_path, reply):
    async with keeper_that_says(tmp_path, reply):
        assert (await gw.get("/api/whoami")).status == 503


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
async def test_a_reply_that_is_cut_looks_cut_to_the_client(gw, tmp_path, reply):
    async with keeper_that_says(tmp_path, reply):
        with pytest.raises(aiohttp.ClientPayloadError):
            await gw.get("/api/whoami")
        assert gw.lines.entries("http.error") == []


def test_ends_survive_the_way():
    for peer, source in ((("::1", 1, 0, 0), ("fd7a::1", 5)), ("", None), (None, None)):
        sent = Origin(id="a", peer=peer, local=("127.0.0.1", 80), has_source=True, source=source, secure=True)
        assert msgspec.json.decode(encoded(sent)[4:], type=Origin) == sent
