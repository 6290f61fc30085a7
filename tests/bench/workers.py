"""Compares one process with `serve --workers N` at full load: `python -m tests.bench.workers [--quick]`.

Both gateways run at the same time, on all processors of the machine, and are measured in turn. The upstream and the
load client take some of the time of these processors. So the first table also has the CPU time of the gateway for each
call, which does not depend on the upstream and the load client. The second table shows how many of a few connections
each worker accepts. README.md explains both tables.
"""

import argparse
import asyncio
import re
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.bench.measure import table
from tests.bench.processes import PROCESSORS, cpu_seconds
from tests.bench.systems import gateway
from tests.bench.traffic import CHAT, CHAT_STREAM, REPLIES, Request
from tests.bench.wire import compile_programs, wire

ROUNDS = 7
CONNECTIONS = 32
WINDOW_MS = 3000
WARM_MS = 500
CHUNKS = 100
"""Number of chunks of a streamed reply, which come without a pause."""
FEW = 8
"""Number of connections that are opened at the same time, to see how evenly they are spread over the workers."""
SELF = 0
"""Stands for the load client itself in a list of process ids. The load client adds up the CPU time of these processes.
"""
REQUESTS = {"calls": (Request(CHAT), 0), "streams of 100 chunks": (Request(CHAT_STREAM), CHUNKS)}


@dataclass
class Lane:
    """A running gateway, and its figures."""

    system: object
    process: object
    calls: list = field(default_factory=list)
    """Calls in a second, one item for each round."""
    workers_us: list = field(default_factory=list)
    """CPU time of the processes that serve calls, in microseconds for each call. There is one item for each round."""
    keeper_us: list = field(default_factory=list)
    """CPU time of the keeper (the workers' parent process), in microseconds for each call. There is one item for each
    round, which is 0 without workers.
    """
    load_us: list = field(default_factory=list)
    """CPU time of the upstream and the load client, in microseconds for each call. There is one item for each round."""

    async def measure(self, running, request, chunks, window_ms):
        """Measure one round of `window_ms` milliseconds, and add its figures to the lists."""
        await running.reply(REPLIES[request.provider_dialect], count=chunks)
        keeper = {self.process.pid}
        workers = set(self.process.pids) - keeper or keeper
        async with running.windows(
            self.process.port,
            self.system.request(request, running.port),
            connections=CONNECTIONS,
            warm_ms=WARM_MS,
            window_ms=window_ms,
            drained=True,
            pids=(SELF, running.pid),
            preface=self.system.preface,
        ) as window:
            before = [cpu_seconds(pids) for pids in (workers, keeper - workers)]
            results = await window()
            after = [cpu_seconds(pids) for pids in (workers, keeper - workers)]
        assert results["requests"], results
        assert not results["failures"], results
        self.calls.append(results["requests"] / results["seconds"])
        for figures, begin, end in zip((self.workers_us, self.keeper_us), before, after, strict=True):
            figures.append((end - begin) * 1e6 / results["requests"])
        self.load_us.append(results["cpu_us"] / results["requests"])


def _spread(values, form="{:.2f}"):
    low, middle, high = (form.format(value) for value in (min(values), median(values), max(values)))
    return f"{middle} ({low}–{high})"


def _rows(one, many, count):
    """Return the rows that compare one process (`one`) with `count` workers (`many`). A row has a name, both figures,
    and their ratio.
    """

    def row(name, left, right, ratio=None):
        ratios = [b / a for a, b in zip(left, right, strict=True)] if ratio is None else ratio
        return name, [_spread(left, "{:.0f}"), _spread(right, "{:.0f}"), _spread(ratios) if ratios else ""]

    whole = [sum(both) for both in zip(many.workers_us, many.keeper_us, strict=True)]
    # with as many processors as workers and none for anything else, all of them share the work of the keeper
    elsewhere = [count * own / cost for own, cost in zip(one.workers_us, whole, strict=True)]
    return [
        row("calls in a second", one.calls, many.calls),
        row("CPU us a call: the processes that serve calls", one.workers_us, many.workers_us),
        row("CPU us a call: the keeper", one.keeper_us, many.keeper_us, []),
        row("CPU us a call: all of the gateway", one.workers_us, whole),
        row("CPU us a call: upstream and load client", one.load_us, many.load_us),
        (f"throughput with {count} processors for the gateway alone", ["", "", _spread(elsewhere)]),
    ]


async def _balance(lane):
    """Open `FEW` connections at the same time, and return how many of them each worker has."""
    places = [await asyncio.open_connection("127.0.0.1", lane.process.port) for _ in range(FEW)]
    request = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    try:
        for _, writer in places:
            writer.write(lane.system.preface + request)
        replies = await asyncio.gather(*(_body(reader) for reader, _ in places))
        return [int(float(number)) for number in re.findall(r'worker_connections\{worker="\d+"\} (\S+)', replies[-1])]
    finally:
        for _, writer in places:
            writer.close()


async def _body(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 200 "), head
    length = re.search(r"(?i)content-length: (\d+)", head)
    return (await reader.readexactly(int(length[1]))).decode()


async def measured(folder, programs, count, *, rounds=ROUNDS, window_ms=WINDOW_MS):
    """Compare one process with `count` workers, and return the tables as text.

    `programs` is the folder of the compiled programs.
    """
    systems = gateway("one process", workers=1), gateway(f"{count} workers", workers=count)
    async with wire(programs, folder) as running, AsyncExitStack() as stack:
        lanes = []
        for number, system in enumerate(systems):
            own = folder / str(number)
            own.mkdir()
            lanes.append(Lane(system, await stack.enter_async_context(system.start(running.port, own))))
        tables = []
        for name, (request, chunks) in REQUESTS.items():
            fresh = [Lane(lane.system, lane.process) for lane in lanes]
            for turn in range(rounds):
                for lane in fresh[turn % 2 :] + fresh[: turn % 2]:
                    await lane.measure(running, request, chunks, window_ms)
            columns = [*(lane.system.name for lane in fresh), "ratio"]
            tables.append(table(name, columns, _rows(*fresh, count)))
        spread = await _balance(lanes[1])
    workers = [f"worker {number}" for number in range(len(spread))]
    return "\n\n".join([*tables, table(f"{FEW} connections", workers, [("open", list(map(str, spread)))])])


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.bench.workers")
    parser.add_argument("--workers", type=int, default=len(PROCESSORS), help="number of workers (default: processors)")
    parser.add_argument("--quick", action="store_true", help="run one short round")
    options = parser.parse_args()
    size = {"rounds": 1, "window_ms": 300} if options.quick else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compile_programs(folder)
        sys.stdout.write(asyncio.run(measured(folder, folder, options.workers, **size)) + "\n")


if __name__ == "__main__":
    main()
