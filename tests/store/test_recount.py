"""Tests of computing stored values anew from the calls, after the rows with these values were lost.

The values are the counts of tool uses and errors, the health of models, and the daily sums by agent.
"""

import sqlite3
from contextlib import closing

import pytest

from gateway.store.base import JournalOffset
from gateway.store.entries import Balance, Entry
from gateway.store.examine import examine_database
from gateway.store.file import connect
from gateway.store.repair import rebuild_database, rebuild_sums
from gateway.store.writing import write
from tests.helpers.records import NOON, record

TEXTS = {
    "tools": "SELECT time, series, tool, calls FROM tools_quarter",
    "tools by day": "SELECT time, series, tool, calls FROM tools_day",
    "errors": "SELECT time, series, code, native, provider, shape, calls FROM errors_quarter JOIN error_kinds k ON k.n = kind",
    "kinds": "SELECT code, native, provider, shape, message, example, at FROM error_kinds",
    "health": "SELECT * FROM health",
}  # fmt: skip
LOSSES = {
    "all rows": ["tools_quarter", "tools_day", "errors_quarter", "error_kinds", "health"],
    "some rows": ["tools_quarter WHERE time % 1800000 = 0", "errors_quarter WHERE time % 1800000 = 0"],
    "days": ["tools_day"],
    "one tool": ["tools_quarter WHERE tool = 'Read'", "tools_day WHERE tool = 'Read'"],
    "kinds of errors": ["error_kinds WHERE code = 'upstream'"],
}


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "irisgate.db"
    fault = {"outcome": "failed", "status": 502, "error": "upstream", "error_native": "Fault"}
    calls = []
    for number in range(200):
        changes = fault | {"error_message": f"{number % 3} of no model {number}"} if number % 5 == 0 else {}
        tools = ("Read", "Bash", "Read") if number % 2 else ("Bash",)
        calls.append(record(id=f"c{number}", at=NOON + number * 60, agent=f"a{number % 3}", tools=tools, **changes))
    calls.append(record(id="refused", outcome="refused", provider="", model="x", error="denied", error_message="no"))
    calls.append(record(id="stopped", outcome="cancelled", error="", tools=("Bash",)))
    with closing(connect(path)) as connection:
        write(connection, [Entry(call=one) for one in calls], JournalOffset(1, 0))
    return path


def texts(path):
    with closing(sqlite3.connect(path)) as connection:
        return {name: sorted(connection.execute(query)) for name, query in TEXTS.items()}


def lose(path, *rows):
    with closing(connect(path)) as connection:
        for each in rows:
            connection.execute(f"DELETE FROM {each}")


@pytest.mark.parametrize("loss", LOSSES)
def test_tools_and_errors_are_counted_again(database, loss):
    before = texts(database)
    assert all(before.values())
    assert examine_database(database).wrong_sums == 0
    lose(database, *LOSSES[loss])
    assert texts(database) != before
    assert examine_database(database).wrong_sums > 0
    rebuild_sums(database)
    assert texts(database) == before
    assert examine_database(database).wrong_sums == 0


def test_a_database_that_is_made_anew_counts_them_too(database, tmp_path):
    before = texts(database)
    lose(database, "tools_day", "health", "errors_quarter")
    rebuild_database(database, tmp_path / "aside")
    assert texts(database) == before


def test_counts_of_expired_calls_stay(database):
    """Check that `rebuild_sums` restores lost counts from the stored calls, and keeps counts that also include expired
    calls.
    """
    before = texts(database)
    lose(database, "calls WHERE n <= 100", f"tools_quarter WHERE time > {round((NOON + 6600) * 1000)}")
    rebuild_sums(database)
    assert texts(database) == before


def test_a_copied_row_counts_once(database, tmp_path):
    with closing(connect(database)) as connection:
        balances = [Balance(f"daily:{name}", 5, 0, NOON) for name in ("alice", "bob")]
        write(connection, [Entry(balances=tuple(balances))], JournalOffset(1, 1))
    rows = rebuild_database(database, tmp_path / "aside")
    with closing(sqlite3.connect(database)) as connection:
        (kept,) = connection.execute("SELECT count(*) FROM balances").fetchone()
    assert rows["balances"] == kept == 2


@pytest.mark.parametrize(
    "statements",
    [
        ["DELETE FROM agents_day"],
        ["UPDATE agents_day SET calls = calls - 1, input = 0"],
        # the sums of a day outlive the calls
        ["DELETE FROM calls", "DELETE FROM figures_quarter", "DELETE FROM agents_day"],
        ["UPDATE agents_day SET calls = 0", f"UPDATE figures_day SET input = {2**63 - 1}"],
    ],
)
def test_daily_sums_by_agent_are_summed_again(database, statements):
    counts = f"SELECT time, agent, sum(calls), min({2**63 - 1}, total(input)) FROM {{}} JOIN series ON n = series GROUP BY 1, 2"
    with closing(connect(database)) as connection:
        for statement in statements:
            connection.execute(statement)
        wanted = connection.execute(counts.format("figures_day")).fetchall()
        assert connection.execute(counts.format("agents_day")).fetchall() != wanted
        assert examine_database(database).wrong_sums > 0
        rebuild_sums(database)
        assert examine_database(database).wrong_sums == 0
        assert connection.execute(counts.format("agents_day")).fetchall() == wanted
