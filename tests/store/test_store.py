"""Tests of the protocol `Store`, which run with each store: SQLite and PostgreSQL."""

import pytest

from gateway.contract.flag import Part, Usage
from gateway.contract.record import Direct
from gateway.store.base import Ambiguous, BadCursor, JournalOffset, SessionQuery, UsageQuery
from gateway.store.entries import Balance, Entry, SentCall, Version
from gateway.store.reports.values import Span
from tests.helpers.records import NOON, record


@pytest.fixture
async def store(opened):
    return await opened()


async def test_pages_hold_every_session_once_newest_first(store):
    for number in range(7):
        store.put(record(id=str(number), session_id=f"s{number}", at=NOON + number // 2))
    await store.flush()
    seen, cursor = [], None
    while True:
        page = await store.sessions(SessionQuery(None, 3, cursor))
        seen += [row.id for row in page.rows]
        if (cursor := page.next) is None:
            break
    assert seen == ["s6", "s5", "s4", "s3", "s2", "s1", "s0"]


async def test_a_page_that_is_just_full_is_the_last_one(store):
    for number in range(3):
        store.put(record(id=str(number), session_id=f"s{number}"))
    await store.flush()
    assert (await store.sessions(SessionQuery(None, 3))).next is None


async def test_pages_of_calls_go_on_where_the_last_one_ended(store):
    for number in range(5):
        store.put(record(id=str(number), at=NOON + number))
    await store.flush()
    first = await store.calls("ada@example.com", "s1", 3)
    second = await store.calls("ada@example.com", "s1", 3, first.next)
    assert [row.id for row in first.rows + second.rows] == ["4", "3", "2", "1", "0"]
    assert second.next is None


async def test_a_caller_sees_own_rows_only(store):
    store.put(record(id="a"))
    store.put(record(id="b", identity="bob@example.com", session_id="s2"))
    await store.flush()
    assert [row.id for row in (await store.sessions(SessionQuery("bob@example.com", 10))).rows] == ["s2"]
    assert [row.id for row in (await store.calls("bob@example.com", None, 10)).rows] == ["b"]
    assert await store.session("bob@example.com", "s1") is None
    assert (await store.calls("bob@example.com", "s1", 10)).rows == ()


async def test_an_id_that_two_callers_use_is_ambiguous_until_one_is_named(store):
    store.put(record(id="a"))
    store.put(record(id="b", identity="bob@example.com", at=NOON + 1))
    await store.flush()
    with pytest.raises(Ambiguous) as error:
        await store.session(None, "s1")
    assert error.value.identities == ("bob@example.com", "ada@example.com")
    assert (await store.session("ada@example.com", "s1")).identity == "ada@example.com"


async def test_a_wrong_cursor_is_refused_before_anything_is_read(store):
    with pytest.raises(BadCursor):
        await store.sessions(SessionQuery(None, 10, "nonsense"))


async def test_a_call_that_is_delivered_again_counts_once(opened):
    for _ in range(2):
        store = await opened()
        store.put(record())
        store.put(record())
        await store.flush()
    store = await opened()
    assert (await store.session(None, "s1")).calls == 1
    assert [row.calls for row in await store.usage(UsageQuery())] == [1]


async def test_one_call_is_found_by_its_id_and_by_its_caller(store):
    store.put(record(id="a", charges={"daily:ada": 5}, extra={"web_search": 2}, tier="flex", node="n1"))
    await store.flush()
    stored = await store.call(None, "a")
    assert (stored.charges, stored.extra, stored.tier, stored.node) == (
        {"daily:ada": 5},
        {"web_search": 2},
        "flex",
        "n1",
    )
    assert await store.call("ada@example.com", "a") == stored
    assert await store.call("bob@example.com", "a") is None
    assert await store.call(None, "b") is None


async def test_the_last_balance_of_a_bucket_is_the_one_that_counts(store):
    await store.write([Entry(balances=(Balance("a", 5, 1, NOON), Balance("b", 7, 0, NOON)))], JournalOffset())
    await store.write(
        [Entry(balances=(Balance("a", 4, 2, NOON + 1),)), Entry(balances=(Balance("a", -3, 0, NOON + 2),))],
        JournalOffset(),
    )
    assert set(await store.balances()) == {Balance("a", -3, 0, NOON + 2), Balance("b", 7, 0, NOON)}


async def test_calls_expire_oldest_first_and_their_sums_stay(store):
    for number in range(10):
        store.put(record(id=str(number), session_id=f"s{number}", at=NOON + number))
    await store.flush()
    assert await store.expire(NOON + 6, 4) == 4
    assert await store.expire(NOON + 6, 4) == 2
    assert await store.expire(NOON + 6, 4) == 0
    assert [row.id for row in (await store.calls(None, None, 20)).rows] == ["9", "8", "7", "6"]
    assert [row.calls for row in await store.usage(UsageQuery())] == [10]


async def test_a_call_is_read_as_it_was_written(store):
    """Check that every field of a record is read as it was written. In the record, no field has its default value."""
    written = record(
        id="all",
        served_model="haiku",
        extra={"web_search": 2},
        tier="flex",
        geo="eu",
        node="n1",
        parts=(Part(model="haiku", usage=Usage(input=3)),),
        charges={"daily:ada": 5},
        cache_saved=-7,
        first_event_ms=None,
        auto_cached=True,
        error_message="no “model” 7",
        upstream_request_id="req-1",
        key="second",
        headers={"x-team": "search"},
        direct=Direct("GET", "/direct/openai/v1/files", 3, 120),
    )
    store.put(written)
    await store.flush()
    assert await store.call(None, "all") == written


async def test_the_offset_of_the_journal_is_kept(opened):
    store = await opened()
    assert store.start_offset == await store.offset() == JournalOffset(0, 0)
    await store.write([], JournalOffset(3, 7))
    assert await store.offset() == JournalOffset(3, 7)
    assert (await opened()).start_offset == JournalOffset(3, 7)


async def test_a_call_is_open_from_its_line_to_its_end(store):
    def sent(key, at, agent="curl"):
        return SentCall(key, "s1", at, "ada@example.com", "", "bedrock", "haiku", "a", "b", "generate", True, agent)

    opened = [sent("b", NOON + 1), sent("a", NOON), sent("c", NOON + 2)]
    await store.write([Entry(sent=call) for call in opened], JournalOffset(1, 1))
    assert [call.id for call in await store.open_calls()] == ["a", "b", "c"]
    again = sent("b", NOON + 1, agent="codex")
    ended = record(id="a", at=NOON)
    await store.write([Entry(sent=again), Entry(call=ended), Entry(sent=sent("d", NOON))], JournalOffset(1, 2))
    assert [(call.id, call.agent) for call in await store.open_calls()] == [
        ("d", "curl"),
        ("b", "codex"),
        ("c", "curl"),
    ]


async def test_a_version_of_the_configuration_can_come_twice(store):
    version = Entry(version=Version(NOON, "ada@example.com", "e1", ("providers.bedrock",)))
    for _ in range(2):
        await store.write([version, version], JournalOffset(1, 1))
    assert await store.offset() == JournalOffset(1, 1)


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({"model": "opus"}, ["s2"]),
        ({"provider": "openai", "model": "haiku"}, ["s1"]),
        ({"status": 429}, ["s3"]),
        ({"status_class": 4}, ["s3"]),
        ({"status_class": 2, "agent": "curl"}, ["s2", "s1"]),
        ({"outcome": "failed", "model": "opus"}, []),
    ],
)
async def test_sessions_are_found_by_their_calls(store, where, ids):
    for number, changes in enumerate(
        [
            {"provider": "openai", "model": "haiku"},
            {"model": "opus"},
            {"model": "haiku", "status": 429, "outcome": "failed"},
        ]
    ):
        store.put(record(id=str(number), session_id=f"s{number + 1}", at=NOON + number, agent="curl", **changes))
    await store.flush()
    assert [row.id for row in (await store.sessions(SessionQuery(None, 10, where=where))).rows] == ids


async def test_sessions_are_found_by_their_time(store):
    for number in range(4):
        store.put(record(id=str(number), session_id=f"s{number}", at=NOON + 900 * number, duration_ms=1000.0))
    await store.flush()
    page = await store.sessions(SessionQuery(None, 10, span=Span(NOON + 900, NOON + 2700)))
    assert [row.id for row in page.rows] == ["s2", "s1"]


async def test_a_session_has_the_models_and_tools_of_its_calls(store):
    for number, (model, tools) in enumerate([("opus", ("Read", "Bash")), ("haiku", ("Read",)), ("opus", ())]):
        store.put(record(id=str(number), model=model, tools=tools, at=NOON + number))
    await store.flush()
    session = await store.session(None, "s1")
    assert (session.models, session.tools) == (("opus", "haiku"), {"Read": 2, "Bash": 1})
    assert (await store.sessions(SessionQuery(None, 9))).rows == (session,)


async def test_brief_sessions_are_the_page_of_sessions(store):
    for number in range(9):
        model, identity = ("opus", "haiku")[number % 2], f"{number % 3}@example.com"
        store.put(record(id=str(number), session_id=f"s{number % 4}", model=model, identity=identity, at=NOON + number))
    store.put(record(id="refused", session_id="s9", provider="", outcome="refused", cost=None, at=NOON + 99))
    await store.flush()
    cursor, sizes = None, []
    for _ in range(3):
        asked = SessionQuery(None, 2, cursor, {"model": "opus"}, Span(NOON, NOON + 900))
        page, brief = await store.sessions(asked), await store.brief_sessions(asked)
        assert (brief.rows, brief.next) == (tuple(row.brief() for row in page.rows), page.next)
        sizes.append(len(page.rows))
        cursor = page.next
    assert sizes == [2, 2, 1]
    (refused,) = (await store.brief_sessions(SessionQuery(None, 1))).rows
    assert (refused.id, refused.providers, refused.models, refused.cost_unknown_calls) == ("s9", (), (), 1)


async def test_calls_are_found_by_their_fields(store):
    for number in range(4):
        store.put(record(id=str(number), at=NOON + number, stream=number % 2 == 0, status=200 + number))
    await store.flush()
    assert [row.id for row in (await store.calls(None, None, 10, where={"status": 203})).rows] == ["3"]
    assert [row.id for row in (await store.calls(None, None, 10, where={"stream": True})).rows] == ["2", "0"]


async def test_usage_is_sorted_by_the_bytes_of_names(store):
    for number, name in enumerate(["ä", "b", "B", "a", "_", "é"]):
        store.put(record(id=str(number), model=name))
    await store.flush()
    rows = await store.usage(UsageQuery(by=("model",)))
    assert [row.group["model"] for row in rows] == sorted(["ä", "b", "B", "a", "_", "é"], key=str.encode)


@pytest.mark.parametrize("name", ["\0", "a\0b", "\ud800", "?", "$1", "'\"", "{}", "\U0001f600"])
async def test_a_name_with_any_character_is_stored(store, name):
    """Check that a batch is stored although its names have characters that a database may refuse, and that the call is
    found by such a name.
    """
    store.put(record(model=name, tools=(name,), agent=name, error_message=name, outcome="failed", error="upstream"))
    await store.flush()
    assert (await store.session(None, "s1")).calls == 1
    (row,) = await store.usage(UsageQuery(by=("agent",)))
    # half of a surrogate pair cannot even be written to the journal
    known = name.replace("\ud800", "?")
    assert [call.id for call in (await store.calls(None, None, 9, where={"agent": known})).rows] == ["req_1"]
    assert row.group["agent"] == known or "\0" in name
