"""Tests that the benchmarks run. Their results are not checked."""

import json
import re
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import aiohttp
import pytest

from gateway.contract.framing import eventstream
from tests.bench import flood, identity, memory, million, pages, soak, workers
from tests.bench.additions import ADDITIONS, LEAST_ROUNDS, Added, run_addition
from tests.bench.cases import CASES, STARTS
from tests.bench.report import report
from tests.bench.rounds import Figures, run_case, run_starts
from tests.bench.systems import BARE, IRISGATE
from tests.bench.traffic import CHAT, CHAT_STREAM, CONVERSE_STREAM, REPLIES, Reply, Request
from tests.bench.wire import compile_programs, wire
from tests.helpers.postgres import cluster

MODES = {"static", "whois", "proxy-protocol", "serve-headers"}


@pytest.fixture
def folder():
    # the folder's name is short, because the path of a socket is limited to some 100 bytes
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


async def test_the_cost_of_identity_and_grants_is_told_for_every_mode_and_size(folder):
    tables = await identity.measured(folder, sizes=(2, 12), runs=1, seconds=0)
    modes, warm, once = tables
    assert set(modes) == MODES
    assert all(len(figures) == 2 for figures in (*warm.values(), *once.values()))
    text = identity.report(*tables, sizes=(2, 12))
    assert all(name in text for name in (*MODES, *warm, "sum, a call", "whois over the unix socket"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc)")
    folder = tmp_path_factory.mktemp("programs")
    compile_programs(folder)
    return folder


@pytest.fixture
async def upstream(programs, folder):
    async with wire(programs, folder) as running:
        yield running


async def test_cases_are_told_beside_a_pass_through(folder, upstream):
    figures = Figures()
    case = next(case for case in CASES if case.name == "converse-chunk")
    await run_case(case, upstream, folder, figures, rounds=2, window_ms=100)
    await run_starts([lane for lane in STARTS if lane.system in {IRISGATE, BARE}], upstream, folder, figures, rounds=1)
    assert [unit for _, unit in figures.rows] == [
        "CPU us a chunk",
        "age of a chunk, p50, us",
        "CPU s to the first answer",
        "MB",
    ]
    assert all({"Irisgate", "B"} <= set(row) for row in figures.rows.values())
    table = report(figures).splitlines()
    assert len([line for line in table if line.startswith("| ")]) == 2 + len(figures.rows)


async def test_workers_are_told_beside_one_process(programs, folder):
    text = await workers.measured(folder, programs, 2, rounds=1, window_ms=300)
    calls, streams, balance = text.split("\n\n")
    for table in (calls, streams):
        assert len(table.splitlines()) == 7
        assert re.search(r"^CPU us a call: the keeper +0 \(0–0\) +[1-9]", table, re.MULTILINE)
    # on a busy machine, a worker may be too late to take its half
    (counts,) = re.findall(r"^open +(\d) +(\d)$", balance, re.MULTILINE)
    assert sum(map(int, counts)) == 8


async def test_what_filters_add_is_told_with_its_interval(folder, upstream):
    figures = Figures()
    addition = replace(ADDITIONS[0], connections=2, chunks=3, interval_ms=1)
    await run_addition(addition, upstream, folder, figures, rounds=LEAST_ROUNDS)
    (with_filters, without), *others = figures.added[addition.title].rounds
    assert len(others) == LEAST_ROUNDS - 1
    assert with_filters > 0 < without
    (line,) = [line for line in report(figures).splitlines() if addition.title in line]
    assert line.endswith(f"| {LEAST_ROUNDS} |")


def test_the_interval_of_an_addition_narrows_with_more_rounds():
    few = Added([(base + difference, base) for base, difference in zip((80, 120, 95, 150), (4, 9, 5, 30), strict=True)])
    many = Added(few.rounds * 20)
    assert few.interval == (4, 30)
    assert many.interval[0] <= median(many.differences) <= many.interval[1]
    assert many.interval[1] - many.interval[0] < 26


@pytest.mark.parametrize("dialect", [CHAT_STREAM, CONVERSE_STREAM])
async def test_the_load_client_counts_the_chunks_of_the_upstream(upstream, dialect):
    await upstream.reply(REPLIES[dialect], count=10, interval_us=2000)
    results = await upstream.load(
        upstream.port,
        BARE.request(Request(dialect), upstream.port),
        connections=3,
        warm_ms=0,
        window_ms=50,
        drained=True,
    )
    assert results["failures"] == 0
    assert results["chunks"] == 10 * results["requests"] > 0
    assert 0 <= results["age_us"] < results["latency_us"]


async def test_the_load_client_counts_failures(upstream):
    await upstream.reply(Reply(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"))
    results = await upstream.load(
        upstream.port, BARE.request(Request(CHAT), upstream.port), connections=2, warm_ms=0, window_ms=5, drained=True
    )
    assert results["requests"] == 0
    assert results["failures"] > 0
    assert results["first_failure"] == 503


async def test_events_of_the_upstream_have_right_checksums_and_times(upstream):
    await upstream.reply(REPLIES[CONVERSE_STREAM], count=3, interval_us=1000)
    url = f"http://127.0.0.1:{upstream.port}/"
    async with aiohttp.ClientSession() as session, session.post(url) as reply:
        frames = eventstream.Decoder().feed(await reply.read())
    texts = [delta["text"] for frame in frames if (delta := json.loads(frame.payload).get("delta"))]
    assert len(texts) == 3
    assert all(0 <= time.monotonic() - int(text.partition("@")[2]) / 1e6 < 60 for text in texts)


async def test_the_time_of_every_answer_and_page_over_a_large_store_is_told(folder):
    built, answers = await million.measured(folder, calls=2000, rounds=1)
    assert built > 0
    assert {"sessions", "a call", "usage by user,day", "metrics", "page of a session"} <= set(answers)
    assert len(million.report((built, answers)).splitlines()) == 2 + len(answers)


async def test_the_memory_of_large_bodies_is_told(folder):
    text = await memory.measured(2, 1, pause=0)
    assert [line.split("{")[1].split("}")[0] for line in text.splitlines()[1:]] == ["200: 2"] * 2


async def test_the_time_of_health_checks_beside_streams_is_told():
    text = await flood.measured(2, 2)
    assert [line.split("  ")[0] for line in text.splitlines()[1:]] == [
        "no streams",
        *(f"{way}, {kind}" for way in flood.WAYS for kind in ("unread", "read")),
    ]


async def test_the_slope_of_memory_over_a_soak_is_told(folder):
    figures = await soak.measured(folder, seconds=60, calls=60)
    assert figures.records == figures.calls == 60
    assert len(figures.statuses) > 1
    assert "MB/h" in figures.report()


async def test_the_cost_of_pages_over_a_large_store_is_told(folder):
    costs = await pages.measured(folder, calls=500, rounds=1, only="people")
    assert {"people, 12m +5:30", "CSV of people, 24h", "people, 12m all at once"} <= set(costs)
    assert len(pages.report(costs).splitlines()) == 1 + len(costs)


@pytest.mark.usefixtures("postgres")
async def test_the_cost_of_pages_over_a_store_in_postgresql_is_told(folder, address):
    from tests.bench import postgres_pages  # it needs asyncpg

    costs = await postgres_pages.measured(folder, cluster().url(address), calls=500, rounds=1, only="calls")
    assert {"calls", "calls of one", "the longest's calls, far behind"} <= set(costs)
    assert len(postgres_pages.report(costs).splitlines()) == 1 + len(costs)
    assert f"{len(costs)} answers, 1 request for each" in postgres_pages.summary(costs)


@pytest.mark.usefixtures("postgres")
def test_slow_requests_to_postgresql_are_counted():
    from tests.bench import postgres_pages  # it needs asyncpg

    costs = {
        "quick": postgres_pages.Cost((20.0, 30.0), 9.0, 9.0, 1024),
        "once": postgres_pages.Cost((150.0, 260.0), 9.0, 9.0, 1024),
        "always": postgres_pages.Cost((230.0, 201.0), 150.0, 60.0, 1024),
    }
    head, *lines = [line.split() for line in postgres_pages.report(costs).splitlines()]
    assert head[:5] == ["answer", "wall", "ms", "largest", "ms"]
    assert lines == [
        ["quick", "20.0", "30.0", "0", "9.0", "9.0", "1"],
        ["once", "150.0", "260.0", "1", "9.0", "9.0", "1"],
        ["always", "201.0", "230.0", "2", "150.0", "60.0", "1", "over"],
    ]
    assert postgres_pages.summary(costs) == (
        "3 answers, 2 requests for each. Wall time: the largest is 260.0 ms (once), and 3 requests to 2 answers took "
        "over 200 ms, to 1 of them each request. CPU time of gateway and server: the largest is 210.0 ms (always), and "
        "1 answer took over 200 ms."
    )
