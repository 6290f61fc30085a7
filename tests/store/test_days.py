"""Tests of a database that gets calls for a hundred days, and keeps each call for thirty days.

The file must stop growing, old calls must be deleted, and the totals must be kept.
"""

import sqlite3
from contextlib import closing

import pytest

from gateway.store.base import JournalOffset
from gateway.store.entries import Entry
from gateway.store.file import connect, prepare
from gateway.store.follower import EXPIRE_BATCH_CALLS
from gateway.store.units import DAY
from gateway.store.writing import expire, write
from tests.helpers.records import NOON, record

DAYS, KEPT, CALLS = 100, 30, 300
"""Number of simulated days, number of days for which calls are kept, and number of calls on each day."""
STEADY = 35
"""The first day on which as many calls are deleted as are added."""
SECONDS = 86_400


def calls_of(day):
    """Return the calls of one day: within four hours, by five users, in sessions of ten calls."""
    return [
        Entry(
            call=record(
                id=f"req_{day:03}_{number:05}",
                session_id=f"s_{day}_{number // 10}",
                identity=f"user{number // 10 % 5}@example.com",
                at=NOON + day * SECONDS + number * 4 * 3600 / CALLS,
            )
        )
        for number in range(CALLS)
    ]


def expired(connection, before):
    """Delete expired calls in batches, as the store's background task does. Return the number of deleted calls."""
    total = 0
    while (deleted := expire(connection, before, EXPIRE_BATCH_CALLS)) == EXPIRE_BATCH_CALLS:
        total += deleted
    return total + deleted


def number(connection, query):
    return connection.execute(query).fetchone()[0]


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """Return the store after all days, and the number of pages in its file at the end of each day."""
    path = tmp_path_factory.mktemp("days") / "irisgate.db"
    prepare(path)
    pages = []
    with closing(connect(path)) as connection:
        for day in range(DAYS):
            write(connection, calls_of(day), JournalOffset())
            expired(connection, NOON + (day + 1 - KEPT) * SECONDS)
            pages.append(number(connection, "PRAGMA page_count"))
    with closing(sqlite3.connect(path)) as connection:
        yield connection, pages


def test_the_file_stops_growing_once_as_much_goes_as_comes(lived):
    connection, pages = lived
    # roll-ups stay: a hundred bytes or two for each user, model and hour
    sums = number(connection, "SELECT count(*) FROM figures_quarter") * 250 // number(connection, "PRAGMA page_size")
    assert pages[STEADY] > 10 * pages[0]
    assert max(pages[STEADY:]) - pages[STEADY] < 0.02 * pages[STEADY] + sums
    assert number(connection, "PRAGMA freelist_count") < 0.1 * pages[-1]


def test_only_calls_and_sessions_of_retained_days_remain(lived):
    """Check that only the calls and sessions of the retained days remain in the store."""
    connection, _ = lived
    first = round((NOON + (DAYS - KEPT) * SECONDS) * 1000)
    assert number(connection, "SELECT count(*) FROM calls") == KEPT * CALLS
    assert number(connection, "SELECT min(at) FROM calls") == first
    assert number(connection, "SELECT count(*) FROM sessions") == KEPT * CALLS // 10
    assert number(connection, "SELECT min(started_at) FROM sessions") == first
    for table in ("session_models", "session_tools"):
        assert number(connection, f"SELECT count(*) FROM {table}") == KEPT * CALLS // 10


def test_sums_of_days_that_are_gone_stay(lived):
    connection, _ = lived
    for table in ("figures_quarter", "figures_hour", "figures_day"):
        assert number(connection, f"SELECT sum(calls) FROM {table}") == DAYS * CALLS
    by_day = connection.execute(f"SELECT time / {DAY}, sum(calls) FROM figures_day GROUP BY 1").fetchall()
    assert [calls for _, calls in by_day] == [CALLS] * DAYS
