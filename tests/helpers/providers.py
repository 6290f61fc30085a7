"""Providers whose requests are answered by a function of the test, on the test's event loop or in a separate thread."""

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

MAX_BODY = 2**26


@asynccontextmanager
async def provider(answer, max_body=MAX_BODY):
    """Run a provider, and yield its URL. `answer` handles its requests."""
    app = web.Application(client_max_size=max_body)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextmanager
def provider_in_a_thread(answer, max_body=MAX_BODY):
    """Run a provider in a thread, so that its work is not measured with that of the gateway."""
    started, ready = [], threading.Event()

    async def serve():
        end = asyncio.Event()
        async with provider(answer, max_body) as url:
            started.extend([url, asyncio.get_running_loop(), end])
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    url, loop, end = started
    yield url
    loop.call_soon_threadsafe(end.set)
    thread.join()
