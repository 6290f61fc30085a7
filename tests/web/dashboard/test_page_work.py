"""Tests that the work for a page depends on the number of stored sums of calls, and not on the number of calls.

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
"""Number of SQLite's instructions between two calls of the progress handler."""
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
    """Return `copies` calls in each of 900 random quarter hours of a year. Calls in the same quarter hour share one row
    of stored sums.
    """
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
    """The number of instructions that SQLite ran, in units of `STEP`, and the number of statements."""

    def __init__(self):
        self.steps = 0
        self.statements = 0

    def add(self):
        self.steps += 1

    def begin(self, _statement):
        self.statements += 1


@pytest.fixture
def work(monkeypatch):
    counted, connect = Work(), sqlite_thread.connect

    def watched(path, **options):
        connection = connect(path, **options)
        connection.set_progress_handler(counted.add, STEP)
        connection.set_trace_callback(counted.begin)
        return connection

    monkeypatch.setattr(sqlite_thread, "connect", watched)
    return counted


@pytest.fixture
async def client_of(tmp_path, aiohttp_client):
    stores = []

    async def client_of(entries):
        store = SqliteStore(tmp_path / f"{len(stores)}.db")
        stores.append(store)
        await store.write(entries, JournalOffset())
        return await aiohttp_client(application(store))

    yield client_of
    for store in stores:
        await store.close()


async def steps_of(client, work, path):
    """Return the number of SQLite's instructions for one request, in units of `STEP`. The same request is made once
    before, to fill the caches.
    """
    for _ in range(2):
        work.steps = work.statements = 0
        async with client.get(path, headers={"x-test-login": ADMIN}) as response:
            assert response.status == 200, await response.text()
    return work.steps


async def test_five_times_as_many_calls_need_no_more_work(client_of, work):
    few, many = await client_of(calls(1)), await client_of(calls(5))
    for path in PAGES:
        once = await steps_of(few, work, path)
        assert once > 0
        assert await steps_of(many, work, path) <= once * 1.02 + 2, path


def last_failures(people):
    """Return one failed call for each of `people` callers. The calls are spread evenly over the last 80 days."""
    now, gap = time.time(), 80 * DAY / 1000 / people
    return [
        Entry(
            call=record(
                id=f"req_{number}", at=now - (number + 0.7) * gap, identity=f"u{number}@example.com",
                outcome="failed", status=503, error="overloaded",
            )
        )
        for number in range(people)
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["/ui/people", "/ui/cache"])
async def test_last_calls_of_many_people_need_no_more_statements(client_of, work, path):
    """Check that a page about 80 people needs at most three more SQL statements than one about 20 people, even if each
    person's last call is at another time.
    """
    counts = []
    for people in (20, 80):
        await steps_of(await client_of(last_failures(people)), work, f"{path}?range=90d&outcome=failed")
        counts.append(work.statements)
    # one for days, one for hours and one for quarter hours, if all of the fewer calls are in whole months
    assert 0 < counts[1] <= counts[0] + 3


async def test_usage_by_client_and_day_needs_no_more_work_for_more_people(client_of, work):
    now, counts = time.time() - 3600, []
    for people in (3, 30):
        entries = [
            Entry(call=record(id=f"{day}_{number}", at=now - day * DAY / 1000, identity=f"u{number}@example.com"))
            for day in range(100)
            for number in range(people)
        ]
        counts.append(await steps_of(await client_of(entries), work, "/api/usage?by=agent,day"))
    assert 0 < counts[1] <= counts[0] * 1.02 + 2
