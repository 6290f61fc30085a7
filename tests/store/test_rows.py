"""Tests of rows of the SQLite store: each row is read as it was written, and every valid record is accepted."""

import json
import sqlite3
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.contract.flag import USAGE_KINDS, Usage
from gateway.store import calls as calls_module
from gateway.store import rows, writing
from gateway.store.base import BadCursor, JournalOffset, StoreFailed, rfc3339
from gateway.store.calls import record_of
from gateway.store.entries import Entry, decode, encode
from gateway.store.schema import MIGRATIONS, migrate
from tests.helpers.records import NOON, record


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, "memory")
    yield connection
    connection.close()


def test_long_lists_of_names_that_clients_choose_are_in_no_cache():
    before = calls_module._cached_json.cache_info().currsize
    for number in range(100):
        names = tuple(f"/messages/{number}/{at}/{'x' * 400}" for at in range(64))
        assert calls_module._json_list(names) == json.dumps(names, separators=(",", ":"))
    assert calls_module._cached_json.cache_info().currsize == before
    assert calls_module._json_list(("/a", "/b")) == '["/a","/b"]'
    assert calls_module._json_list(()) == "[]"
    assert calls_module._cached_json.cache_info().currsize <= before + 1


def write(connection, *records):
    entries, wrong = decode([encode(Entry(call=each)) for each in records])
    assert not wrong
    writing.write(connection, entries, JournalOffset())


def calls(connection):
    return [record_of(row) for row in connection.execute(rows.select_calls(), (100,))]


def sessions(connection):
    return [rows.session_of(row) for row in connection.execute(rows.select_sessions(), (100,))]


def test_a_record_comes_back_as_it_was(connection):
    write(connection, record())
    assert calls(connection) == [record()]


def test_unknown_values_come_back_as_unknown(connection):
    given = record(cost=None, first_event_ms=None, provider="", tools=(), dropped=())
    write(connection, given)
    assert calls(connection) == [given]


def test_a_session_adds_up_its_calls(connection):
    write(connection, record(id="a", duration_ms=1000.0))
    write(connection, record(id="b", at=NOON + 60, duration_ms=500.0, outcome="failed", cost=1, estimated=True))
    (session,) = sessions(connection)
    assert session.usage == Usage(200, 40, 14, 10, 6, 4)
    assert (session.calls, session.failed, session.estimated_calls) == (2, 1, 1)
    assert session.known_cost == 1_234_568
    assert (session.started_at, session.last_at) == (NOON, NOON + 60.5)


def test_out_of_order_calls_give_a_session_its_true_times(connection):
    """Check that a session has the right first and last time even if its calls are stored out of order."""
    write(connection, record(id="late", at=NOON + 60, agent="curl", duration_ms=0.0))
    write(connection, record(id="early", at=NOON, agent="codex", duration_ms=0.0))
    (session,) = sessions(connection)
    assert (session.started_at, session.last_at, session.agent) == (NOON, NOON + 60, "curl")


def test_models_and_providers_are_listed_once_with_the_last_used_first(connection):
    write(connection, record(id="a", model="opus", provider="us"))
    write(connection, record(id="b", model="haiku", provider="eu", at=NOON + 1))
    write(connection, record(id="c", model="opus", provider="eu", at=NOON + 2))
    (session,) = sessions(connection)
    assert session.models == ("opus", "haiku")
    assert session.providers == ("eu", "us")


def test_a_refused_call_counts_in_its_session_without_a_model(connection):
    """Check that a refused call is counted in its session, but does not set the session's model or provider."""
    write(connection, record(id="a"))
    write(connection, record(id="b", provider="", model="nonsense", outcome="refused", at=NOON + 1))
    (session,) = sessions(connection)
    assert (session.calls, session.failed, session.provider) == (2, 1, "bedrock")
    assert session.models == (record().model,)


def test_a_call_without_a_session_is_kept_and_makes_none(connection):
    write(connection, record(session_id=""))
    assert len(calls(connection)) == 1
    assert sessions(connection) == []


def test_the_same_call_counts_once(connection):
    for _ in range(3):
        write(connection, record())
    assert [session.calls for session in sessions(connection)] == [1]


def test_equal_ids_of_two_callers_are_two_sessions(connection):
    write(connection, record(id="a"))
    write(connection, record(id="b", identity="bob@example.com"))
    assert {(session.identity, session.calls) for session in sessions(connection)} == {
        ("ada@example.com", 1),
        ("bob@example.com", 1),
    }


@pytest.mark.parametrize(
    ("costs", "expected", "unknown"),
    [
        ([5, 7], 12, 0),
        ([5, None], 5, 1),
        ([None, None], None, 2),
        ([0, None], None, 1),  # a refused call was free, which says nothing of the other
        ([0, 0], 0, 0),
    ],
)
def test_a_sessions_cost_is_what_is_known_and_null_when_nothing_is(connection, costs, expected, unknown):
    for number, cost in enumerate(costs):
        write(connection, record(id=str(number), cost=cost))
    (session,) = sessions(connection)
    assert (session.cost, session.cost_unknown_calls) == (expected, unknown)


_TEXT = st.text(st.characters(), max_size=3000)  # with half surrogates and NUL, as a header or a body may hold them


@settings(max_examples=60, deadline=None)
@given(
    texts=st.tuples(_TEXT, _TEXT, _TEXT, _TEXT),
    numbers=st.lists(st.integers(-(2**70), 2**70), min_size=7, max_size=7),
    lists=st.lists(_TEXT, max_size=3),
)
def test_nothing_that_a_client_or_provider_makes_up_is_refused(texts, numbers, lists):
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, "memory")
    usage = Usage(**dict(zip(USAGE_KINDS, numbers, strict=False)))
    given = record(usage=usage, cost=numbers[-1], tools=tuple(lists), dropped=tuple(lists))
    given = structs.replace(given, model=texts[0], stop=texts[1], error_native=texts[2], identity=texts[3])
    for number in range(3):
        write(connection, structs.replace(given, id=str(number)))
    assert len(calls(connection)) == 3
    assert len(sessions(connection)) == 1
    connection.close()


@given(milliseconds=st.integers(0, 250_000_000_000_000))
def test_a_time_is_written_in_utc_with_milliseconds(milliseconds):
    at = milliseconds / 1000
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    assert rfc3339(at) == text.replace("+00:00", "Z")


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "1.", ".1", "1.2.3", "-1.2", "١.٢", "1." + "9" * 30, "1.1e5", "' OR 1"]
)
def test_a_cursor_that_no_page_gave_out_is_refused(cursor):
    with pytest.raises(BadCursor):
        rows.parse_cursor(cursor)


def test_a_file_is_migrated_once():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, "memory")
    migrate(connection, "memory")
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    connection.close()


def test_a_file_of_a_newer_release_is_not_touched():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA user_version = 999")
    with pytest.raises(StoreFailed, match="schema is version 999"):
        migrate(connection, "memory")
    connection.close()
