"""Requests whose bodies are still arriving when the gateway is stopped.

They are served, and the connections are closed.
"""

import asyncio
import json
from urllib.parse import quote

import pytest

from gateway.config.load import loads
from gateway.contract.registry import discover
from gateway.process.serve import listening
from gateway.telemetry.log import configure
from tests.helpers.gateway import EVERYTHING, HAIKU, Lines, bedrock
from tests.helpers.raw_http import Raw, raw_connections  # noqa: F401 (a fixture)
from tests.helpers.waiting import eventually

CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}]}
MESSAGES = {"max_tokens": 9, "anthropic_version": "bedrock-2023-05-31", "messages": CHAT["messages"]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
MODEL = quote(HAIKU, safe="")
CALLS = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/messages", {**CHAT, "max_tokens": 9}),
    ("/v1/messages", {**CHAT, "max_tokens": 9, "stream": True}),
    ("/v1/responses", {"model": HAIKU, "input": "hello"}),
    (f"/bedrock/model/{MODEL}/converse", CONVERSE),
    (f"/bedrock/model/{MODEL}/converse-stream", CONVERSE),
    (f"/bedrock/model/{MODEL}/invoke", MESSAGES),
    (f"/bedrock/model/{MODEL}/invoke-with-response-stream", MESSAGES),
]
LENGTHS = ["content-length", "chunked", "100-continue"]


def parts(path, body, length):
    """Return the head with the first bytes of the body, and the rest of the body."""
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
    config = loads(
        json.dumps(
            {
                "providers": {"b": bedrock(bedrock_sim.url)},
                "grants": EVERYTHING,
                "server": {"listeners": [{"listen": "127.0.0.1:0"}]},
            }
        )
    ).config
    context = listening(config, discover(), state=tmp_path, log=configure(Lines()))
    running = await context.__aenter__()
    host, port = running.urls[0].removeprefix("http://").split(":")
    raws = [await Raw.open(host, int(port)) for _ in CALLS]
    for raw, (path, body) in zip(raws, CALLS, strict=True):
        raw.writer.write(parts(path, body, length)[0])
    await eventually(lambda: len(running.gateway.open_calls) == len(CALLS))
    stopping = asyncio.create_task(context.__aexit__(None, None, None))
    await eventually(lambda: running.gateway.draining)
    for raw, (path, body) in zip(raws, CALLS, strict=True):
        raw.writer.write(parts(path, body, length)[1])
    for raw, call in zip(raws, CALLS, strict=True):
        if length == "100-continue":
            assert (await raw.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        status, headers, body = await raw.reply()
        assert (status, headers["connection"], call) == (200, "close", call), body
        assert body
        await raw.ended()
    await stopping
