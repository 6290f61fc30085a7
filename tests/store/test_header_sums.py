"""Tests of the stored sums for values of recorded headers.

Each report about calls with a header must equal the report of a store that has only these calls.
"""

from contextlib import closing
from dataclasses import replace
from random import Random
from zoneinfo import ZoneInfo

import msgspec
import pytest

from gateway.store import few_calls, header_index, header_sums, writing
from gateway.store.base import JournalOffset, TooManyCalls, UsageQuery
from gateway.store.entries import Entry
from gateway.store.examine import examine_database
from gateway.store.file import connect, prepare
from gateway.store.header_sums import MAX_PURGED, TABLES
from gateway.store.repair import rebuild_database, rebuild_sums
from gateway.store.reports.values import DIMENSIONS, MEASURES, Selection
from gateway.web.reports.ranges import preset_range
from tests.helpers.records import NOON, Kept, record
from tests.store.test_reports import NOW, ZONES, one

TEAMS = ("alpha", "beta", "")
FILE = "irisgate.db"
DAY = 86_400


def with_headers(number, chance):
    """Return a random call, which may have one, both or none of two headers. The header `x-team` has few different
    values, and `x-trace` has many.
    """
    headers = {}
    if chance.random() < 0.7:
        headers["x-team"] = chance.choice(TEAMS)
    if chance.random() < 0.5:
        headers["x-trace"] = f"t{chance.randrange(100)}"
    return msgspec.structs.replace(one(number, chance), headers=headers)


@pytest.fixture(scope="module")
def calls():
    chance = Random(5)
    return [with_headers(number, chance) for number in range(400)]


async def fill(store, calls):
    for number, call in enumerate(calls):
        store.put(call)
        if number % 100 == 0:
            await store.flush()
    await store.flush()


def has(call, term):
    name, colon, value = term.partition(":")
    return call.headers.get(name) == value if colon else name in call.headers


async def everything(reports, wanted, header, **equal):
    """Return the results of all reports over a range of time."""
    selection = Selection(span=wanted.span, header=header, **equal)
    buckets = wanted.buckets()
    errors = await reports.errors(selection, buckets, 100)
    return {
        "summaries": await reports.summaries(selection, buckets),
        "whole": await reports.summaries(selection, [wanted.span]),
        "people": await reports.people(selection, buckets),
        "rows": [sorted(await reports.rows(selection, by), key=lambda row: row.name) for by in DIMENSIONS],
        "ranking": [list(await reports.ranking(selection, "user", measure)) for measure in MEASURES],
        "stacks": [await reports.stack(selection, buckets, by, "cost") for by in DIMENSIONS],
        "errors": errors.rows,
        # the text and the example of a message are those of its newest error in the whole store
        "messages": sorted((row.code, row.native, row.provider, row.calls) for row in errors.messages),
        "models": [
            (row.provider, row.model, row.figures, row.duration, row.first_event, row.errors, row.calls)
            for row in (await reports.models(selection, buckets)).rows
        ],
        "tools": await reports.tools(selection, 100),
    }  # fmt: skip


RANGES = list(zip(ZONES[1:], ("30d", "yesterday", "90d"), strict=True))
"""Pairs of a time zone and a range of time. The tests try each pair."""
TERMS = {
    # with the ranges of the reports that are compared
    "x-team:alpha": RANGES,
    "x-team": RANGES[:1],
    "x-team:": RANGES[1:2],
    "x-team:none": RANGES[2:],
    "x-none": RANGES[:1],
}


@pytest.mark.parametrize(("values", "terms"), [(9, TERMS), (0, ["x-team:alpha"])], ids=["sums", "calls"])
async def test_reports_about_a_header_are_those_of_its_calls(tmp_path, opened, monkeypatch, calls, values, terms):
    """Check that each report about calls with a header equals the report of a store that has only these calls.

    If there are stored sums for the header's value, the report is computed from them. If not, it is computed from the
    calls.
    """
    monkeypatch.setattr(header_index, "MAX_VALUES", values)
    store = await opened()
    await fill(store, calls)
    for number, term in enumerate(terms):
        others = Kept(tmp_path / f"others{number}.db")
        await fill(others, [call for call in calls if has(call, term)])
        for zone, preset in TERMS[term]:
            wanted = preset_range(preset, ZoneInfo(zone), NOW)
            for equal in ({}, {"user": "ada@example.com", "status": (400, 599)}):
                expected = await everything(others.reports, wanted, None, **equal)
                assert await everything(store.reports, wanted, term, **equal) == expected
        for by in ((), ("user", "model"), ("provider", "day"), ("hour", "agent")):
            usage = UsageQuery(by=by, since=NOON - 40 * DAY, until=NOON + 2 * DAY, provider="openai" if by else None)
            assert await store.usage(replace(usage, header=term)) == await others.usage(usage)
        await others.close()


async def test_more_values_than_have_sums_are_answered_from_their_calls(opened, monkeypatch):
    """Check the reports about a header with more values than the store keeps sums for.

    A report about a value without sums is computed from the calls with this value. It is refused if there are too many
    of them.
    """
    monkeypatch.setattr(few_calls, "MAX_CALLS", 2)
    store = await opened()
    for number in range(10_000):
        store.put(record(id=f"c{number}", at=NOON + number, headers={"x-trace": str(number)}))
    for number in range(3):
        store.put(record(id=f"d{number}", at=NOON + 20_000 + number, headers={"x-trace": "9999"}))
    await store.flush()
    wanted = preset_range("7d", ZoneInfo("UTC"), NOON + 86_400)

    async def count(term):
        (summary,) = await store.reports.summaries(Selection(span=wanted.span, header=term), [wanted.span])
        return summary.figures.calls

    assert [await count(term) for term in ("x-trace", "x-trace:7", "x-trace:1000", "x-trace:9998")] == [10_003, 1, 1, 1]
    with pytest.raises(TooManyCalls, match=r'"x-trace:9999" has more than 2 calls .* first 1000 values of x-trace'):
        await count("x-trace:9999")
    with pytest.raises(TooManyCalls, match="x-trace:9999"):
        await store.usage(UsageQuery(header="x-trace:9999"))
    assert [row.calls for row in await store.usage(UsageQuery(header="x-trace:9998"))] == [1]
    page = await store.calls(None, None, 10, where={"header": "x-trace:9999"})
    assert [row.id for row in page.rows] == ["d2", "d1", "d0", "c9999"]
    assert len(await store.reports.header_terms(None, ["x-trace"], 10_000)) == 1_001
    assert await store.reports.header_terms(None, ["x-trace"], 2) == ("x-trace", "x-trace:0", "x-trace:1")


async def test_what_expires_takes_its_values_along(opened):
    store = await opened()
    for number in range(3):
        store.put(record(id=f"c{number}", at=NOON + number * 40 * 86_400, headers={"x-team": f"t{number}"}))
    await store.flush()
    assert await store.reports.header_terms(None, ["x-team"], 9) == ("x-team", "x-team:t0", "x-team:t1", "x-team:t2")
    # in PostgreSQL, a month is dropped whole
    for days, left in ((35, ("x-team:t1", "x-team:t2")), (200, ())):
        for _ in range(3):
            await store.expire(NOON + days * 86_400, 100)
        assert await store.reports.header_terms(None, ["x-team"], 9) == ("x-team", *left)
    store.put(record(id="new", headers={"x-team": "t0"}))
    await store.flush()
    wanted = preset_range("7d", ZoneInfo("UTC"), NOON + 86_400)
    (summary,) = await store.reports.summaries(Selection(span=wanted.span, header="x-team:t0"), [wanted.span])
    assert summary.figures.calls == 1


def written(path, calls):
    prepare(path)
    connection = connect(path)
    writing.write(connection, [Entry(call=call) for call in calls], JournalOffset())
    return closing(connection)


def sizes(connection):
    return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}


def content(connection):
    """Return a dict from each table of sums by header to its rows. In the rows, texts stand in place of the numbers of
    headers and series.
    """
    return {
        table: sorted(
            (text, *row)
            for text, *row in connection.execute(
                f"SELECT t.term, s.*, f.* FROM {table} f JOIN header_terms t ON t.n = f.term JOIN series s ON s.n = series"
            )
        )
        for table in TABLES
    }


def test_a_value_is_forgotten_at_once_and_its_sums_little_by_little(tmp_path):
    calls = [record(id=f"c{n}", at=NOON + 900 * n, headers={"x-team": "alpha"}) for n in range(MAX_PURGED + 5)]
    with written(tmp_path / FILE, calls) as connection:
        assert writing.expire(connection, NOON + 900 * 10_000, 10_000) == len(calls)
        terms = [term for (term,) in connection.execute("SELECT term FROM header_terms")]
        assert terms
        assert not any("x-team" in term for term in terms)
        assert sizes(connection)["header_figures_quarter"] == 10
        # the value comes back, and has nothing of before
        writing.write(connection, [Entry(call=record(id="new", headers={"x-team": "alpha"}))], JournalOffset())
        writing.expire(connection, NOON - 1, 1)
        assert sizes(connection)["header_figures_quarter"] == 2
        assert {term for (term,) in connection.execute("SELECT term FROM header_terms")} == {"x-team", "x-team:alpha"}


def test_a_place_becomes_free_for_another_value(tmp_path, monkeypatch):
    monkeypatch.setattr(header_index, "MAX_VALUES", 1)
    with written(tmp_path / FILE, [record(id="a", headers={"x-team": "alpha"})]) as connection:
        for key in ("b", "c"):
            call = record(id=key, at=NOON + 100, headers={"x-team": key})
            writing.write(connection, [Entry(call=call)], JournalOffset())
            writing.expire(connection, NOON + 50, 10)
        terms = connection.execute("SELECT term FROM header_terms WHERE has_sums AND term LIKE '%:%'").fetchall()
        assert terms == [("x-team:c",)]


def test_what_expires_leaves_no_name_of_a_tool_and_no_error(tmp_path):
    old = record(id="a", tools=("Bash",), outcome="failed", error="x", headers={"x-team": "alpha"})
    new = record(id="b", at=NOON + 3 * 86_400, tools=(), headers={"x-team": "alpha"})
    with written(tmp_path / FILE, [old, new]) as connection:
        before = sizes(connection)
        assert [before[f"header_{name}"] for name in ("tools_quarter", "tools_day", "errors_quarter")] == [2, 2, 2]
        for _ in range(3):
            writing.expire(connection, NOON + 2 * 86_400, 10)
        after = sizes(connection)
        assert [after[f"header_{name}"] for name in ("tools_quarter", "tools_day", "errors_quarter")] == [0, 0, 0]
        # the sums stay as long as a call has the value
        assert after["header_figures_quarter"] == before["header_figures_quarter"] == 4


@pytest.mark.parametrize("table", [*TABLES, "header_terms", "call_headers"])
def test_lost_sums_are_found_and_counted_again(tmp_path, calls, table):
    some = calls[:60]
    with written(tmp_path / FILE, some) as connection:
        before = content(connection)
        assert all(before.values())
        connection.execute(f"DELETE FROM {table}")
    assert examine_database(tmp_path / FILE).wrong_sums > 0
    rebuild_sums(tmp_path / FILE)
    with closing(connect(tmp_path / FILE)) as connection:
        after = content(connection)
    assert examine_database(tmp_path / FILE).wrong_sums == 0
    # new terms may have other numbers
    number = len(("term", "n", "identity", "provider", "model", "agent", "api", "status", "outcome"))
    assert {name: sorted(row[:number] + row[number + 1 :] for row in rows) for name, rows in after.items()} == {
        name: sorted(row[:number] + row[number + 1 :] for row in rows) for name, rows in before.items()
    }


def test_a_rebuilt_database_has_the_sums_of_headers(tmp_path, calls):
    with written(tmp_path / FILE, calls[:60]) as connection:
        before = content(connection)
    (tmp_path / "aside").mkdir()
    rebuild_database(tmp_path / FILE, tmp_path / "aside")
    with closing(connect(tmp_path / FILE)) as connection:
        assert content(connection) == before
    assert examine_database(tmp_path / FILE).wrong_sums == 0


def test_calls_without_headers_write_nothing_of_them(tmp_path):
    with written(tmp_path / FILE, [record()]) as connection:
        assert set(sizes(connection).values()) == {0}
        assert header_sums.terms_with_wrong_sums(connection) == set()
