"""Tests that the work of a page depends on the number of sums and not on the number of calls.

Work is counted in instructions of SQLite's virtual machine, which is the same on every machine. `tests/bench/pages.py`
measures time.
"""

import time
from random import Random

import pytest

from gateway.contract.flag import Usage
from gateway.store import sqlite_thread
from gateway.store.base import JournalOffset
from gateway.store.entries import Entry
from gateway.store.sqlite import SqliteStore
from gateway.store.units import DAY, QUARTER
from tests.helpers.records import record
from tests.web.dashboard.application import ADMIN, application

STEP = 100
"""Number of instructions after which SQLite reports that it has worked."""
YEAR = "range=12m&zone=Asia/Kolkata"
PAGES = (
    f"/ui/?{YEAR}",
    f"/ui/?{YEAR}&by=user&measure=tokens",
    f"/ui/people?{YEAR}",
    f"/ui/cache?{YEAR}",
    f"/ui/errors?{YEAR}",
    f"/ui/providers?{YEAR}",
    f"/ui/sessions?{YEAR}",
    f"/api/reports/totals?{YEAR}&compare=1",
    f"/api/reports/chart?{YEAR}&by=user",
    f"/api/reports/table?{YEAR}&by=user&model=m1",
    "/api/usage?by=user,model",
    "/api/usage?by=provider",
)


def calls(copies):
    """Return calls of a year with `copies` calls in each group of sums (series and quarter hour)."""
    chance, now = Random(5), time.time() - 3600
    times = sorted(now - chance.random() * 360 * DAY / 1000 for _ in range(900))
    return [
        Entry(
            call=record(
                id=f"req_{number}_{copy}",
                at=at // (QUARTER / 1000) * QUARTER / 1000 + copy,
                identity=f"u{number % 7}@example.com",
                model=f"m{number % 3}",
                session_id=f"s{number}",
                usage=Usage(input=number),
                tools=("Bash",),
            )
        )
        for number, at in enumerate(times)
        for copy in range(copies)
    ]


class Work:
    """The number of instructions that SQLite ran, in units of `STEP`."""

    def __init__(self):
        self.steps = 0

    def add(self):
        self.steps += 1


@pytest.fixture
def work(monkeypatch):
    counted, connect = Work(), sqlite_thread.connect

    def watched(path, **options):
        connection = connect(path, **options)
        connection.set_progress_handler(counted.add, STEP)
        return connection

    monkeypatch.setattr(sqlite_thread, "connect", watched)
    return counted


@pytest.fixture
async def client_of(tmp_path, aiohttp_client):
    stores = []

    async def client_of(copies):
        store = SqliteStore(tmp_path / f"{copies}.db")
        stores.append(store)
        await store.write(calls(copies), JournalOffset())
        return await aiohttp_client(application(store))

    yield client_of
    for store in stores:
        await store.close()


async def steps_of(client, work, path):
    """Return the work for one answer. An earlier request for the same path has filled the caches."""
    for _ in range(2):
        work.steps = 0
        async with client.get(path, headers={"x-test-login": ADMIN}) as response:
            assert response.status == 200, await response.text()
    return work.steps


async def test_five_times_as_many_calls_need_no_more_work(client_of, work):
    few, many = await client_of(1), await client_of(5)
    for path in PAGES:
        once = await steps_of(few, work, path)
        assert once > 0
        assert await steps_of(many, work, path) <= once * 1.02 + 2, path
