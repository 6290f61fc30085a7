"""Tests of HTTP proxies: which calls use a proxy, how they use it, and the error if the proxy does not connect to the
provider.
"""

import asyncio
import socket

import pytest

from gateway.contract.errors import NotReached
from gateway.upstream.http1 import proxies
from gateway.upstream.http1.proxies import Proxies, is_direct
from gateway.upstream.http1.targets import base
from tests.helpers.plain_server import REPLY, call, client, provider, serving, to
from tests.helpers.tls import certified, server_tls


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
    """Return the handler of a proxy that accepts CONNECT, and then copies bytes to `port` and back.

    If `replies` is given, its first item is the proxy's answer to CONNECT.
    """
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


async def test_a_call_over_https_goes_through_the_proxy_in_tls(monkeypatch, tmp_path):
    certificate = certified(tmp_path, "localhost")
    async with serving(REPLY, tls=server_tls(*certificate)) as server, serving(tunnels(server.port)) as proxy:
        proxied(monkeypatch, HTTPS_PROXY=f"me:secret@127.0.0.1:{proxy.port}")
        monkeypatch.setattr(proxies, "is_local", lambda _: False)
        async with client() as upstream:
            for _ in range(2):
                where = to(server, "https", "localhost", authorities=certificate[0].read_text())
                assert await call(upstream, where) == (200, b"hello")
    (head,) = proxy.heads
    assert head.rstrip().split("\r\n") == [
        f"CONNECT localhost:{server.port} HTTP/1.1",
        f"host: localhost:{server.port}",
        "proxy-authorization: Basic bWU6c2VjcmV0",
    ]
    assert server.heads[0].startswith("POST /v1/chat HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "answered HTTP/1.1 407 Proxy Authentication Required"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "answered HTTP/1.1 403 Forbidden"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "answered HTTP/1.1 2000 OK"),
        (b"HTTP/1.1 302 \x1b[31m\r\n\r\n", r"answered HTTP/1.1 302 \[31m"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n!", "sent more than its answer"),
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


HTTP, HTTPS, ALL = (
    {"http_proxy": "proxy.test"},
    {"HTTPS_PROXY": "http://proxy.test:3128"},
    {"all_proxy": "http://proxy.test"},
)


@pytest.mark.parametrize(
    ("url", "variables", "direct"),
    [
        ("http://127.0.0.1", HTTP, True),
        ("http://127.1.2.3", HTTP, True),
        ("http://localhost", HTTP, True),
        ("http://[::1]", ALL, True),
        ("http://models.test", HTTP, False),
        ("http://models.test", HTTPS, True),
        ("https://models.test", HTTPS, False),
        ("https://models.test", ALL, False),
        ("https://models.test", {}, True),
        ("https://models.test", {**HTTPS, "https_proxy": ""}, True),
    ],
)
def test_the_environment_says_which_calls_go_through_a_proxy(monkeypatch, url, variables, direct):
    proxied(monkeypatch, **variables)
    proxy = Proxies().proxy_for(base(url).origin)
    assert (proxy is None) is direct


DIRECT = {
    "models.test": ["models.test", ".models.test", "*.models.test", "a.test, models.test", "a.test models.test", "*",
                    "MODELS.test", "models.test:443", "test", " ,models.test,"],
    "a.models.test": ["models.test", ".models.test", "*.models.test"],
    "models.test.": ["models.test"],
    "10.1.2.3": ["10.1.2.3", "10.0.0.0/8", "10.1.2.3:443", "10.1.2.3/8"],
    "[fd00::1]": ["fd00::1", "[fd00::1]", "[fd00::1]:443", "fd00::/8"],
}  # fmt: skip
PROXIED = {
    "models.test": [
        "",
        ",",
        ".",
        "other.test",
        "dels.test",
        "models.test:80",
        "a.models.test",
        "models.test.com",
        "[",
        "a:b:c",
    ],
    "10.1.2.3": ["10.1.2.30", "11.0.0.0/8", "1.2.3", "10.1.2.3:80", "fd00::/8", "10.0.0.0/99"],
    "[fd00::1]": ["fd00::2", "[fd00::1]:80", "0.0.0.0/0"],
}


@pytest.mark.parametrize(("table", "direct"), [(DIRECT, True), (PROXIED, False)])
def test_no_proxy_names_hosts_addresses_and_ranges(table, direct):
    for host, entries in table.items():
        for entry in entries:
            assert is_direct(base(f"https://{host}").origin, entry) is direct, (host, entry)


@pytest.mark.parametrize(
    "url", ["socks5://127.0.0.1:1080", "https://proxy.test", "http://proxy.test:99999", "http://", "[::1"]
)
async def test_a_proxy_that_is_no_http_proxy_is_named(monkeypatch, url):
    proxied(monkeypatch, all_proxy=url)
    async with client() as upstream:
        with pytest.raises(NotReached, match="the proxy in the environment for https is no http:// URL"):
            await call(upstream, provider("https://models.test"))


@pytest.mark.parametrize("host", ["127.0.0.1", "proxy.test"])
async def test_a_proxy_that_cannot_be_reached_is_named(monkeypatch, names, host):
    names["proxy.test"] = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    proxied(monkeypatch, HTTPS_PROXY=f"http://me:secret@{host}:1")
    async with client() as upstream:
        with pytest.raises(NotReached, match=f"the proxy {host}:1 cannot be reached: ") as caught:
            await call(upstream, provider("https://models.test"))
    assert caught.value.problem.reason == "proxy"
    assert "secret" not in caught.value.problem.message


async def test_a_proxy_that_is_silent_is_named(monkeypatch):
    async with serving(lambda reader, writer: reader.read()) as proxy:
        proxied(monkeypatch, HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}")
        async with client() as upstream:
            with pytest.raises(
                NotReached, match=rf"no connection in time \(through the proxy 127\.0\.0\.1:{proxy.port}\)"
            ):
                await call(upstream, provider("https://models.test"), connect_seconds=0.2)
