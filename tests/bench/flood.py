"""Measures the time of health checks while streams run at full speed: `python -m tests.bench.flood [STREAMS] [PROBES]`.

Provider and gateway run in separate processes. The provider writes events as fast as they are read. The clients of the
streams either read nothing, or read as fast as they can. Wall time depends on other processes. So the gateway's CPU
time during each health check is measured too. The column `ratio` has the 99th percentile of this CPU time, divided by
the 99th percentile without streams.
"""

import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.measure import table
from tests.helpers.every_client import START, USER, sse
from tests.helpers.gateway import EVERYTHING, HAIKU, bedrock
from tests.helpers.processes import served

PROBE_PAUSE_SECONDS = 0.01
WARM_UP = 10
"""Number of health checks that are not measured, because the streams are still beginning."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}}
WAYS = {
    "native Messages": ("/v1/messages", {"model": HAIKU, "max_tokens": 9, "stream": True, "messages": USER}),
    "chat to Messages": ("/v1/chat/completions", {"model": HAIKU, "stream": True, "messages": USER}),
}


async def _flooding(pipe):
    events = sse(DELTA) * 500

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + sse(START, BLOCK))
        try:
            while True:
                writer.write(events)
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    pipe.send(server.sockets[0].getsockname()[1])
    await asyncio.to_thread(pipe.recv)


def _provider(pipe):
    asyncio.run(_flooding(pipe))


async def _stream(place, path, body, *, is_read):
    reader, writer = await asyncio.open_connection(*place)
    data = json.dumps(body).encode()
    writer.write(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    if not is_read:
        writer.transport.pause_reading()
        return writer, None

    async def read():
        while await reader.read(2**20):
            pass

    return writer, asyncio.create_task(read())


def _cpu(pid):
    """Return the seconds of CPU time of a process so far."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _figures(times):
    times.sort()
    return [1000 * times[len(times) // 2], 1000 * times[min(len(times) - 1, len(times) * 99 // 100)]]


async def _probes(place, pid, count):
    """Return a list of four numbers in milliseconds: the median and the 99th percentile of a health check's wall time,
    and then both for the gateway's CPU time during a health check.

    Each health check has a new connection.
    """
    times, cpu = [], []
    for number in range(WARM_UP + count):
        begun, used = time.perf_counter(), _cpu(pid)
        reader, writer = await asyncio.open_connection(*place)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        await reader.read()
        if number >= WARM_UP:
            times.append(time.perf_counter() - begun)
            cpu.append(_cpu(pid) - used)
        writer.close()
        await asyncio.sleep(PROBE_PAUSE_SECONDS)
    return [*_figures(times), *_figures(cpu)]


async def _way(place, pid, way, streams, probes, *, is_read):
    path, body = WAYS[way]
    opened = [await _stream(place, path, body, is_read=is_read) for _ in range(streams)]
    try:
        return await _probes(place, pid, probes)
    finally:
        for writer, task in opened:
            writer.transport.abort()
            if task is not None:
                task.cancel()


def _row(name, figures, alone):
    return name, [*(f"{figure:.1f}" for figure in figures), f"{figures[3] / alone[3]:.0f}"]


async def measured(streams, probes):
    """Measure health checks while streams run, and return a table of their times in milliseconds.

    The first row is without streams. Then there are two rows for each kind of stream in `WAYS`: in one the clients read
    nothing, in the other they read as fast as they can. `streams` is the number of streams, and `probes` the number of
    health checks for each row.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_provider, args=(theirs,), daemon=True)
    process.start()
    rows = []
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            provider = bedrock(f"http://127.0.0.1:{ours.recv()}", flags=("anthropic_messages",))
            config = folder / "config.hujson"
            config.write_text(json.dumps({"providers": {"b": provider}, "grants": EVERYTHING}))
            async with served(folder, "serve", "--config", str(config), "--listen", "127.0.0.1:0") as running:
                url = urlsplit(running.url)
                place, pid = (url.hostname, url.port), running.process.pid
                alone = await _probes(place, pid, probes)
                rows.append(_row("no streams", alone, alone))
                for way in WAYS:
                    for is_read in (False, True):
                        figures = await _way(place, pid, way, streams, probes, is_read=is_read)
                        rows.append(_row(f"{way}, {'read' if is_read else 'unread'}", figures, alone))
    finally:
        ours.send(None)
        process.join(5)
    return table("streams", ["ms, median", "ms, p99", "CPU ms, median", "CPU ms, p99", "ratio"], rows)


if __name__ == "__main__":
    many, checks = map(int, sys.argv[1:] or ("100", "200"))
    sys.stdout.write(asyncio.run(measured(many, checks)) + "\n")
