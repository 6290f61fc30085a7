"""Tests of the index of calls and sessions by the values of recorded headers.

A search with the index must find the same as a search through all calls.
"""

import sqlite3
from contextlib import closing
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.store import header_index, rows, writing
from gateway.store.base import JournalOffset, SessionQuery
from gateway.store.calls import record_of
from gateway.store.entries import Entry
from gateway.store.examine import examine_database
from gateway.store.file import connect, prepare
from gateway.store.header_index import RARE, missing_headers
from gateway.store.repair import rebuild_database, rebuild_sums
from gateway.store.schema import MIGRATIONS, migrate
from tests.helpers.records import NOON, Kept, record

CALLS = [
    record(id="a", at=NOON, session_id="s1", headers={"x-team": "alpha"}),
    record(id="b", at=NOON + 1, session_id="s1", headers={"x-team": "beta", "x-project": ""}, model="other"),
    record(id="c", at=NOON + 1, session_id="s2", headers={"x-team": "alpha"}, identity="bob@example.com"),
    record(id="d", at=NOON + 2, session_id="", headers={"x-team": "alpha:x"}),
    record(id="e", at=NOON + 3, session_id="s3"),
]


@pytest.fixture
async def store(opened):
    kept = await opened()
    for call in CALLS:
        kept.put(call)
    await kept.flush()
    return kept


async def ids(store, term, identity=None, session=None, **where):
    page = await store.calls(identity, session, 10, where={"header": term, **where})
    return "".join(row.id for row in page.rows)


CALLS_OF = [
    # term, further conditions, ids of the calls with the newest first
    ("x-team", {}, "dcba"),
    ("x-team:alpha", {}, "ca"),
    ("x-team:alpha:x", {}, "d"),
    ("x-team:", {}, ""),
    ("x-project:", {}, "b"),
    ("x-project", {}, "b"),
    ("x-nothing", {}, ""),
    ("x-team:ALPHA", {}, ""),
    ("x-team:alpha", {"identity": "bob@example.com"}, "c"),
    ("x-team:beta", {"identity": "bob@example.com"}, ""),
    ("x-team", {"session": "s1"}, "ba"),
    ("x-team:beta", {"session": "s1"}, "b"),
    ("x-team", {"model": "other"}, "b"),
    ("x-team:alpha", {"model": "other"}, ""),
]


@pytest.mark.parametrize("rare", [RARE, 1], ids=["the calls of the term", "the calls of the caller"])
async def test_calls_are_those_with_the_header_newest_first(store, monkeypatch, rare):
    monkeypatch.setattr(header_index, "_IS_RARE", header_index._IS_RARE.replace(str(RARE), str(rare)))
    found = [(term, options, await ids(store, term, **options)) for term, options, _ in CALLS_OF]
    assert found == CALLS_OF


SESSIONS_OF = [
    # term, identity, further conditions, sessions
    ("x-team", None, {}, {"s1", "s2"}),
    ("x-team:alpha", None, {}, {"s1", "s2"}),
    ("x-team:beta", None, {}, {"s1"}),
    ("x-team:alpha", "bob@example.com", {}, {"s2"}),
    ("x-team:none", None, {}, set()),
    ("x-team:beta", None, {"model": "other"}, {"s1"}),
    ("x-team:alpha", None, {"model": "other"}, set()),
    ("x-team", None, {"outcome": "ok"}, {"s1", "s2"}),
    ("x-team", None, {"outcome": "failed"}, set()),
]


async def test_sessions_are_those_of_which_one_call_has_it_all(store):
    async def found(term, identity, where):
        page = await store.sessions(SessionQuery(identity, 10, where={"header": term, **where}))
        return {session.id for session in page.rows}

    assert [(*asked, await found(*asked)) for *asked, _ in SESSIONS_OF] == SESSIONS_OF


@pytest.mark.parametrize("identity", [None, "ada@example.com"])
async def test_pages_of_calls_follow_each_other(store, identity):
    for number in range(7):
        store.put(record(id=f"p{number}", at=NOON + 10, headers={"x-team": "gamma"}))
    await store.flush()
    seen, cursor = [], None
    while True:
        page = await store.calls(identity, None, 3, cursor, {"header": "x-team:gamma"})
        seen += [row.id for row in page.rows]
        if (cursor := page.next) is None:
            break
    assert seen == [f"p{number}" for number in reversed(range(7))]


async def test_a_call_that_is_written_twice_is_indexed_once(store):
    store.put(CALLS[0])
    store.put(record(id="a", headers={"x-team": "another"}))
    store.put(record(id="f", headers={"x-team": "alpha"}))
    await store.flush()
    assert await ids(store, "x-team:alpha") == "cfa"
    assert await ids(store, "x-team:another") == ""


TABLES = ("header_terms", "call_headers", "session_headers")


def counts_of(connection):
    return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]


def counts(path):
    with closing(sqlite3.connect(path)) as connection:
        return counts_of(connection)


async def test_what_expires_takes_its_values_along(store, tmp_path):
    counted = partial(store._current.run, counts_of)
    assert await counted() == [6, 10, 7]
    assert await store.expire(NOON + 2, 100) == 3
    # a session is stored as long as its last reply
    assert await counted() == [2, 2, 2]
    assert await ids(store, "x-team") == "d"
    await store.expire(NOON + 100, 100)
    assert await counted() == [0, 0, 0]
    if (tmp_path / "irisgate.db").exists():
        assert b"alpha" not in (tmp_path / "irisgate.db").read_bytes()


async def test_a_store_of_before_has_no_headers_and_gets_new_ones(tmp_path):
    path = tmp_path / "irisgate.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statements in MIGRATIONS[:10]:
            for statement in statements:
                connection.execute(statement)
        connection.execute("PRAGMA user_version = 10")
        old = dict(zip(rows.CALL_COLUMNS, writing.call_row(record(id="old")), strict=True))
        present = [name for _, name, *_ in connection.execute("PRAGMA table_info(calls)") if name in old]
        assert "headers" not in present
        columns, marks = ", ".join(present), ", ".join("?" for _ in present)
        connection.execute(f"INSERT INTO calls ({columns}) VALUES ({marks})", [old[name] for name in present])
    store = Kept(path)
    store.put(record(id="new", headers={"x-team": "alpha"}))
    await store.flush()
    page = await store.calls(None, None, 10)
    assert {row.id: dict(row.headers) for row in page.rows} == {"old": {}, "new": {"x-team": "alpha"}}
    assert await ids(store, "x-team") == "new"
    await store.close()


@pytest.fixture
def path(tmp_path):
    """Return the path of a store that has the calls `CALLS`. No process uses the store."""
    prepare(tmp_path / "irisgate.db")
    with closing(connect(tmp_path / "irisgate.db")) as connection:
        writing.write(connection, [Entry(call=call) for call in CALLS], JournalOffset())
    return tmp_path / "irisgate.db"


@pytest.mark.parametrize("table", [*TABLES])
def test_a_lost_index_is_found_and_made_again(path, table):
    before = counts(path)
    assert examine_database(path).wrong_sums == 0
    with closing(connect(path)) as connection:
        connection.execute(f"DELETE FROM {table}")
    if table != "session_headers":
        assert examine_database(path).wrong_sums == 5
    else:
        with closing(connect(path)) as connection:
            connection.execute("DELETE FROM call_headers")
    rebuild_sums(path)
    assert (examine_database(path).state, examine_database(path).wrong_sums) == ("good", 0)
    assert counts(path) == before


def test_a_rebuilt_database_has_the_index(path, tmp_path):
    before = counts(path)
    (tmp_path / "aside").mkdir()
    rebuild_database(path, tmp_path / "aside")
    assert counts(path) == before
    assert examine_database(path).wrong_sums == 0


NAMES = st.sampled_from(["x-a", "x-b", "x-ab"])
VALUES = st.sampled_from(["", "1", "2", ":", "a:1", '"', "é", "*"])
ALL_TERMS = [dict.fromkeys(["x-a", "x-b", "x-ab"], value) for value in ("", "1", "2", ":", "a:1", '"', "é", "*")]


@settings(max_examples=60, deadline=None)
@example(ALL_TERMS, "x-a", None)
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=12), NAMES, st.none() | VALUES)
def test_the_index_finds_what_reading_every_call_finds(headers, name, value):
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, "memory")
    calls = [record(id=f"c{number}", at=NOON + number, headers=each) for number, each in enumerate(headers)]
    writing.write(connection, [Entry(call=call) for call in calls], JournalOffset())
    term = name if value is None else f"{name}:{value}"
    query = rows.select_calls_of_term()
    found = [record_of(row) for row in connection.execute(query, (term, 100))]
    assert found == [
        call for call in calls[::-1] if (call.headers.get(name) == value if value is not None else name in call.headers)
    ]
    assert missing_headers(connection) == 0
    assert writing.expire(connection, NOON + 1000, 1000) == len(calls)
    # a transaction forgets 20 terms at most, and there are 27
    assert [writing.expire(connection, NOON + 1000, 1000) for _ in range(2)] == [0, 0]
    assert [connection.execute(f"SELECT count(*) FROM {table}").fetchone() for table in TABLES] == [(0,)] * 3
    connection.close()
