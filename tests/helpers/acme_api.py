"""A server for the API of Acme, the fictitious provider in the documentation of plugins.

A reply is JSON, or a stream of server-sent events that ends with [DONE].
"""

from contextlib import asynccontextmanager

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

PIECES = ("Hel", "lo")
USAGE = {"read": 3, "written": 2}


async def text(request):
    """Answer a request to Acme's API. The reply repeats the text of the request."""
    body = await request.json()
    if not body.get("stream"):
        return web.json_response({"text": "".join(PIECES), "asked": body, "stop": "end", "usage": USAGE})
    reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await reply.prepare(request)
    for data in (*({"text": piece} for piece in PIECES), {"stop": "end", "usage": USAGE}):
        await reply.write(b"data: " + orjson.dumps(data) + b"\n\n")
    await reply.write(b"data: [DONE]\n\n")
    return reply


@asynccontextmanager
async def acme_api():
    """Run the API, and yield its base URL."""
    app = web.Application()
    app.router.add_post("/v1/text", text)
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"
