"""Tests of the routes of calls, which the gateway finds without aiohttp's router.

Every form of a path and every HTTP version is tried. The tests also check whether the connection stays open afterwards.
"""

import json

import pytest

from tests.helpers.gateway import HAIKU, bedrock, gate
from tests.helpers.hostile_http import connected

BODY = json.dumps({"model": HAIKU, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).encode()


@pytest.fixture
async def gateway(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as running:
        yield running


def request(path, *headers, version="1.1", body=BODY):
    lines = [f"POST {path} HTTP/{version}", "Host: 127.0.0.1", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode()


PATHS = {
    "plain": "/v1/messages",
    "with a query": "/v1/messages?beta=true",
    "with an empty query": "/v1/messages?",
    "percent-encoded": "/v1/m%65ssages",
    "percent-encoded, with a query": "/v1/m%65ssages?beta=true",
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
async def test_every_form_of_a_path_leads_to_the_same_api(gateway, path):
    raw = await connected(gateway)
    for _ in range(2):  # the connection stays open
        raw.writer.write(request(path) + BODY)
        status, headers, body = await raw.reply()
        assert (status, json.loads(body)["type"], "connection" in headers) == (200, "message", False)
        assert headers["server"] == "irisgate"
    calls = await gateway.calls(2)
    assert headers["x-request-id"] in {call["id"] for call in calls}
    assert {call["api"] for call in calls} == {"anthropic_messages"}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_another_method_is_refused_with_the_right_one(gateway, method):
    raw = await connected(gateway)
    status, headers, _ = await raw.ask("/v1/messages", method=method)
    assert (status, headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("version", "headers", "connection"),
    [
        ("1.1", ["Connection: close"], "close"),
        ("1.0", [], None),
        ("1.0", ["Connection: keep-alive"], "keep-alive"),
    ],
)
async def test_the_connection_is_kept_as_the_client_asks(gateway, version, headers, connection):
    raw = await connected(gateway)
    raw.writer.write(request("/v1/messages", *headers, version=version) + BODY)
    line = await raw.reader.readline()
    assert line.startswith(f"HTTP/{version} 200".encode())
    _, given, body = await read_after(raw, line)
    assert json.loads(body)["type"] == "message"
    assert given.get("connection") == connection
    if connection == "keep-alive":
        raw.writer.write(request("/v1/messages", version=version) + BODY)
        assert (await raw.reader.readline()).startswith(b"HTTP/1.0 200")
    else:
        assert await raw.reader.read() == b""


async def read_after(raw, line):
    head = (await raw.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in head if one)}
    return line, headers, await raw.reader.readexactly(int(headers["content-length"]))


async def test_a_client_that_waits_for_the_word_to_go_on_gets_it(gateway):
    raw = await connected(gateway)
    raw.writer.write(request("/v1/messages", "Expect: 100-continue"))
    assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    raw.writer.write(BODY)
    status, *_ = await raw.reply()
    assert status == 200


async def test_another_expectation_is_refused(gateway):
    raw = await connected(gateway)
    raw.writer.write(request("/v1/messages", "Expect: a miracle") + BODY)
    status, headers, body = await raw.reply()
    assert (status, headers["server"]) == (417, "irisgate")
    assert json.loads(body)["error"]


async def test_requests_that_are_sent_at_once_are_answered_in_order(gateway):
    raw = await connected(gateway)
    wrong = json.dumps({"model": "none", "max_tokens": 9, "messages": []}).encode()
    raw.writer.write((request("/v1/messages") + BODY + request("/v1/messages", body=wrong) + wrong) * 3)
    assert [(await raw.reply())[0] for _ in range(6)] == [200, 404] * 3


async def test_a_placeholder_of_a_path_is_decoded_once(gateway):
    model = HAIKU.replace(":", "%3A")
    body = json.dumps({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}).encode()
    raw = await connected(gateway)
    raw.writer.write(request(f"/bedrock/model/{model}/converse", body=body) + body)
    status, _, reply = await raw.reply()
    assert (status, "output" in json.loads(reply)) == (200, True)
    (call,) = await gateway.calls()
    assert (call["api"], call["model"]) == ("bedrock_converse", HAIKU)
