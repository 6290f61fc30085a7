"""Tests of requests whose bodies are still arriving when the gateway is stopped.

Such requests are served before their connections close.
"""

import asyncio
import json
from urllib.parse import quote

import pytest

from tests.helpers.gateway import HAIKU, bedrock, gate
from tests.helpers.hostile_http import CHAT, CLAUDE, CONVERSE, MESSAGES, connected
from tests.helpers.raw_http import raw_connections  # noqa: F401 (a fixture)
from tests.helpers.waiting import eventually

MODEL = quote(HAIKU, safe="")
CALLS = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/messages", MESSAGES),
    ("/v1/messages", {**MESSAGES, "stream": True}),
    ("/v1/responses", {"model": HAIKU, "input": "hello"}),
    (f"/bedrock/model/{MODEL}/converse", CONVERSE),
    (f"/bedrock/model/{MODEL}/converse-stream", CONVERSE),
    (f"/bedrock/model/{MODEL}/invoke", CLAUDE),
    (f"/bedrock/model/{MODEL}/invoke-with-response-stream", CLAUDE),
]
LENGTHS = ["content-length", "chunked", "100-continue"]


def parts(path, body, length):
    """Return a request in two parts: the head with the first bytes of the body, and the rest of the body."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()
    if length == "chunked":
        chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:9], data[9:])]
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks[0], chunks[1] + b"0\r\n\r\n"
    head += b"Content-Length: %d\r\n" % len(data)
    if length == "100-continue":
        return head + b"Expect: 100-continue\r\n\r\n", data
    return head + b"\r\n" + data[:9], data[9:]


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_body_in_flight_at_a_stop_is_read_and_answered(tmp_path, bedrock_sim, length):
    context = gate(tmp_path, {"b": bedrock(bedrock_sim.url)})
    running = await context.__aenter__()
    gateway = running.running.gateway
    raws = [await connected(running) for _ in CALLS]
    for raw, (path, body) in zip(raws, CALLS, strict=True):
        raw.writer.write(parts(path, body, length)[0])
    await eventually(lambda: len(gateway.open_calls) == len(CALLS))
    stopping = asyncio.create_task(context.__aexit__(None, None, None))
    await eventually(lambda: gateway.draining)
    for raw, (path, body) in zip(raws, CALLS, strict=True):
        raw.writer.write(parts(path, body, length)[1])
    for raw, call in zip(raws, CALLS, strict=True):
        if length == "100-continue":
            assert (await raw.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        status, headers, body = await raw.reply()
        assert (status, headers["connection"], call) == (200, "close", call), body
        assert body
        assert await raw.ended()
    await stopping
