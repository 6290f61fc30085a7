"""The provider and the clients of `overhead.py`, in a separate process that is not measured.

The process reads tasks from standard input, one line of JSON each: `{"url", "body", "connections", "calls"}`. It writes
a line to standard output for each finished task. Its first line is the provider's address. The provider does not check
requests.
"""

import asyncio
import json
import sys
from itertools import repeat

import aiohttp
from aiohttp import web

from gateway.contract.framing.eventstream import encode

DELTAS = 20
DELTA_SECONDS = 0.005
"""Seconds between two events of a stream. Without this pause, the gateway would read several events at once."""
USAGE = {"inputTokens": 7, "outputTokens": 30, "totalTokens": 37}
WHOLE = {
    "metrics": {"latencyMs": 1},
    "output": {"message": {"content": [{"text": "hello " * 100}], "role": "assistant"}},
    "stopReason": "end_turn",
    "usage": USAGE,
}


def frame(kind, data):
    headers = {":message-type": "event", ":event-type": kind, ":content-type": "application/json"}
    return encode(headers, json.dumps(data).encode())


FIRST = frame("messageStart", {"role": "assistant"})
DELTA = frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "hello "}})
LAST = (
    frame("contentBlockStop", {"contentBlockIndex": 0})
    + frame("messageStop", {"stopReason": "end_turn"})
    + frame("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}})
)


async def whole(request):
    await request.read()
    return web.json_response(WHOLE)


async def streamed(request):
    await request.read()
    response = web.StreamResponse(headers={"content-type": "application/vnd.amazon.eventstream"})
    await response.prepare(request)
    await response.write(FIRST)
    for _ in range(DELTAS):
        await response.write(DELTA)
        await asyncio.sleep(DELTA_SECONDS)
    await response.write(LAST)
    return response


async def play(session, url, body, connections, calls):
    """Make all calls over this number of connections, with one call at a time on each connection."""
    left = repeat(None, calls)

    async def client():
        for _ in left:
            async with session.post(url, data=body.encode(), headers={"content-type": "application/json"}) as reply:
                assert reply.status == 200, await reply.text()
                await reply.read()

    await asyncio.gather(*(client() for _ in range(connections)))


async def main():
    app = web.Application()
    app.router.add_post("/model/{model}/converse", whole)
    app.router.add_post("/model/{model}/converse-stream", streamed)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"http://127.0.0.1:{site.port}\n")
    sys.stdout.flush()
    async with aiohttp.ClientSession() as session:
        while line := await asyncio.to_thread(sys.stdin.readline):
            await play(session, **json.loads(line))
            sys.stdout.write("{}\n")
            sys.stdout.flush()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
