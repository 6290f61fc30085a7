"""Tests that all stored totals (such as usage and errors) equal a recount of the calls, for any calls and any division
into batches.
"""

import json
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.flag import USAGE_KINDS, Usage
from gateway.store.base import JournalOffset
from gateway.store.entries import MAX_INTEGER, Entry, decode, encode
from gateway.store.figures_writing import AGENT_TABLES, EVERYBODY_TABLES, FIGURE_TABLES, series_numbers
from gateway.store.histogram import BOUNDS
from gateway.store.schema import migrate
from gateway.store.sums import Series
from gateway.store.units import DAY, HOUR, QUARTER
from gateway.store.writing import write
from tests.helpers.examples import examples
from tests.helpers.postgres import cluster
from tests.helpers.records import NOON, record

MONTH = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
# a few of each, so that groups have more than one call; halves of surrogate pairs, and more than is kept of a text
NAMES = st.sampled_from(["ada@example.com", "bob@example.com", "", "\udc80", "\x00\n", "é" * 1500, "é" * 1499 + "a"])
TIMES = st.one_of(
    st.integers(-3, 3).map(lambda hours: NOON + hours * 3600),
    st.floats(NOON - 2 * 86_400, NOON + 2 * 86_400, allow_nan=False),
    st.sampled_from([MONTH - 0.001, MONTH]),
    st.sampled_from([0.0, NOON - 0.0004, NOON + 43_200 - 0.0004, NOON + 43_199.9996, NOON + 43_200]),
)
COUNTS = st.one_of(st.just(0), st.integers(0, 10_000), st.sampled_from([-1, MAX_INTEGER // 1000, 2**70]))
CALLS = st.builds(
    record,
    id=st.integers(0, 12).map(str),
    session_id=st.one_of(st.sampled_from(["s1", "s2", ""]), NAMES),
    identity=NAMES,
    at=TIMES,
    provider=st.sampled_from(["bedrock", "openai", ""]),
    model=NAMES,
    agent=NAMES,
    outcome=st.sampled_from(["ok", "refused", "failed", "cancelled"]),
    usage=st.builds(Usage, **dict.fromkeys(USAGE_KINDS, COUNTS)),
    cost=st.one_of(st.none(), COUNTS),
    cache_saved=st.one_of(st.none(), st.integers(-10_000, 10_000)),
    api=st.sampled_from(["openai_chat", "anthropic_messages"]),
    status=st.sampled_from([200, 429, 500]),
    error=st.sampled_from(["", "rate_limit", "server_error"]),
    error_message=st.sampled_from(["", "no model 7", 'no model "a"', "no model 8", "broken"]),
    first_event_ms=st.one_of(st.none(), st.floats(0, 700_000), st.sampled_from([50.0, 79.0])),
    estimated=st.booleans(),
    duration_ms=st.floats(0, 200_000),
    tools=st.lists(st.sampled_from(["get_weather", "search", "\udcff", ""]), max_size=4).map(tuple),
)
BATCHES = st.lists(st.lists(CALLS, max_size=10), max_size=5)


def counted(condition):
    """Return the SQL expression that counts the rows for which a condition is true."""
    return f"coalesce(sum(CASE WHEN {condition} THEN 1 ELSE 0 END), 0)"


SUMMED = ", ".join([
    "count(*)", *[f"sum({name})" for name in USAGE_KINDS],
    "coalesce(sum(cost), 0)", counted("cost IS NULL"), "sum(estimated)", "coalesce(sum(cache_saved), 0)",
])  # fmt: skip
SUMMED_OF_SESSION = SUMMED.replace("count(*)", "count(*), " + counted("outcome <> 'ok'"))
DURATION = "milliseconds(duration_ms)"
"""SQL for a duration in whole milliseconds. It rounds halves to even, as Python does. SQLite's own function rounds them
up.
"""
OF_A_CALL = "identity, provider, CASE provider WHEN '' THEN '' ELSE model END, agent, api, status, outcome"
"""SQL columns that define a series. Stored sums are grouped by series. The model is empty if a call reached no
provider.
"""
OF_AN_AGENT = OF_A_CALL.replace("identity, ", "'', ")
OF_EVERYBODY = OF_A_CALL.replace("identity, ", "'', ").replace("agent, ", "'', ")
STARTS = {
    "month": "month_of(at)", "day": f"at - at % {DAY}", "hour": f"at - at % {HOUR}", "quarter": f"at - at % {QUARTER}",
}  # fmt: skip
"""SQL expressions for the start of the month, day, hour or quarter hour in which a call began."""
TABLES = (
    *FIGURE_TABLES, *AGENT_TABLES, *EVERYBODY_TABLES, "tools_quarter", "tools_day", "errors_quarter", "error_kinds", "health",
)  # fmt: skip


def month_of(at):
    """Return the start of the month that contains a time. Both are Unix times in milliseconds."""
    day = datetime.fromtimestamp(at / 1000, UTC)
    return round(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp() * 1000)


class InSqlite:
    """Writes batches of calls to a new SQLite store in memory, and yields its connection."""

    def examples(self, number):
        return settings(max_examples=examples(number))

    @contextmanager
    def stored(self, batches):
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.create_function("milliseconds", 1, round, deterministic=True)
            connection.create_function("month_of", 1, month_of, deterministic=True)
            migrate(connection, "memory")
            for batch in batches:
                write(connection, read(batch), JournalOffset())
            yield connection

    def close(self):
        """Do nothing, because the method `stored` closes each store after its use."""


class InPostgres:
    """Writes batches of calls to an empty PostgreSQL store, and yields the store's connection."""

    def examples(self, number):
        # each takes several times as long, and most faults are not the database's
        return settings(max_examples=examples(number // 8))

    def __init__(self):
        self.cluster = cluster()
        self.opened = []
        self.free = []

    def connection(self):
        # they need asyncpg
        from gateway.store.postgres.connection import PostgresConnection
        from gateway.store.postgres.store import prepare

        connection = PostgresConnection(self.cluster.address(), "writer")
        self.opened.append(connection)
        prepare(connection, "journal", "memory", is_shared=False)
        month = "CAST(extract(epoch FROM date_trunc(''month'', to_timestamp(at / 1000), ''UTC'')) * 1000 AS BIGINT)"
        rounding, values = "CAST(round(number) AS BIGINT)", "json_array_elements_text(CAST(list AS JSON))"
        for function, select in (
            ("milliseconds(number DOUBLE PRECISION) RETURNS BIGINT", rounding),
            ("month_of(at BIGINT) RETURNS BIGINT", month),
            ("json_each(list TEXT) RETURNS TABLE (value TEXT)", values),
        ):
            connection.execute(f"CREATE FUNCTION {function} LANGUAGE SQL AS 'SELECT {select}'")
        return connection

    @contextmanager
    def stored(self, batches):
        from gateway.store.postgres.writing import write

        connection = self.free.pop() if self.free else self.connection()
        connection.execute(
            f"TRUNCATE calls, sessions, series, error_kinds, health, {', '.join(TABLES)} RESTART IDENTITY CASCADE"
        )
        for batch in batches:
            write(connection, "journal", read(batch), JournalOffset(), is_shared=False)
        try:
            yield connection
        finally:
            self.free.append(connection)

    def close(self):
        for connection in self.opened:
            connection.close()


@pytest.fixture(scope="module", params=[InSqlite, InPostgres])
def database(request):
    with closing(request.param()) as opened:
        yield opened


def read(batch):
    """Encode some calls as journal entries, and decode them again. Return the decoded entries, as the store gets them."""
    return decode([encode(Entry(call=call)) for call in batch])[0]


def rows(connection, query):
    return sorted(connection.execute(query).fetchall(), key=repr)


def columns_of(connection, table):
    if isinstance(connection, sqlite3.Connection):
        return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    names = "SELECT column_name FROM information_schema.columns WHERE table_name = ? ORDER BY ordinal_position"
    return [name for (name,) in connection.execute(names, [table])]


def rolled_up(connection, table):
    """Return the rows of a table of sums, with the values of a series (caller, model and so on) in place of its number."""
    columns = columns_of(connection, table)
    if "series" not in columns:
        return rows(connection, f"SELECT {', '.join(name for name in columns if name != 'n')} FROM {table}")
    others = ", ".join(f"t.{name}" for name in columns if name not in {"time", "series", "kind"})
    kind = "JOIN error_kinds k ON k.n = t.kind" if "kind" in columns else ""
    what = f"t.time, identity, s.provider, model, agent, api, status, outcome, {others}"
    what += ", k.code, k.native, k.shape" if kind else ""
    return rows(connection, f"SELECT {what} FROM {table} t JOIN series s ON s.n = t.series {kind}")


def recounted(connection, start, of_a_call=OF_A_CALL):
    """Return the rows that a table of sums must have, computed from the table of calls.

    `start` is an SQL expression for the beginning of a row's unit of time, such as an hour.
    """
    figures = f"{SUMMED}, sum({DURATION}), {buckets('duration_ms', 'ok')}, {buckets('first_event_ms', None)}"
    return rows(
        connection,
        f"SELECT {start}, {of_a_call}, {figures} FROM calls GROUP BY 1, 2, 3, 4, 5, 6, 7, 8",
    )


def buckets(column, outcome):
    """Return the SQL expressions that count calls by the buckets of a histogram of `column`.

    If `outcome` is None, all calls with a value in this column are counted. If not, the calls with this outcome are
    counted.
    """
    bounds = (-1e300, *BOUNDS, 1e300)
    condition = f"outcome = '{outcome}'" if outcome else f"{column} IS NOT NULL"
    counts = [counted(f"{condition} AND {column} > {low} AND {column} <= {high}") for low, high in pairwise(bounds)]
    return ", ".join(f"{low} + {2**31} * {high}" for low, high in zip(counts[::2], counts[1::2], strict=True))


def recounted_uses(connection, milliseconds):
    """Return how often each tool was used, counted from the calls.

    There is a row for each tool, series (caller, model and so on) and period of `milliseconds` milliseconds.
    """
    return rows(
        connection,
        f"SELECT at - at % {milliseconds}, {OF_A_CALL}, t.value, count(*) FROM calls, json_each(tools) t "
        "GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9",
    )


def recounted_errors(connection):
    """Return the numbers of errors, counted from the calls.

    There is a row for each quarter hour, series (caller, model and so on) and error code.
    """
    return rows(
        connection,
        f"SELECT at - at % {QUARTER}, {OF_A_CALL}, error, count(*) FROM calls WHERE error <> '' AND outcome <> 'ok' "
        "GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9",
    )


def errors(connection):
    return rows(
        connection,
        "SELECT time, identity, s.provider, model, agent, api, status, outcome, code, sum(calls) FROM errors_quarter "
        "JOIN series s ON s.n = series JOIN error_kinds k ON k.n = kind GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9",
    )


def health(connection):
    return rows(connection, "SELECT provider, model, success_at, error_at FROM health")


def recounted_health(connection):
    last = "coalesce(max(CASE outcome WHEN '{}' THEN at END), -1)".format
    return rows(
        connection,
        f"SELECT provider, model, {last('ok')}, {last('failed')} FROM calls WHERE provider <> '' GROUP BY 1, 2",
    )


def sessions(connection):
    """Return the totals and times of each session. Columns that only repeat values of the session's last call are left
    out.
    """
    sums = ", ".join(
        ["calls", "failed", *USAGE_KINDS, "known_cost", "cost_unknown_calls", "estimated_calls", "cache_saved"]
    )
    return rows(connection, f"SELECT identity, id, {sums}, started_at, last_at FROM sessions")


def recounted_sessions(connection):
    return rows(
        connection,
        f"SELECT identity, session_id, {SUMMED_OF_SESSION}, min(at), max(at + {DURATION}) FROM calls WHERE session_id <> '' "
        "GROUP BY identity, session_id",
    )


def models(connection):
    return rows(
        connection,
        "SELECT s.identity, s.id, m.provider, m.model, m.last_at FROM session_models m JOIN sessions s ON m.session = s.n",
    )


def recounted_models(connection):
    return rows(
        connection,
        f"SELECT identity, session_id, provider, model, max(at + {DURATION}) FROM calls "
        "WHERE session_id <> '' AND provider <> '' GROUP BY 1, 2, 3, 4",
    )


def tools(connection):
    query = "SELECT s.identity, s.id, t.tool, t.calls FROM session_tools t JOIN sessions s ON t.session = s.n"
    return {(identity, name, tool): calls for identity, name, tool, calls in connection.execute(query)}


def recounted_tools(connection):
    counts = Counter()
    for identity, name, used in connection.execute("SELECT identity, session_id, tools FROM calls"):
        counts.update((identity, name, tool) for tool in json.loads(used) if name)
    return counts


def test_all_totals_equal_a_recount_of_the_calls(database):
    """Check that all stored totals equal a recount: usage, tool uses, errors, health, and sessions with their models
    and tools.

    One test checks all of them, because generating the calls takes most of the time.
    """

    @database.examples(80)
    @given(BATCHES)
    def check(batches):
        with database.stored(batches) as connection:
            for unit, start in STARTS.items():
                assert rolled_up(connection, f"figures_{unit}") == recounted(connection, start)
                assert rolled_up(connection, f"everybody_{unit}") == recounted(connection, start, OF_EVERYBODY)
            assert rolled_up(connection, "agents_day") == recounted(connection, STARTS["day"], OF_AN_AGENT)
            assert rolled_up(connection, "tools_quarter") == recounted_uses(connection, QUARTER)
            assert rolled_up(connection, "tools_day") == recounted_uses(connection, DAY)
            assert errors(connection) == recounted_errors(connection)
            assert health(connection) == recounted_health(connection)
            assert sessions(connection) == recounted_sessions(connection)
            assert models(connection) == recounted_models(connection)
            assert tools(connection) == recounted_tools(connection)

    check()


def test_sums_are_the_same_however_calls_are_split_into_batches(database):
    @database.examples(50)
    @given(st.lists(CALLS, max_size=25, unique_by=lambda call: call.id), st.data())
    def check(calls, data):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(calls)), max_size=6)))
        split = [calls[start:end] for start, end in zip([0, *cuts], [*cuts, len(calls)], strict=True)]
        with database.stored([calls]) as whole, database.stored(split) as parts:
            for table in TABLES:
                assert rolled_up(whole, table) == rolled_up(parts, table)
            for rows in (sessions, models, tools):
                assert rows(whole) == rows(parts)

    check()


def test_batches_that_come_again_change_nothing(database):
    @database.examples(50)
    @given(BATCHES)
    def check(batches):
        with database.stored(batches) as once, database.stored([*batches, *reversed(batches)]) as twice:
            for table in ("calls", *TABLES, "sessions"):
                assert rolled_up(once, table) == rolled_up(twice, table)
            for rows in (models, tools):
                assert rows(once) == rows(twice)

    check()


def test_invented_names_share_one_row_of_sums(database):
    """Check that refused calls of models that do not exist share one row of totals, while each call keeps its model's
    name.
    """
    made_up = [
        record(id=str(number), provider="", model=f"made-up-{number}", outcome="refused", cost=None)
        for number in range(100)
    ]
    with database.stored([made_up[:50], made_up[50:]]) as connection:
        for table in FIGURE_TABLES:
            assert rows(connection, f"SELECT provider, model, calls FROM {table} JOIN series ON n = series") == [
                ("", "", 100)
            ]
        assert rows(connection, "SELECT count(DISTINCT model) FROM calls") == [(100,)]


def test_of_calls_with_one_id_only_the_first_counts(database):
    """Check that of several calls with the same id only the first is stored and counted, within a batch and across
    batches.
    """
    first, second, other = record(id="a", cost=1), record(id="a", cost=2), record(id="b", cost=4)
    with (
        database.stored([[first, second, other]]) as together,
        database.stored([[first], [second, other], [other]]) as apart,
    ):
        for connection in (together, apart):
            assert rows(connection, "SELECT id, cost FROM calls") == [("a", 1), ("b", 4)]
            assert rows(connection, "SELECT calls, known_cost FROM figures_hour") == [(2, 5)]


def test_batches_of_all_sizes_need_few_statements():
    """Check that batches of many sizes need only few different SQL statements. A connection keeps each prepared
    statement in memory.
    """
    with closing(sqlite3.connect(":memory:")) as connection:
        migrate(connection, "memory")
        statements = set()
        connection.set_trace_callback(lambda text: statements.add(text.count("ada")))
        known = {}
        for size in (*range(1, 40), 64, 65, 511, 512, 513):
            wanted = [Series("ada", "p", f"m{number}", "a", "openai_chat", 200, "ok") for number in range(size)]
            numbers = series_numbers(connection, wanted)
            assert list(numbers) == wanted
            assert len(set(numbers.values())) == size
            assert known.items() <= numbers.items()
            known = numbers
    assert statements <= {0, *(2**power for power in range(10))}
