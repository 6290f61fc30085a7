"""Measures every page and every answer of the API with a PostgreSQL database. The database has a million calls in one
year.

Run by hand: `python -m tests.bench.postgres_pages [URL [NAME]]`. Without a URL, a new server is started, and removed at
the end. A database that already has tables is used as it is. With `NAME`, only answers with this text in their label
are measured.

Each answer is requested several times, one request after the other over loopback. Before that, one request fills the
caches. The table has these figures of each answer:

- The smallest and the largest wall time, and the number of requests that took longer than `BOUND_MS`.
- The smallest CPU time of the process in which both the gateway and the client run.
- The smallest CPU time of the PostgreSQL processes that serve the gateway, if PostgreSQL runs on this machine.

An answer is marked as too slow if the sum of both CPU times exceeds `BOUND_MS`. On an idle machine, the sum is about
the wall time. On a machine with other work, wall times tell little. The last line has the largest times of all answers.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from gateway.config.load import load
from gateway.process.stores import address
from gateway.store.base import JournalOffset
from gateway.store.entries import Entry
from gateway.store.postgres.connection import PostgresConnection
from gateway.store.postgres.store import PostgresStore, prepare
from gateway.store.postgres.writing import write
from tests.bench import million, pages
from tests.bench.measure import table
from tests.helpers.blocking_http import get
from tests.helpers.postgres import cluster
from tests.web.admin.conftest import from_file

JOURNAL = "bench"
TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = to_regnamespace('public')"
BOUND_MS = 200
"""Maximum number of milliseconds that one answer should take."""


class Cost(NamedTuple):
    """The times of one answer in milliseconds, and its size. `gateway_ms` and `server_ms` are CPU times."""

    walls_ms: tuple[float, ...]
    """Wall time of each request."""
    gateway_ms: float
    server_ms: float
    """CPU time of PostgreSQL's processes."""
    size: int
    """Number of bytes of the answer."""

    @property
    def cpu_ms(self):
        return self.gateway_ms + self.server_ms

    @property
    def slow(self):
        """The number of requests that took longer than `BOUND_MS`."""
        return sum(wall > BOUND_MS for wall in self.walls_ms)


def build(place, calls):
    """Write `calls` calls of one year into the database, as a gateway does. Then update the statistics of PostgreSQL's
    query planner (`ANALYZE`).
    """
    connection = PostgresConnection(place, "writer")
    prepare(connection, JOURNAL, str(place), is_shared=False)
    end, began = time.time() - 60, time.monotonic()
    for start in range(0, calls, million.BATCH):
        numbers = range(start, min(start + million.BATCH, calls))
        entries = [Entry(call=million.one(number, calls, pages.DAYS, end)) for number in numbers]
        write(connection, JOURNAL, entries, JournalOffset(), is_shared=False)
    sys.stdout.write(f"{calls:,} calls written in {time.monotonic() - began:,.0f} s\n")
    # one at a time, because all of them may take longer than a statement may
    for (name,) in connection.execute(TABLES).fetchall():
        connection.execute(f"ANALYZE {name}")
    connection.close()


async def cursors(place):
    store = PostgresStore(place, JOURNAL)
    try:
        positions = await million.second_pages(store)
    finally:
        await store.close()
    query = "SELECT at, n FROM calls ORDER BY at, n LIMIT 1 OFFSET 100"
    at, number = await asyncio.to_thread(first_row, place, query)
    return {**positions, "far": f"cursor={at}.{number}"}


def first_row(place, query):
    connection = PostgresConnection(place, "exports")
    try:
        return connection.execute(query).fetchone()
    finally:
        connection.close()


def server_times(connection):
    """Return the CPU time in milliseconds of each PostgreSQL process that serves a gateway, by process id.

    The result is empty if PostgreSQL runs on another machine.
    """
    found = connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'irisgate re%'")
    files = {pid: Path(f"/proc/{pid}/schedstat") for (pid,) in found}
    return {pid: int(file.read_text().split()[0]) / 1e6 for pid, file in files.items() if file.exists()}


async def cost(url, path, connection, rounds=pages.ROUNDS):
    """Request an answer `rounds` times. Return the wall time of each request, the smallest CPU time of the gateway's
    process, the smallest CPU time of PostgreSQL, and the size of the answer.
    """
    status, body = await asyncio.to_thread(get, url, path)
    # bodies are kept only on request, so there are none
    assert status == 200 or path.endswith("/bodies"), f"{path}: {status} {body[:500]}"
    walls, spent = [], []
    for _ in range(rounds):
        before = await asyncio.to_thread(server_times, connection)
        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.to_thread(get, url, path)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        after = await asyncio.to_thread(server_times, connection)
        walls.append(wall * 1000)
        spent.append((cpu * 1000, sum(total - before.get(pid, 0) for pid, total in after.items())))
    return Cost(tuple(walls), *map(min, zip(*spent, strict=True)), len(body))


async def measured(folder, url, *, calls=million.CALLS, rounds=pages.ROUNDS, only=""):
    """Return a dict from the label of each answer to its cost. Only answers whose label contains `only` are
    measured.
    """
    file = folder / "config.hujson"
    file.write_text(json.dumps({**pages.CONFIG, "storage": {"url": url}}))
    storage = load(file).config.storage.postgres
    place = address(storage, storage.server)
    if await asyncio.to_thread(first_row, place, "SELECT to_regclass('calls')") == (None,):
        await asyncio.to_thread(build, place, calls)
    wanted = pages.paths(time.time(), await cursors(place))
    async with from_file(file) as gateway:
        connection = await asyncio.to_thread(PostgresConnection, place, "exports")
        with pages.collecting_as_served():
            costs = {
                name: await cost(gateway.url, path, connection, rounds) for name, path in wanted.items() if only in name
            }
        await asyncio.to_thread(connection.close)
    return costs


def report(costs):
    rows = [
        (
            name,
            [
                f"{min(one.walls_ms):,.1f}", f"{max(one.walls_ms):,.1f}", str(one.slow), f"{one.gateway_ms:,.1f}",
                f"{one.server_ms:,.1f}", f"{one.size / 1024:,.0f}", "over" * (one.cpu_ms > BOUND_MS),
            ],
        )
        for name, one in costs.items()
    ]  # fmt: skip
    bound = f"> {BOUND_MS} ms"
    heads = ["wall ms", "largest ms", f"times {bound}", "gateway CPU ms", "server CPU ms", "KiB", f"CPU {bound}"]
    return table("answer", heads, rows)


def summary(costs):
    """Return a line of text about all answers: the largest wall time and the largest CPU time, and how many requests
    and how many answers exceeded `BOUND_MS`.
    """
    slow = [one for one in costs.values() if one.slow]
    rounds = len(next(iter(costs.values())).walls_ms)
    by_wall = max(costs, key=lambda name: max(costs[name].walls_ms))
    by_cpu = max(costs, key=lambda name: costs[name].cpu_ms)
    return (
        f"{len(costs)} answers, {counted(rounds, 'request')} for each. "
        f"Wall time: the largest is {max(costs[by_wall].walls_ms):,.1f} ms ({by_wall}), and "
        f"{counted(sum(one.slow for one in slow), 'request')} to {counted(len(slow), 'answer')} took over {BOUND_MS} "
        f"ms, to {sum(one.slow == rounds for one in slow)} of them each request. "
        f"CPU time of gateway and server: the largest is {costs[by_cpu].cpu_ms:,.1f} ms ({by_cpu}), and "
        f"{counted(sum(one.cpu_ms > BOUND_MS for one in costs.values()), 'answer')} took over {BOUND_MS} ms."
    )


def counted(number, noun):
    return f"{number} {noun}{'s' * (number != 1)}"


def main(url=None, only=""):
    with tempfile.TemporaryDirectory() as folder:
        url = url or cluster().url(cluster().address())
        costs = asyncio.run(measured(Path(folder), url, only=only))
        sys.stdout.write(f"{report(costs)}\n\n{summary(costs)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
