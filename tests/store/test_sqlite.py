"""The SQLite store as the gateway uses it: a real file, its threads, and files that refuse."""

import sqlite3
import stat
from time import monotonic, sleep

import orjson
import pytest

from gateway.store.base import Ambiguous, BadCursor, StoreFailed
from gateway.store.sqlite import SqliteStore
from tests.records import NOON, logger, record


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "irisgate.db"


@pytest.fixture
async def store(path):
    log, _ = logger()
    store = SqliteStore(path, log)
    yield store
    await store.close()


def events(out):
    sleep(0.05)  # the log has a thread of its own
    return [orjson.loads(line)["event"] for line in out.getvalue().splitlines()]


async def test_a_record_can_be_read_well_within_a_second_without_a_flush(store):
    store.put(record())
    until = monotonic() + 0.5
    while not (await store.sessions(None, 10)).rows:
        assert monotonic() < until, "not written in time"
    assert (await store.calls(None, "s1", 10)).rows == (record(),)


async def test_put_takes_no_time_on_the_loop(store):
    records = [record(id=str(number)) for number in range(2000)]
    started = monotonic()
    for row in records:
        store.put(row)
    assert (monotonic() - started) / len(records) < 100e-6
    await store.flush()
    assert (await store.session(None, "s1")).calls == 2000


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


async def test_records_outlive_the_process_that_wrote_them(path):
    log, _ = logger()
    first = SqliteStore(path, log)
    first.put(record())
    await first.close()
    second = SqliteStore(path, log)
    second.put(record())  # delivered again, counted once
    await second.flush()
    assert (await second.session(None, "s1")).calls == 1
    await second.close()


async def test_closing_writes_all_that_was_put(path):
    log, _ = logger()
    store = SqliteStore(path, log)
    for number in range(1500):
        store.put(record(id=str(number)))
    await store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (1500,)
    connection.close()


async def test_the_file_is_nobody_elses_to_read(store, path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_locked_file_delays_records_and_loses_none(path):
    log, out = logger()
    store = SqliteStore(path, log, close_seconds=0.2)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.put(record())
    with pytest.raises(StoreFailed, match="1 records could not be written yet"):
        await store.flush()
    while "store.write_failed" not in events(out):
        pass
    store.put(record(id="req_2"))
    other.execute("ROLLBACK")
    other.close()
    while "store.recovered" not in events(out):
        pass
    assert (await store.session(None, "s1")).calls == 2
    await store.close()


async def test_records_beyond_the_bound_are_counted_as_lost_and_never_raise(path):
    log, out = logger()
    store = SqliteStore(path, log, max_pending=2, close_seconds=0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for number in range(5):
        store.put(record(id=str(number)))
    assert events(out).count("store.full") == 1
    await store.close()
    other.close()
    assert "store.records_lost" in events(out)
    (lost,) = [line for line in map(orjson.loads, out.getvalue().splitlines()) if line["event"] == "store.records_lost"]
    assert lost["lost"] == 5


async def test_a_file_that_is_no_database_is_told_at_the_start(path):
    path.parent.mkdir()
    path.write_bytes(b"this is no database, and long enough to be looked at" * 100)
    with pytest.raises(StoreFailed, match="file is not a database"):
        SqliteStore(path, logger()[0])


async def test_a_folder_that_cannot_be_made_is_told_at_the_start(tmp_path):
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(StoreFailed, match="cannot be opened"):
        SqliteStore(tmp_path / "state" / "irisgate.db", logger()[0])
