"""Tests of the migration that adds sums by hour, day and month to a store of an older release.

The totals must still include calls that have expired.
"""

import sqlite3
from contextlib import closing
from itertools import count

import pytest

from gateway.store.base import UsageQuery
from gateway.store.calls import CALL_COLUMNS, call_row
from gateway.store.figures_writing import AGENT_TABLES, EVERYBODY_TABLES, FIGURE_TABLES
from gateway.store.schema import MIGRATIONS, migrate
from gateway.store.usage import read
from tests.helpers.records import HAIKU, NOON, record

OLD = 6
"""Number of migrations that the older release has."""
HOUR = 3_600_000
NEW_COLUMNS = {"cache_saved", "auto_cached", "tried", "key", "headers", "direct"}
OLD_COLUMNS = [name for name in CALL_COLUMNS if name not in NEW_COLUMNS]
NUMBERS = count()
OLD_SUMS = (
    "count(*), sum(outcome <> 'ok'), sum(input), sum(output), sum(cache_read), sum(cache_write_5m), "
    "sum(cache_write_1h), sum(reasoning), coalesce(sum(cost), 0), sum(cost IS NULL), sum(estimated), "
    "sum(CAST(round(duration_ms) AS INTEGER))"
)


def some(number, **changes):
    return [record(id=f"req_{next(NUMBERS)}", **changes) for _ in range(number)]


KEPT = [
    *some(3),
    *some(2, outcome="failed", status=429, error="rate_limit", error_native="Throttling", error_message="slow down"),
    *some(2, at=NOON + 1000, tools=("Bash", "Read"), first_event_ms=700.0),
    *some(1, provider="", model="made-up", outcome="refused", status=403, error="permission", cost=0),
    *some(1, at=NOON + 1800, cost=None, identity="bob@example.com"),
]
EXPIRED = [
    *some(4),
    *some(1, outcome="failed", status=500, error="upstream"),
    *some(3, at=NOON - 86_400, outcome="failed", status=500, cost=None),
    *some(2, at=NOON - 90_000),
]


@pytest.fixture
def old():
    """Return the connection to a store of the older release. Some of its calls have expired."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statements in MIGRATIONS[:OLD]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {OLD}")
        marks = ", ".join("?" for _ in OLD_COLUMNS)
        for call in (*KEPT, *EXPIRED):
            cells = dict(zip(CALL_COLUMNS, call_row(call), strict=True))
            values = [cells[name] for name in OLD_COLUMNS]
            connection.execute(f"INSERT INTO calls ({', '.join(OLD_COLUMNS)}) VALUES ({marks})", values)
        for table, unit in (("usage_hourly", HOUR), ("usage_daily", 24 * HOUR)):
            connection.execute(
                f"INSERT INTO {table} SELECT at - at % {unit}, identity, provider, iif(provider = '', '', model), "
                f"agent, {OLD_SUMS} FROM calls GROUP BY 1, 2, 3, 4, 5"
            )
        connection.executemany("DELETE FROM calls WHERE id = ?", [(call.id,) for call in EXPIRED])
        yield connection


def test_totals_of_an_older_release_stay_the_same(old):
    names = "identity, provider, model, agent"
    before = {
        table: old.execute(
            f"SELECT time, {names}, calls, failed, input, known_cost, duration_ms FROM {table}"
        ).fetchall()
        for table in ("usage_hourly", "usage_daily")
    }
    migrate(old, "memory")
    for by, table in (("hour", "usage_hourly"), ("day", "usage_daily")):
        query = UsageQuery(by=(by, "user", "provider", "model", "agent"))
        rows = read(old, query)
        after = [
            (*list(row.group.values())[1:], row.calls, row.failed, row.usage.input, row.known_cost, row.duration_ms)
            for row in rows
        ]
        assert after == [row[1:] for row in before[table]]


def test_every_resolution_has_all_calls(old):
    migrate(old, "memory")
    for table in (*FIGURE_TABLES, *AGENT_TABLES, *EVERYBODY_TABLES):
        (calls,) = old.execute(f"SELECT sum(calls) FROM {table}").fetchone()
        assert (table, calls) == (table, len(KEPT) + len(EXPIRED))


def test_expired_calls_have_no_status_and_others_have(old):
    migrate(old, "memory")
    query = (
        "SELECT status, outcome, sum(calls) FROM figures_quarter JOIN series ON n = series GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert old.execute(query).fetchall() == [
        (0, "failed", 4), (0, "ok", 6), (200, "ok", 6), (403, "refused", 1), (429, "failed", 2),
    ]  # fmt: skip


def test_errors_tools_and_health_come_from_the_calls(old):
    migrate(old, "memory")
    kinds = "SELECT code, native, provider, message, calls FROM errors_quarter JOIN error_kinds ON n = kind ORDER BY 1"
    assert old.execute(kinds).fetchall() == [
        ("permission", "", "", "", 1),
        ("rate_limit", "Throttling", "bedrock", "slow down", 2),
    ]
    assert old.execute("SELECT tool, sum(calls) FROM tools_day GROUP BY 1").fetchall() == [
        ("Bash", 2), ("Read", 2), ("get_weather", len(KEPT) - 2),
    ]  # fmt: skip
    moments = (round(NOON * 1000) + 1_800_000, round(NOON * 1000))
    health = old.execute("SELECT model, success_at, error_at, error, message FROM health").fetchall()
    assert health == [(HAIKU, *moments, "rate_limit", "slow down")]
