"""Tests that requests from web pages in a caller's browser are not handled as requests of the caller."""

import asyncio
import socket

import aiohttp
import pytest

from gateway.call.guard import cross_site, json_error
from tests.helpers.gateway import CAP, gate

HOSTS = ("ai", "ai.example.ts.net")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:8080"},
        {"Host": "[::1]:8080"},
        {"Host": "localhost"},
        {"Host": "LOCALHOST:1"},
        {"Host": "ai"},
        {"Host": "AI.example.ts.net."},
        {"Host": "100.64.0.7"},
        {"Host": "ai:8080", "Origin": "http://ai:8080"},
        {"Host": "ai", "Origin": "http://ai", "Sec-Fetch-Site": "same-origin"},
        {"Host": "ai.example.ts.net", "Origin": "https://ai.example.ts.net"},
        {"Host": "ai", "Sec-Fetch-Site": "none"},
        {"Host": "ai:80", "Origin": "http://ai"},
        {"Host": "ai", "Origin": "https://ai:443"},
        {"Host": "[::1]:8080", "Origin": "http://[0:0::1]:8080"},
    ],
)
def test_the_gateways_own_names_and_pages_pass(headers):
    assert cross_site(headers, HOSTS) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": ""},
        {"Host": "evil.example"},
        {"Host": "ai.evil.example"},
        {"Host": "user@ai"},
        {"Host": "ai/path"},
        {"Host": "ai:99999"},
        {"Host": "ai evil"},
        {"Host": "ai:0"},
        {"Host": "ai:"},
        {"Host": "ai:+80"},
        {"Host": "xn--a"},
        {"Host": "localhost/.."},
        {"Host": "localhost?"},
        {"Host": "localhost#"},
        {"Host": "localhost\n"},
        {"Host": "127.0.0.\uff11"},
        {"Host": "localhost:\uff18\uff10"},
        {"Host": "\udcff"},
        {"Host": "[::1"},
        {"Host": "[127.0.0.1]"},
        {"Host": "[::1%25lo]"},
        {"Host": "::1"},
        {"Host": "127.1"},
        {"Host": "ai", "Origin": "\udcff"},
        {"Host": "ai", "Origin": "http://\udcff"},
        {"Host": "ai", "Origin": "http://xn--a"},
        {"Host": "ai", "Origin": "http://ai/"},
        {"Host": "ai", "Origin": "http://user@ai"},
        {"Host": "ai", "Origin": "ai"},
        {"Host": "ai", "Origin": "http://evil.example"},
        {"Host": "ai", "Origin": "null"},
        {"Host": "ai", "Origin": "http://ai:81"},
        {"Host": "ai", "Origin": "file://ai"},
        {"Host": "ai", "Origin": "http://ai.evil.example"},
        {"Host": "ai", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_foreign_names_and_pages_are_refused(headers):
    refused = cross_site(headers, HOSTS)
    assert refused is not None
    assert refused.problem.message.startswith("access denied: ")
    assert refused.problem.message.isascii()
    json_error(403, refused.problem.message)


ADMINS = [{"src": ["(loopback)"], "app": {CAP: [{"role": "admin"}]}}]
GUEST = {"identity": "static", "login": "guest"}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.mark.parametrize("order", [1, -1])
async def test_listeners_that_share_a_port_keep_their_identities(tmp_path, order):
    port = free_port()
    listeners = [{"listen": f"127.0.0.1:{port}"}, {"listen": f"127.0.0.2:{port}", **GUEST}][::order]
    async with gate(tmp_path, {}, grants=ADMINS, server={"listeners": listeners}) as gw:
        for host, status in (("127.0.0.1", 200), ("127.0.0.2", 403)):
            async with gw.session.get(f"http://{host}:{port}/api/sessions") as reply:
                assert reply.status == status


async def test_callers_of_a_wildcard_address_and_of_a_unix_socket_are_known(tmp_path):
    listeners = [{"listen": "0.0.0.0:0", **GUEST}, {"listen": f"unix:{tmp_path}/s", **GUEST}]
    grants = [{"src": ["guest"], "app": {CAP: [{"role": "user"}]}}]
    async with gate(tmp_path, {}, grants=grants, server={"listeners": listeners}) as gw:
        port = gw.url.rpartition(":")[2]
        for host in ("127.0.0.1", "127.0.0.3"):
            async with gw.session.get(f"http://{host}:{port}/api/sessions") as reply:
                assert reply.status == 200
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(f"{tmp_path}/s")) as session,
            session.get("http://localhost/api/sessions") as reply,
        ):
            assert reply.status == 200


@pytest.mark.parametrize("name", ["Host", "Origin"])
async def test_bytes_that_are_no_text_in_a_header_are_refused_as_foreign(tmp_path, name):
    async with gate(tmp_path, {}) as gw:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gw.url.rpartition(":")[2]))
        host = b"" if name == "Host" else b"Host: localhost\r\n"
        writer.write(b"GET /api/sessions HTTP/1.1\r\n" + host + name.encode() + b": \xff\r\n\r\n")
        assert b" 403 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
