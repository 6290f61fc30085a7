"""Tests of the migration that adds daily sums by agent to a store of an older release. The sums must equal those of a
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

BEFORE, BEFORE_IN_POSTGRES = 15, 5
"""Numbers of migrations before the one that adds daily sums by agent, for SQLite and for PostgreSQL."""
CALLS = [
    record(
        id=f"c{number}", at=NOON - number // 4 * 86_400, identity=f"{number % 3}@example.com",
        agent=("curl", "codex")[number % 2], outcome=("ok", "failed")[number % 5 == 0], cost=number,
    )
    for number in range(20)
]  # fmt: skip
ROWS = """
SELECT a.time, s.identity, s.agent, s.outcome, a.calls, a.known_cost, a.d0 FROM agents_day a JOIN series s ON s.n = a.series
"""


def undo(run):
    """Bring a store back to its state before the migration that adds the daily sums by agent."""
    run("DROP TABLE agents_day")
    run("DELETE FROM series WHERE identity = '' AND agent <> ''")


def test_sums_of_agents_of_an_older_file_equal_those_of_a_new_one(monkeypatch):
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, "memory")
        write(connection, [Entry(call=call) for call in CALLS], JournalOffset())
        before = sorted(connection.execute(ROWS))
        assert 0 < len(before) < len(CALLS)
        undo(connection.execute)
        connection.execute(f"PRAGMA user_version = {BEFORE}")
        monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[: BEFORE + 1])
        migrate(connection, "memory")
        assert sorted(connection.execute(ROWS)) == before


@pytest.mark.parametrize(
    ("costs", "total"),
    [
        ((2**62, 2**62 - 1, 0), 2**63 - 1),
        ((2**62 + 1, 2**62, -5), 2**63 - 4),
        ((2**63 - 1, 2**53 + 1, 2**63 - 1), 2**63 - 1),
        ((-(2**62), -(2**62), 9), 9 - 2**63),
        ((1 - 2**63, -7, -7), 1 - 2**63),
        ((-1, -(2**32), 2**32 - 3), -4),
    ],
)
def test_sums_of_callers_that_are_too_large_together_are_limited(monkeypatch, costs, total):
    """Check that a sum over several callers is exact if it fits into a column. If it does not fit, the largest integer
    is stored.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, "memory")
        calls = [record(id=str(number), identity=f"{number}@example.com", agent="curl") for number in range(3)]
        write(connection, [Entry(call=call) for call in calls], JournalOffset())
        for number, cost in enumerate(costs):
            of_caller = "series = (SELECT n FROM series WHERE identity = ?)"
            connection.execute(
                f"UPDATE figures_day SET known_cost = ? WHERE {of_caller}", (cost, f"{number}@example.com")
            )
        undo(connection.execute)
        connection.execute(f"PRAGMA user_version = {BEFORE}")
        monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[: BEFORE + 1])
        migrate(connection, "memory")
        assert connection.execute("SELECT calls, known_cost FROM agents_day").fetchall() == [(3, total)]


async def test_sums_of_agents_of_an_older_database_equal_those_of_a_new_one(monkeypatch):
    address = cluster().address()
    opening = kept_in_postgres(address)

    def sql(statement):
        return cluster().sql(statement, address.database)

    store = opening()
    for call in CALLS:
        store.put(call)
    await store.flush()
    await store.close()
    before = sorted(sql(ROWS))
    assert 0 < len(before) < len(CALLS)
    undo(sql)
    sql(f"UPDATE schema_version SET version = {BEFORE_IN_POSTGRES}")
    monkeypatch.setattr(postgres_schema, "MIGRATIONS", postgres_schema.MIGRATIONS[: BEFORE_IN_POSTGRES + 1])
    await opening().close()
    assert sorted(sql(ROWS)) == before
