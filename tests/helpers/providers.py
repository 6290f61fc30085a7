"""Providers on an event loop of their own, so that their work is not measured with that of the gateway."""

import asyncio
import threading
from contextlib import contextmanager

from aiohttp import web

MAX_BODY = 2**26


@contextmanager
def provider_in_a_thread(answer, max_body=MAX_BODY):
    """Run a provider in a thread. `answer` handles its requests. The value is the provider's URL."""
    url, ready = [], threading.Event()
    loop = asyncio.new_event_loop()

    async def start():
        app = web.Application(client_max_size=max_body)
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url.append(f"http://127.0.0.1:{site.port}")
        ready.set()
        return runner

    def run():
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    yield url[0]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
