"""Tests that sums in PostgreSQL are computed anew if rows of them were lost, even while a gateway writes."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from gateway.store.base import JournalOffset
from gateway.store.entries import Entry
from gateway.store.header_sums import TABLES
from tests.helpers.postgres import cluster, store_calls
from tests.helpers.records import NOON, record

pytestmark = pytest.mark.usefixtures("postgres")

FIGURES = [f"{kind}_{unit}" for kind in ("figures", "everybody") for unit in ("quarter", "hour", "day", "month")]
SUMS = [*FIGURES, "agents_day", "tools_quarter", "tools_day", "errors_quarter", *TABLES]
"""Tables of sums that can be computed again from the calls."""
KEPT = [*SUMS, "health", "call_headers", "session_headers"]
ABSURD = 2**53
"""Number of tokens of an absurdly large call: 1025 such calls exceed the largest integer of a column."""


def calls():
    fault = {"outcome": "failed", "status": 502, "error": "upstream", "error_native": "Fault", "error_message": "no"}
    for number in range(40):
        changes = fault if number % 5 == 0 else {}
        tools = ("Read", "Bash", "Read") if number % 2 else ("Bash",)
        yield record(
            id=f"c{number}", at=NOON + number * 5000, agent=f"a{number % 3}", identity=f"{number % 4}@example.com",
            session_id=f"s{number % 7}", tools=tools, headers={"x-team": f"t{number % 3}"}, **changes,
        )  # fmt: skip
    yield record(id="refused", outcome="refused", provider="", model="x", error="denied", error_message="no")


@contextmanager
def connection(address, role):
    from gateway.store.postgres.connection import PostgresConnection  # it needs asyncpg

    with closing(PostgresConnection(address, role)) as made:
        yield made


def contents(address):
    with connection(address, "doctor") as reading:
        return {name: sorted(reading.execute(f"SELECT * FROM {name}").fetchall()) for name in KEPT}


def lose(address, *rows):
    with connection(address, "repair") as writing:
        for each in rows:
            writing.execute(f"DELETE FROM {each}")


def wrong(address):
    from gateway.store.postgres.recount import wrong_sums  # it needs asyncpg

    with connection(address, "doctor") as reading:
        return wrong_sums(reading)


def repair(address):
    from gateway.store.postgres.recount import repair_sums  # it needs asyncpg

    with connection(address, "repair") as writing:
        return repair_sums(writing)


@pytest.fixture(scope="module")
def template():
    """Return the name of a database with calls. Each test works on a copy of it."""
    address = cluster().address()
    store_calls(address, calls())
    return address.database


@pytest.fixture
def database(template):
    name = cluster().address().database
    cluster().sql(f"DROP DATABASE {name}")
    cluster().sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    return cluster().address(name)


@pytest.mark.parametrize(
    "lost",
    [
        *([table] for table in [*SUMS, "call_headers"]),
        SUMS,
        ["figures_quarter WHERE time % 1800000 = 0", "figures_hour"],
        ["everybody_day", "everybody_month", "agents_day", "health"],
        ["session_headers", "call_headers"],
    ],
    ids=" ".join,
)
def test_lost_sums_are_found_and_counted_again(database, lost):
    before = contents(database)
    assert all(before.values())
    assert wrong(database) == 0
    lose(database, *lost)
    assert contents(database) != before
    found = wrong(database)
    assert found > 0
    assert repair(database) == found
    assert contents(database) == before
    assert (wrong(database), repair(database)) == (0, 0)


def test_sums_that_count_too_few_calls_are_replaced(database):
    before = contents(database)
    for table in [*FIGURES, "agents_day"]:
        cluster().sql(f"UPDATE {table} SET calls = calls - 1, input = 0", database.database)
    assert repair(database) > 0
    assert contents(database) == before


def test_sums_of_expired_calls_stay(database):
    before = contents(database)
    cluster().sql("DELETE FROM call_headers; DELETE FROM calls WHERE id < 'c2'", database.database)
    lose(database, "figures_hour", "everybody_quarter")
    repair(database)
    after = contents(database)
    assert [after[name] for name in [*FIGURES, "agents_day"]] == [before[name] for name in [*FIGURES, "agents_day"]]


def test_sums_stop_at_the_largest_integer():
    address = cluster().address()
    store_calls(address, [record(id=f"c{number}", usage={"input": ABSURD}) for number in range(1025)])
    before = contents_of_figures(address)
    assert before["figures_quarter"][0][1] == 2**63 - 1
    lose(address, *FIGURES, "agents_day")
    assert repair(address) > 0
    assert contents_of_figures(address) == before


def contents_of_figures(address):
    with connection(address, "doctor") as reading:
        return {name: sorted(reading.execute(f"SELECT calls, input FROM {name}").fetchall()) for name in FIGURES}


def test_a_repair_waits_for_a_gateway_that_writes(database):
    """Check that if a gateway is writing calls, a repair waits until the gateway's transaction has ended, and counts
    these calls too.
    """
    from gateway.store.postgres.writing import CREATE_BATCH, write  # it needs asyncpg

    lose(database, *FIGURES)
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'irisgate repair%' AND wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor(1) as threads, connection(database, "writer") as gateway:
        gateway.execute(CREATE_BATCH)
        with gateway.transaction():
            entries = [Entry(call=record(id="later"))]
            write(gateway, "journal", entries, JournalOffset(), is_shared=False)
            repairing = threads.submit(repair, database)
            while not cluster().sql(waiting):
                assert not repairing.done()
        assert repairing.result() > 0
    assert wrong(database) == 0
    assert total_of_each(database) == dict.fromkeys(FIGURES, 42)


def total_of_each(address):
    with connection(address, "doctor") as reading:
        return {name: reading.execute(f"SELECT sum(calls) FROM {name}").fetchone()[0] for name in FIGURES}
