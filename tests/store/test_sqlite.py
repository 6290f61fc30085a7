"""The SQLite store as the gateway uses it: a real file, several threads, and files that cannot be read or written."""

import sqlite3
import stat
from contextlib import closing

import pytest

from gateway.store import file
from gateway.store.base import Ambiguous, BadCursor, JournalOffset, StoreFailed, UsageQuery
from gateway.store.entries import Balance, Entry
from gateway.store.sqlite import SqliteStore
from tests.helpers.records import NOON, Kept, record


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "irisgate.db"


@pytest.fixture
async def store(path):
    store = Kept(path)
    yield store
    await store.close()


async def test_pages_hold_every_session_once_newest_first(store):
    for number in range(7):
        store.put(record(id=str(number), session_id=f"s{number}", at=NOON + number // 2))
    await store.flush()
    seen, cursor = [], None
    while True:
        page = await store.sessions(None, 3, cursor)
        seen += [row.id for row in page.rows]
        if (cursor := page.next) is None:
            break
    assert seen == ["s6", "s5", "s4", "s3", "s2", "s1", "s0"]


async def test_a_page_that_is_just_full_is_the_last_one(store):
    for number in range(3):
        store.put(record(id=str(number), session_id=f"s{number}"))
    await store.flush()
    assert (await store.sessions(None, 3)).next is None


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
    assert [row.id for row in (await store.sessions("bob@example.com", 10)).rows] == ["s2"]
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


async def test_a_wrong_cursor_is_refused_before_the_file_is_read(store):
    with pytest.raises(BadCursor):
        await store.sessions(None, 10, "nonsense")


async def test_a_call_that_is_delivered_again_counts_once(path):
    for _ in range(2):
        store = Kept(path)
        store.put(record())
        store.put(record())
        await store.flush()
        await store.close()
    store = Kept(path)
    assert (await store.session(None, "s1")).calls == 1
    assert [row.calls for row in await store.usage(UsageQuery())] == [1]
    await store.close()


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


async def test_the_file_is_nobody_elses_to_read(store, path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_failed_batch_leaves_nothing_and_can_be_repeated(store, path):
    """Check that a batch that cannot be written leaves no rows, and can be written later."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreFailed, match="locked"):
        await store.write([Entry(call=record())], JournalOffset(3, 7))
    other.execute("ROLLBACK")
    other.close()
    assert (await store.calls(None, None, 10)).rows == ()
    await store.write([Entry(call=record())], JournalOffset(3, 7))
    assert len((await store.calls(None, None, 10)).rows) == 1
    again = Kept(path)
    assert again.start_offset == JournalOffset(3, 7)
    await again.close()


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


async def test_a_file_that_is_no_database_is_told_at_the_start(path):
    path.parent.mkdir()
    path.write_bytes(b"this is no database, and long enough to be looked at" * 100)
    with pytest.raises(StoreFailed, match="file is not a database"):
        SqliteStore(path)


async def test_a_folder_that_cannot_be_made_is_told_at_the_start(tmp_path):
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(StoreFailed, match="cannot be opened"):
        SqliteStore(tmp_path / "state" / "irisgate.db")


async def test_a_log_that_grew_under_a_long_reader_shrinks_when_that_one_is_done(path, monkeypatch):
    monkeypatch.setattr(file, "WAL_BYTES", 1_000_000)
    store = Kept(path)
    wal = path.with_name("irisgate.db-wal")

    async def put(batch):
        for number in range(2000):
            store.put(record(id=f"{batch}.{number}"))
        await store.flush()

    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM calls").fetchone()
        for batch in range(30):
            await put(batch)
        grown = wal.stat().st_size
        assert grown > 20_000_000
        reader.execute("COMMIT")
    for batch in range(30, 34):
        await put(batch)
    assert wal.stat().st_size < grown / 2
    await store.close()


def test_a_file_of_a_later_release_stays_byte_for_byte_as_it_is(path):
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (one)")
        connection.execute("PRAGMA user_version = 999")
    before = path.read_bytes()
    with pytest.raises(StoreFailed, match="schema is version 999"):
        file.prepare(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
