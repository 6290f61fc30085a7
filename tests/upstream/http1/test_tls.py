"""Tests of TLS to providers: which certificates are accepted, and for which names."""

import asyncio
import json
import socket

import pytest

from gateway.config.load import loads
from gateway.contract.errors import NotReached
from gateway.upstream.http1.tls import BUFFER_BYTES, start_tls, tls_context
from tests.helpers.plain_server import REPLY, call, client, serving, to
from tests.helpers.tls import authority, certified, server_tls, signed


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return certified(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture
def trusted(certificate, monkeypatch):
    """Let the client trust the test's certificate by SSL_CERT_FILE, as operators do for their own certificate
    authority.
    """
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    tls_context.cache_clear()
    yield
    tls_context.cache_clear()


async def test_tls_is_used_again_and_verified(certificate, trusted):
    async with serving(REPLY, tls=server_tls(*certificate), host="localhost") as server, client() as upstream:
        assert await call(upstream, to(server, "https", "localhost")) == (200, b"hello")
        assert await call(upstream, to(server, "https", "localhost")) == (200, b"hello")
        assert server.connections == 1
        with pytest.raises(NotReached, match=r"certificate of 127\.0\.0\.1:.* is not accepted: .*mismatch") as caught:
            await call(upstream, to(server, "https", "127.0.0.1"))
        assert caught.value.problem.reason == "tls"


async def test_an_unknown_certificate_is_refused(certificate):
    tls_context.cache_clear()
    async with serving(REPLY, tls=server_tls(*certificate), host="localhost") as server, client() as upstream:
        with pytest.raises(NotReached, match="is not accepted: self-signed certificate"):
            await call(upstream, to(server, "https", "localhost"))
    assert server.heads == []


async def test_a_handshake_that_hangs_ends_at_the_deadline():
    """Check that a TLS handshake that hangs is ended by the deadline for connecting.

    The server does not speak TLS, and waits for the end of a request's head.
    """
    async with serving(REPLY) as server, client() as upstream:
        with pytest.raises(NotReached, match="no connection in time"):
            await call(upstream, to(server, "https"), connect_seconds=0.2)


async def test_a_name_that_ends_with_a_dot_is_the_same_name(certificate, trusted, names):
    names["localhost."] = ["127.0.0.1"]
    async with serving(REPLY, tls=server_tls(*certificate)) as server, client() as upstream:
        assert await call(upstream, to(server, "https", "localhost.")) == (200, b"hello")


def configured(folder, url, **options):
    """Return a provider from a configuration with these options. Its relative paths begin at `folder`."""
    text = json.dumps({"providers": {"p": {"baseurl": url, "models": ["m"], "apikey": "", **options}}})
    return loads(text, folder=folder).config.providers["p"]


async def test_a_provider_with_a_private_authority_is_reached_by_its_file(tmp_path):
    """Check that only the certificate authorities in a provider's `ca_file` are accepted.

    After a change of the file, new connections are made, and only the new authorities are accepted.
    """
    first, second = (authority(tmp_path, name) for name in ("first", "second"))
    file = tmp_path / "ca.pem"
    file.write_bytes(first[0].read_bytes())
    async with (
        serving(REPLY, tls=server_tls(*signed(first, "localhost")), host="localhost") as server,
        client() as upstream,
    ):
        url = f"https://localhost:{server.port}"
        before = configured(tmp_path, url, ca_file="ca.pem")
        for _ in range(2):
            assert await call(upstream, before) == (200, b"hello")
        assert server.connections == 1
        with pytest.raises(NotReached, match="is not accepted: unable to get local issuer certificate"):
            await call(upstream, configured(tmp_path, url))
        file.write_bytes(second[0].read_bytes())
        with pytest.raises(NotReached, match="is not accepted"):
            await call(upstream, configured(tmp_path, url, ca_file="ca.pem"))
        file.write_bytes(second[0].read_bytes() + first[0].read_bytes())
        assert await call(upstream, configured(tmp_path, url, ca_file=str(file))) == (200, b"hello")
        assert server.connections == 2
        with pytest.raises(NotReached, match=r"certificate of 127\.0\.0\.1:.* is not accepted: .*mismatch"):
            await call(upstream, configured(tmp_path, f"https://127.0.0.1:{server.port}", ca_file="ca.pem"))


async def test_the_authorities_of_the_system_do_not_count_beside_a_file(certificate, trusted, tmp_path):
    private, _ = authority(tmp_path, "private")
    async with serving(REPLY, tls=server_tls(*certificate), host="localhost") as server, client() as upstream:
        assert await call(upstream, to(server, "https", "localhost")) == (200, b"hello")
        with pytest.raises(NotReached, match="is not accepted"):
            await call(upstream, to(server, "https", "localhost", authorities=private.read_text()))


class Reader(asyncio.Protocol):
    """A protocol that records how many bytes each read returns."""

    def __init__(self, expected):
        self.expected = expected
        self.sizes = []
        self.all_read = asyncio.Event()

    def data_received(self, data):
        self.sizes.append(len(data))
        if sum(self.sizes) == self.expected:
            self.all_read.set()


async def test_no_read_is_larger_than_the_buffer(certificate, trusted):
    sent = 5 * BUFFER_BYTES

    async def send(_, writer):
        writer.write(bytes(sent))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(send, "localhost", 0, ssl=server_tls(*certificate)) as server:
        reader, sock = Reader(sent), socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, server.sockets[0].getsockname())
        await start_tls(sock, reader, tls_context(""), "localhost")
        await reader.all_read.wait()
    assert max(reader.sizes) <= BUFFER_BYTES
