"""Measures the CPU cost of filters for the event loop: `python -m tests.bench.filters`.

Gateways with the same provider run alternately on one event loop of this process: without filters, with ten filters that
have nothing to do, and with one filter that reads every text. The provider and the clients run in `far.py`, another
process.
"""

import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from time import thread_time_ns

from tests.bench.far import DELTAS
from tests.bench.measure import rounded, table
from tests.bench.overhead import CHAT, CONVERSE, far, gateway
from tests.helpers.gateway import NOVA

ROUNDS = 9
CALLS = 24
CONNECTIONS = 8
IDLE = """
api = 1


def open(call, settings):
    return None
"""
READING = """
api = 1


def open(call, settings):
    return Reader()


class Reader:
    def text(self, kind, piece, last):
        return piece
"""
OPENED = """
api = 1


def open(call, settings):
    return Opened()


class Opened:
    def headers(self):
        return {}
"""
IDLE_FILTERS = [f"idle_{number}" for number in range(10)]
PLUGINS = {
    "no filter": [],
    "ten idle filters": IDLE_FILTERS,
    "a filter that reads no text": ["opened"],
    "a filter that reads": ["reading"],
}
STREAMS = {
    "native Converse": (f"/bedrock/model/{NOVA}/converse-stream", CONVERSE),
    "chat to Converse": ("/v1/chat/completions", json.dumps({**CHAT, "stream": True})),
}


def write_plugins(folder):
    for name in IDLE_FILTERS:
        (folder / f"{name}.py").write_text(IDLE)
    (folder / "opened.py").write_text(OPENED)
    (folder / "reading.py").write_text(READING)


async def measured(folder, *, rounds=ROUNDS, calls=CALLS):
    """Return the median CPU microseconds of the loop's thread per streamed call, by (stream, filters).

    In each round, every gateway is measured once with every stream.
    """
    figures = {}
    plugins = folder / "plugins"
    plugins.mkdir()
    write_plugins(plugins)
    async with far() as other, AsyncExitStack() as stack:
        provider = await other.line()
        urls = {}
        for number, (name, filters) in enumerate(PLUGINS.items()):
            state = folder / str(number)
            state.mkdir()
            opened = gateway(provider, state, folder_of_plugins=plugins, plugins={key: {} for key in filters})
            urls[name] = await stack.enter_async_context(opened)
        for turn in range(rounds + 1):  # the first round is a warm-up
            for stream, (path, body) in STREAMS.items():
                for name, url in urls.items():
                    start = thread_time_ns()
                    await other.play(url=url + path, body=body, connections=CONNECTIONS, calls=calls)
                    if turn:
                        figures.setdefault((stream, name), []).append((thread_time_ns() - start) / calls / 1000)
    return {key: median(values) for key, values in figures.items()}


def report(figures):
    rows = []
    for stream in STREAMS:
        plain = figures[stream, "no filter"]
        for name in PLUGINS:
            took = figures[stream, name]
            added = (took - plain) / DELTAS
            rows.append((f"{stream}, {name}", [rounded(took), f"{took / plain:.3f}", f"{added:.2f}"]))
    title = f"CPU microseconds of the event loop's thread, a streamed call of {DELTAS} chunks"
    return table(title, ["a call", "ratio", "added a chunk"], rows)


async def main():
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(f"{report(await measured(Path(folder)))}\n")


if __name__ == "__main__":
    asyncio.run(main())
