"""The bare pass-through that the gateway is compared with: `python -m tests.bench.bare UPSTREAM`.

It consists of aiohttp's server and client, and shows what these libraries cost. It prints its port.
"""

import asyncio
import sys

import aiohttp
from aiohttp import web

MAX_BODY = 64 * 2**20
"""Maximum number of bytes of a request's body."""


async def main(upstream):
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def passed(request):
            body = await request.read()
            headers = {"content-type": request.content_type}
            async with session.post(upstream + request.path_qs, data=body, headers=headers) as reply:
                response = web.StreamResponse(status=reply.status, headers={"content-type": reply.content_type})
                if reply.content_length is not None:
                    return web.Response(status=reply.status, body=await reply.read(), headers=response.headers)
                await response.prepare(request)
                async for data in reply.content.iter_any():
                    await response.write(data)
                return response

        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/{path:.*}", passed)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        sys.stdout.write(f"port {site.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
