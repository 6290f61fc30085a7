"""Tests of replies with damaged chunks (RFC 9112, 7.1): they end with an error at once, and not only at the read
timeout.
"""

import asyncio
import json

import pytest

from gateway.testkit.render.dialects import rendered
from gateway.testkit.scenarios import Canned, Tokens
from tests.helpers.every_client import head
from tests.helpers.gateway import bedrock, gate
from tests.helpers.outcomes import is_right
from tests.helpers.raw_provider import chunk, raw_provider
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
NATIVE = [wire for wire in WIRES if wire.client == wire.provider]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("wire", NATIVE, ids=[wire.provider for wire in NATIVE])
async def test_damaged_chunks_are_an_error_at_once(wire, stream, tmp_path):
    events, whole = rendered(wire.upstream, Canned(("Hi",), tokens=Tokens(5, 6)))
    body, content_type = framed(wire.provider, events) if stream else (json.dumps(whole).encode(), "application/json")
    damages = iter(DAMAGES.values())

    async def play(writer):
        """Write the head and half of the body. After a pause, write the damaged chunks, so that the gateway reads them
        separately.
        """
        writer.write(head(content_type) + chunk(body[: len(body) // 2]))
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(next(damages))

    model = PROVIDERS[wire.provider][1]
    async with (
        raw_provider(play) as provider,
        gate(tmp_path, {"p": bedrock(provider.url, models=[model], flags=[wire.provider], cost_basis="")}) as gw,
    ):
        for name in DAMAGES:
            request = wire.say.body(wire.say.user(wire.say.text("Hi")))
            request |= {"model": model, "stream": stream} if "model" in request else {}
            async with asyncio.timeout(SECONDS):
                reply = await gw.post(wire.say.path(model, stream=stream), request)
            assert not is_right(wire, reply, stream=stream), (name, reply.body)
        records = await gw.calls(len(DAMAGES))
    assert [(record["outcome"], record["error"]) for record in records] == [("failed", "upstream")] * len(DAMAGES)
