"""Tests of the PROXY protocol over real connections: which peers may use it to state another caller's address."""

import asyncio

import pytest

from gateway.access.identity import proxy_protocol
from gateway.access.identity.caller import Caller
from gateway.access.identity.proxy_protocol import Handover, ProxyRefusals, Sources, trusted
from gateway.telemetry.log import configure
from tests.helpers.gateway import Lines

HEADER = b"PROXY TCP4 100.64.0.7 127.0.0.1 4711 80\r\n"
LOCAL, LOCAL_6, OTHER, PROXY = ("127.0.0.1", 1), ("::1", 1, 0, 0), ("127.0.0.2", 1), ("10.0.0.2", 1)


class Following(asyncio.Protocol):
    """The protocol that takes over a connection after its PROXY header. It writes the caller's address to the
    connection.
    """

    def __init__(self, sources):
        self.sources = sources

    def connection_made(self, transport):
        address, port = self.sources.of(Caller(transport, None, None, ()))
        transport.write(f"{address}:{port}".encode())
        transport.close()


async def said(proxies, local):
    """Connect from the address `local`, and send a PROXY header. Return the text that the server sends back, and the
    log lines.
    """
    sources, lines = Sources(), Lines()
    refusals = ProxyRefusals(configure(lines))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Handover(lambda: Following(sources), sources, frozenset(proxies), refusals), "127.0.0.1", 0
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(local, 0))
        writer.write(HEADER)
        try:
            answer = await asyncio.wait_for(reader.read(), 30)
        except ConnectionError:
            answer = b""
        writer.close()
    return answer.decode(), lines


@pytest.mark.parametrize(("proxies", "local"), [((), "127.0.0.1"), ((), "127.0.0.2"), (("127.0.0.2",), "127.0.0.2")])
async def test_a_proxy_of_the_listener_may_say_whose_connection_it_is(proxies, local):
    answer, _ = await said(proxies, local)
    assert answer == "100.64.0.7:4711"


@pytest.mark.parametrize("proxies", [("127.0.0.2",), ("10.0.0.2",), ("::1",)])
async def test_a_process_of_this_machine_is_refused_where_others_are_named(proxies):
    answer, lines = await said(proxies, "127.0.0.1")
    assert answer == ""
    line = await lines.until("identity.proxy_refused")
    assert [entry["reason"] for entry in line] == ["the connection comes from no proxy of this listener"]


@pytest.mark.parametrize(
    ("peer", "proxies", "expected"),
    [
        (LOCAL, (), True),
        (LOCAL_6, (), True),
        (("::ffff:127.0.0.1", 1, 0, 0), (), True),
        ("", (), True),
        ("", {"10.0.0.2"}, True),
        (PROXY, (), False),
        (PROXY, {"10.0.0.2"}, True),
        (("::ffff:10.0.0.2", 1, 0, 0), {"10.0.0.2"}, True),
        (("fe80::2%eth0", 1, 0, 2), {"fe80::2"}, True),
        (("100.64.0.7", 1), {"10.0.0.2"}, False),
        (LOCAL, {"10.0.0.2"}, False),
        (LOCAL_6, {"10.0.0.2"}, False),
        (LOCAL, {"10.0.0.2", "127.0.0.1"}, True),
        (OTHER, {"127.0.0.1"}, False),
    ],
)
def test_only_named_proxies_or_else_this_machine_are_trusted(peer, proxies, expected):
    """Check that only configured proxies may state a caller's address. If none is configured, only this machine may."""
    assert trusted(peer, proxies) is expected


class Echo(asyncio.Protocol):
    """A protocol that sends back what it receives."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def test_a_connection_whose_header_came_outlives_the_headers_deadline(monkeypatch):
    monkeypatch.setattr(proxy_protocol, "HEADER_SECONDS", 0.1)
    loop, lines = asyncio.get_running_loop(), Lines()
    sources, refusals = Sources(), ProxyRefusals(configure(lines))
    server = await loop.create_server(lambda: Handover(Echo, sources, frozenset(), refusals), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        silent, leaving = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEADER)
        # a connection that began before, and says nothing, is cut first: the deadline of both has then passed
        assert await asyncio.wait_for(silent.read(), 30) == b""
        await asyncio.sleep(0.1)
        writer.write(b"still here")
        assert await asyncio.wait_for(reader.readexactly(10), 30) == b"still here"
        for each in (writer, leaving):
            each.close()
