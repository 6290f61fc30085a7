"""Tests of the migration that replaces sums by periods of 32 days with sums by month. The sums must equal those of a
new store.
"""

import sqlite3
from contextlib import closing

import pytest

from gateway.store import schema
from gateway.store.base import JournalOffset
from gateway.store.entries import Entry
from gateway.store.postgres import schema as postgres_schema
from gateway.store.schema import migrate
from gateway.store.writing import write
from tests.helpers.postgres import cluster, kept_in_postgres
from tests.helpers.records import NOON, record

TABLES = ("figures", "everybody", "header_figures", "header_everybody")
BEFORE = 14
"""Number of migrations of the SQLite store before the one that adds months."""
DAY = 86_400
CALLS = [
    record(id=f"c{number}", at=at, identity=f"{number % 2}@example.com", headers={"x-team": "a"} if number % 3 else {})
    for number, at in enumerate(
        [NOON, NOON + DAY, NOON + 20 * DAY, NOON + 20 * DAY, NOON - 300 * DAY, NOON - 330 * DAY]
    )
]


def undo(run):
    """Undo the migration from tables of 32-day periods to tables of months. The restored tables of periods are empty."""
    for table in TABLES:
        run(f"CREATE TABLE {table}_period AS SELECT * FROM {table}_month WHERE time < 0")
        run(f"DROP TABLE {table}_month")


@pytest.fixture
def sqlite_store():
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, "memory")
        write(connection, [Entry(call=call) for call in CALLS], JournalOffset())
        yield connection


def test_months_of_an_older_file_equal_those_of_a_new_one(sqlite_store, monkeypatch):
    def months():
        return {table: sorted(sqlite_store.execute(f"SELECT * FROM {table}_month")) for table in TABLES}

    before = months()
    assert all(len({row[-32] for row in rows}) == 4 for rows in before.values())
    undo(sqlite_store.execute)
    sqlite_store.execute(f"PRAGMA user_version = {BEFORE}")
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[: BEFORE + 1])
    migrate(sqlite_store, "memory")
    assert months() == before
    assert not sqlite_store.execute("SELECT name FROM sqlite_schema WHERE name LIKE '%period%'").fetchall()


@pytest.mark.parametrize("table", TABLES)
def test_a_sum_of_days_that_is_too_large_ends_at_the_largest_integer(sqlite_store, monkeypatch, table):
    sqlite_store.execute(f"UPDATE {table}_day SET known_cost = {2**62}, cache_saved = {-(2**62)}, input = 5")
    # a second day of the same month for each row
    columns = [name for _, name, *_ in sqlite_store.execute(f"PRAGMA table_info({table}_day)")]
    later = ", ".join("time + 1" if name == "time" else name for name in columns)
    sqlite_store.execute(f"INSERT INTO {table}_day SELECT {later} FROM {table}_day")
    undo(sqlite_store.execute)
    sqlite_store.execute(f"PRAGMA user_version = {BEFORE}")
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[: BEFORE + 1])
    migrate(sqlite_store, "memory")
    (largest,) = sqlite_store.execute(f"SELECT max(known_cost), min(cache_saved), min(input) FROM {table}_month")
    assert largest[:1] + largest[2:] == (2**63 - 1, 10)
    assert largest[1] <= 1 - 2**63


async def test_months_of_an_older_database_equal_those_of_a_new_one(monkeypatch):
    address = cluster().address()
    opening = kept_in_postgres(address)

    def sql(statement):
        return cluster().sql(statement, address.database)

    def months():
        return {table: sorted(sql(f"SELECT * FROM {table}_month")) for table in TABLES}

    store = opening()
    for call in CALLS:
        store.put(call)
    await store.flush()
    await store.close()
    before = months()
    assert all(before.values())
    undo(sql)
    sql("UPDATE schema_version SET version = 2")
    monkeypatch.setattr(postgres_schema, "MIGRATIONS", postgres_schema.MIGRATIONS[:3])
    await opening().close()
    assert months() == before
    assert not sql("SELECT relname FROM pg_class WHERE relname LIKE '%period%'")
