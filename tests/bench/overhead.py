"""Measures the CPU cost of a call for the gateway's event loop: `python -m tests.bench.overhead`.

The gateway is compared with a bare pass-through, which consists only of aiohttp's server and client and shows the cost
of the libraries. Gateway and pass-through run alternately on one event loop of this process. The provider and the
clients run in `far.py`, another process.
"""

import asyncio
import json
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import thread_time_ns

import aiohttp
from aiohttp import web

from gateway.config.load import loads
from gateway.contract.registry import discover
from gateway.process.serve import listening
from gateway.telemetry.log import configure
from tests.bench.measure import Nowhere, rounded, table
from tests.helpers.gateway import EVERYTHING, NOVA, bedrock

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
CONNECTIONS = (1, 16)
CALLS = {(False, 1): 150, (False, 16): 320, (True, 1): 6, (True, 16): 64}
"""Number of calls in a round, by (streamed, number of connections). Each round takes about half a second."""
TEXT = "hello " * 150
CONVERSE = json.dumps({"messages": [{"role": "user", "content": [{"text": TEXT}]}]})
CHAT = {"model": NOVA, "messages": [{"role": "user", "content": TEXT}]}


@dataclass(frozen=True)
class Way:
    """A way to the provider (gateway or pass-through), and the request that is sent to it."""

    name: str
    path: str
    body: str
    streamed: bool
    bare: bool = False


def _native(name, *, bare):
    return [
        Way(name, f"/bedrock/model/{NOVA}/converse", CONVERSE, streamed=False, bare=bare),
        Way(name, f"/bedrock/model/{NOVA}/converse-stream", CONVERSE, streamed=True, bare=bare),
    ]


WAYS = [
    *_native("pass-through", bare=True),
    *_native("native Converse", bare=False),
    Way("chat to Converse", "/v1/chat/completions", json.dumps(CHAT), streamed=False),
    Way("chat to Converse", "/v1/chat/completions", json.dumps({**CHAT, "stream": True}), streamed=True),
]


class Far:
    """The other process, in which the provider and the clients run."""

    def __init__(self, process):
        self._process = process

    async def line(self):
        line = await self._process.stdout.readline()
        assert line, "the other process ended"
        return line.decode().strip()

    async def play(self, **task):
        self._process.stdin.write(json.dumps(task).encode() + b"\n")
        await self.line()


@asynccontextmanager
async def far():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.far", cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Far(process)
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def pass_through(provider):
    """Run the pass-through, and yield its address."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def passed(request):
            body = await request.read()
            async with session.post(provider + request.path.removeprefix("/bedrock"), data=body) as reply:
                response = web.StreamResponse(status=reply.status, headers={"content-type": reply.content_type})
                if reply.content_length is not None:
                    return web.Response(body=await reply.read(), headers=response.headers)
                await response.prepare(request)
                async for data in reply.content.iter_any():
                    await response.write(data)
                return response

        app = web.Application()
        app.router.add_post("/{path:.*}", passed)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site.port}"
        await runner.cleanup()


@asynccontextmanager
async def gateway(provider, folder, *, folder_of_plugins=None, **sections):
    """Run the gateway, and yield its address. `sections` are further sections of its configuration."""
    registry = discover(folder_of_plugins)
    document = {
        **sections,
        "providers": {"bedrock": bedrock(provider, flags=("bedrock_converse",))},
        "grants": EVERYTHING,
        "server": {"listeners": [{"listen": "127.0.0.1:0"}]},
    }
    config = loads(json.dumps(document), plugins=registry.known).config
    async with listening(config, registry, state=folder, log=configure(Nowhere())) as running:
        yield running.urls[0]


async def measured(folder, *, rounds=ROUNDS, calls=None):
    """Return the CPU microseconds of the loop's thread per call, by (way, streamed, connections)."""
    calls = calls or CALLS
    measurements = {}
    async with far() as other:
        provider = await other.line()
        async with pass_through(provider) as bare, gateway(provider, folder) as ours:
            # the first round is a warm-up: it opens connections, fills caches, and imports code that is imported late
            for turn in range(rounds + 1):
                for way, connections in [(way, count) for way in WAYS for count in CONNECTIONS]:
                    count = calls[way.streamed, connections]
                    start = thread_time_ns()
                    url = (bare if way.bare else ours) + way.path
                    await other.play(url=url, body=way.body, connections=connections, calls=count)
                    took = (thread_time_ns() - start) / count / 1000
                    if turn:
                        measurements.setdefault((way.name, way.streamed, connections), []).append(took)
    return {key: median(figures) for key, figures in measurements.items()}


def report(measurements):
    rows = [
        (
            f"{name}, {'streamed' if streamed else 'whole'}, {connections} connection{'s' * (connections > 1)}",
            [rounded(bare := measurements["pass-through", streamed, connections]), rounded(took), f"{took / bare:.2f}"],
        )
        for (name, streamed, connections), took in sorted(measurements.items())
        if name != "pass-through"
    ]
    title = "CPU microseconds of the event loop's thread, a call"
    return table(title, ["pass-through", "gateway", "ratio"], rows)


async def main():
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(f"{report(await measured(Path(folder)))}\n")


if __name__ == "__main__":
    asyncio.run(main())
