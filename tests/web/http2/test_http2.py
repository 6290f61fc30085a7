"""Tests of calls over HTTP/2: many streams at a time, flow-control windows, broken streams and connections, and a
gateway that stops.
"""

import asyncio
import json
import os
import ssl

import pytest

from gateway.testkit import scenarios
from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.scenarios import Scenario
from gateway.testkit.tailnet_nodes import Node, User
from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate
from tests.helpers.http2 import ErrorCodes, Reset, http2
from tests.helpers.tls import certified

ALICE = Node("laptop.example.ts.net", ("100.64.0.7",), User("alice@example.com"))
HELLO = {"max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], "model": HAIKU}
JSON = (("content-type", "application/json"),)


def message(**more):
    return json.dumps(HELLO | more).encode()


@pytest.fixture
async def gw(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as running:
        yield running


@pytest.mark.parametrize("stream", [False, True])
async def test_calls_share_one_connection(gw, stream):
    async with http2(gw.url) as client:
        numbers = [client.ask("/v1/messages", message(stream=stream), headers=JSON) for _ in range(10)]
        replies = [await client.reply(number) for number in numbers]
        assert gw.running.connections.count == 1
        for status, headers, body in replies:
            assert (status, headers["server"], "connection" in headers) == (200, "irisgate", False)
            assert (b"message_stop" if stream else b'"stop_reason"') in body
        records = await gw.calls(10)
        assert [(record["outcome"], record["stream"]) for record in records] == [("ok", stream)] * 10


async def test_a_request_without_a_body_and_one_for_its_head(gw):
    async with http2(gw.url) as client:
        assert (await client.get("/healthz"))[::2] == (200, b"ok\n")
        status, headers, body = await client.get("/healthz", method="HEAD")
        assert (status, headers["content-length"], body) == (200, "3", b"")
        status, _, body = await client.get("/nowhere")
        assert (status, "error" in json.loads(body)) == (404, True)


async def test_an_expected_reply_comes_before_the_body(gw):
    async with http2(gw.url) as client:
        number = client.ask("/v1/messages", headers=(("expect", "100-continue"), *JSON), method="POST", ends=False)
        await client.until(lambda: client.interim(number))
        await client.send_body(number, message())
        assert client.interim(number) == ["100"]
        assert (await client.reply(number))[0] == 200


async def test_a_trailer_ends_a_body(gw):
    async with http2(gw.url) as client:
        number = client.ask("/v1/messages", message(), headers=JSON, ends=False)
        client.h2.send_headers(number, [("x-checksum", "1")], end_stream=True)
        client.flush()
        assert (await client.reply(number))[0] == 200


@pytest.mark.parametrize("has_length", [True, False])
async def test_a_body_that_is_larger_than_its_window_is_read(gw, bedrock_sim, has_length):
    body = message(messages=[{"role": "user", "content": "x" * 700_000}])
    length = [("content-length", str(len(body)))] if has_length else []
    async with http2(gw.url) as client:
        number = client.ask("/v1/messages", method="POST", headers=(*JSON, *length), ends=False)
        await client.send_body(number, body)
        assert (await client.reply(number))[0] == 200
    assert len(bedrock_sim.requests[0].body) > 700_000


async def test_a_body_with_another_length_than_announced_is_refused(gw, bedrock_sim):
    async with http2(gw.url) as client:
        client.ask("/v1/messages", message(), headers=(*JSON, ("content-length", "5")))
        assert await client.ended() == ErrorCodes.PROTOCOL_ERROR
    assert not bedrock_sim.requests


async def test_a_refused_body_gets_its_reply_before_its_end(gw):
    async with http2(gw.url) as client:
        length = str(64 * 1024 * 1024)
        number = client.ask("/v1/messages", method="POST", headers=(("content-length", length),), ends=False)
        status, _, body = await client.reply(number)
        assert (status, b"request_too_large" in body) == (413, True)
        assert (await client.get("/healthz"))[0] == 200


@pytest.mark.parametrize("window", [1000, 70_000])
async def test_a_reply_comes_as_the_windows_allow_it(gw, bedrock_sim, window):
    text = "word " * 40_000
    bedrock_sim.default = scenarios.text(text)
    async with http2(gw.url, window=window) as client:
        for stream in (True, False):
            status, _, body = await client.get("/v1/messages", message(stream=stream), headers=JSON)
            assert (status, body.count(b"word ")) == (200, 40_000)


async def test_a_stream_without_a_window_delays_no_other(gw, bedrock_sim):
    bedrock_sim.default = scenarios.text("word " * 40_000)
    async with http2(gw.url, window=1000, reads=False) as client:
        slow = client.ask("/v1/messages", message(stream=True), headers=JSON)
        await client.until(lambda: len(client.body(slow)) == 1000)
        for _ in range(3):
            assert (await client.get("/healthz"))[0] == 200
        assert len(client.body(slow)) == 1000
        client.reads = True
        client.h2.increment_flow_control_window(10_000_000, slow)
        client.flush()
        status, _, body = await client.reply(slow)
        assert (status, body.count(b"word ")) == (200, 40_000)


async def test_a_client_that_resets_a_stream_has_left_its_call(gw, bedrock_sim):
    bedrock_sim.default = Scenario(stall_after=2)
    async with http2(gw.url) as client:
        number = client.ask("/v1/messages", message(stream=True), headers=JSON)
        await client.until(lambda: client.body(number))
        client.h2.reset_stream(number, ErrorCodes.CANCEL)
        client.flush()
        (record,) = await gw.calls()
        assert (record["status"], record["outcome"]) == (499, "cancelled")
        assert (await client.get("/healthz"))[0] == 200


async def test_a_client_that_disconnects_has_left_all_its_calls(gw, bedrock_sim):
    bedrock_sim.default = Scenario(stall_after=2)
    async with http2(gw.url) as client:
        numbers = [client.ask("/v1/messages", message(stream=True), headers=JSON) for _ in range(3)]
        await client.until(lambda: all(map(client.body, numbers)))
    assert [record["outcome"] for record in await gw.calls(3)] == ["cancelled"] * 3


async def test_a_stream_that_the_gateway_aborts_is_reset(gw, bedrock_sim):
    bedrock_sim.default = Scenario(stall_after=2)
    async with http2(gw.url) as client:
        number = client.ask("/v1/messages", message(stream=True), headers=JSON)
        await client.until(lambda: client.body(number))
        (connection,) = [one for one in gw.running.connections._open if hasattr(one, "_streams")]
        connection._streams[number].abort()
        with pytest.raises(Reset) as failure:
            await client.reply(number)
        assert failure.value.args == (ErrorCodes.INTERNAL_ERROR,)
        assert (await client.get("/healthz"))[0] == 200


async def test_a_stop_waits_for_open_streams_and_takes_no_more(tmp_path, bedrock_sim):
    bedrock_sim.default = Scenario(delay=0.5)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        context = http2(gw.url)
        client = await context.__aenter__()
        number = client.ask("/v1/messages", message(), headers=JSON)
        await client.until(lambda: bedrock_sim.requests)
        stopping = asyncio.create_task(client.until(lambda: client.goaway is not None))
    await stopping
    assert client.goaway == ErrorCodes.NO_ERROR
    assert (await client.reply(number))[0] == 200
    await client.ended()
    await context.__aexit__(None, None, None)


async def test_a_replaced_gateway_asks_its_clients_to_reconnect(gw, bedrock_sim):
    bedrock_sim.default = Scenario(stall_after=2, stall_seconds=0.3)
    async with http2(gw.url) as client:
        slow = client.ask("/v1/messages", message(stream=True), headers=JSON)
        await client.until(lambda: client.body(slow))
        gw.running.gateway.draining = True
        assert (await client.get("/v1/messages", message(), headers=JSON))[0] == 200
        await client.until(lambda: client.goaway is not None)
        status, _, body = await client.reply(slow)
        assert (status, b"message_stop" in body) == (200, True)
        assert await client.ended() == ErrorCodes.NO_ERROR


async def test_a_client_that_says_goodbye_still_gets_its_replies(gw, bedrock_sim):
    bedrock_sim.default = Scenario(delay=0.2)
    async with http2(gw.url) as client:
        number = client.ask("/v1/messages", message(), headers=JSON)
        client.writer.write(b"\0\0\x08\x07\0\0\0\0\0" + bytes(8))
        assert (await client.reply(number))[0] == 200
        await client.ended()


@pytest.mark.parametrize(
    "header",
    [
        ("x-a", "1\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("X-Upper", "1"),
        ("host", "elsewhere"),
    ],
    ids=["end of line", "transfer-encoding", "connection", "upper case", "host"],
)
async def test_a_malformed_request_is_reset_and_the_others_go_on(gw, bedrock_sim, header):
    async with http2(gw.url) as client:
        number = client.ask("/v1/messages", message(), headers=(*JSON, header))
        with pytest.raises(Reset) as failure:
            await client.reply(number)
        assert failure.value.args == (ErrorCodes.PROTOCOL_ERROR,)
        assert (await client.get("/healthz"))[0] == 200
        (line,) = await gw.lines.until("http.error")
        assert line["kind"] == "MalformedRequest"
    assert not bedrock_sim.requests


async def test_the_preface_may_come_in_pieces(gw):
    host, _, port = gw.url.partition("://")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    writer.write(b"\0\0\0\x04\0\0\0\0\0")
    assert (await reader.readexactly(9))[3] == 4
    writer.close()


async def test_what_only_begins_like_http2_is_refused(gw):
    host, _, port = gw.url.partition("://")[2].rpartition(":")
    for first in (b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", b"PUT / HTTP/1.1\r\nHost: x\r\n\r\n"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(first)
        assert (await reader.readline()).startswith(b"HTTP/1.1 4")
        writer.close()


async def test_http2_is_chosen_in_the_handshake(tmp_path, bedrock_sim):
    files = certified(tmp_path, "localhost")
    certificate, key = map(str, files)
    listener = {"listen": "127.0.0.1:0", "tls": {"certificate": certificate, "key": key}}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, server={"listeners": [listener]}) as gw:
        context = ssl.create_default_context(cafile=certificate)
        context.set_alpn_protocols(["h2", "http/1.1"])
        async with http2(gw.url, ssl=context) as client:
            assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
            status, _, body = await client.get("/v1/messages", message(stream=True), headers=JSON)
            assert (status, b"message_stop" in body) == (200, True)


async def test_the_callers_of_all_streams_are_known_by_the_proxys_header(tmp_path, bedrock_sim):
    async with LocalApiSim(tmp_path / "tailscaled.sock") as sim:
        sim.add(ALICE)
        listeners = [{"listen": "127.0.0.1:0", "identity": "proxy-protocol", "tailscaled": str(sim.path)}]
        provider = bedrock(bedrock_sim.url, models=[NOVA])
        async with gate(tmp_path, {"b": provider}, server={"listeners": listeners}) as gw:
            header = b"PROXY TCP4 100.64.0.7 127.0.0.1 4711 80\r\n"
            async with http2(gw.url, first=header) as client:
                for _ in range(2):
                    status, _, body = await client.get("/api/whoami")
                    assert (status, json.loads(body)["login"]) == (200, "alice@example.com")


async def test_a_unix_socket_speaks_http2(tmp_path, bedrock_sim):
    path = os.fspath(tmp_path / "s")
    listeners = [{"listen": f"unix:{path}", "identity": "static", "login": "ci@example.com"}]
    async with (
        gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, server={"listeners": listeners}),
        http2(unix=path) as client,
    ):
        _, _, body = await client.get("/api/whoami")
        assert json.loads(body)["login"] == "ci@example.com"


async def test_a_page_of_another_site_is_refused(gw):
    async with http2(gw.url) as client:
        status, _, _ = await client.get("/v1/messages", message(), headers=(*JSON, ("origin", "https://evil.example")))
        assert status == 403


async def test_a_header_line_may_be_as_long_as_in_http1(gw):
    async with http2(gw.url) as client:
        assert (await client.get("/healthz", headers=(("x-a", "a" * 16_000),)))[0] == 200
        status, _, body = await client.get("/healthz", headers=(("x-a", "a" * 17_000),))
        assert (status, b"server.limits.header_bytes" in body) == (431, True)


async def test_a_connection_that_breaks_the_protocol_is_ended(gw):
    async with http2(gw.url) as client:
        client.writer.write(b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0")  # WINDOW_UPDATE by 0
        assert await client.ended() == ErrorCodes.PROTOCOL_ERROR
