"""Replies whose chunks are damaged (RFC 9112, 7.1) end with an error at once, without waiting for the read timeout."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from gateway.testkit.scenarios import Canned, Tokens
from tests.helpers.gateway import bedrock, gate
from tests.helpers.outcomes import is_right
from tests.helpers.rendered import rendered
from tests.helpers.waiting import SECONDS
from tests.helpers.wires import PROVIDERS, WIRES, framed

DAMAGES = {
    "no size": b"zz\r\nmore\r\n0\r\n\r\n",
    "an empty size": b"\r\n\r\n",
    "a negative size": b"-1\r\nmore\r\n",
    "an immense size": b"f" * 40 + b"\r\n",
    "bytes beyond the size": b"1\r\nmore\r\n0\r\n\r\n",
    "another reply": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    "zero bytes": bytes(64),
}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
NATIVE = [wire for wire in WIRES if wire.client == wire.provider]


@asynccontextmanager
async def damaged_replies(chunks):
    """Yield the URL of a provider that sends a head and a part of the body, and then damage, one read after the other."""

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        writer.write(chunks[0])
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(chunks[1])
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("wire", NATIVE, ids=[wire.provider for wire in NATIVE])
async def test_damaged_chunks_are_an_error_at_once(wire, stream, tmp_path):
    events, whole = rendered(wire.upstream, Canned(("Hi",), tokens=Tokens(5, 6)))
    body, content_type = framed(wire.provider, events) if stream else (json.dumps(whole).encode(), "application/json")
    half = body[: len(body) // 2]
    chunks = [HEAD % content_type.encode() + b"%x\r\n%s\r\n" % (len(half), half), b""]
    model = PROVIDERS[wire.provider][1]
    async with (
        damaged_replies(chunks) as url,
        gate(tmp_path, {"p": bedrock(url, models=[model], flags=[wire.provider], cost_basis="")}) as gw,
    ):
        for name, damage in DAMAGES.items():
            chunks[1] = damage
            request = wire.say.body(wire.say.user(wire.say.text("Hi")))
            request |= {"model": model, "stream": stream} if "model" in request else {}
            async with asyncio.timeout(SECONDS):
                reply = await gw.post(wire.say.path(model, stream=stream), request)
            assert not is_right(wire, reply, stream=stream), (name, reply.body)
        records = await gw.calls(len(DAMAGES))
    assert [(record["outcome"], record["error"]) for record in records] == [("failed", "upstream")] * len(DAMAGES)
