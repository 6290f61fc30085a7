"""Tests that the benchmarks run. Their results are not checked."""

import tempfile
from pathlib import Path

import pytest

from tests.bench import filters, flood, identity, memory, million, overhead, soak

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


async def test_the_cost_of_a_call_is_told_beside_a_pass_through(folder):
    calls = dict.fromkeys(overhead.CALLS, 2)
    text = overhead.report(await overhead.measured(folder, rounds=1, calls=calls))
    assert len(text.splitlines()) == 1 + 8


async def test_the_cost_of_filters_is_told_beside_a_gateway_without_them(folder):
    text = filters.report(await filters.measured(folder, rounds=1, calls=2))
    assert len(text.splitlines()) == 1 + 8


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
