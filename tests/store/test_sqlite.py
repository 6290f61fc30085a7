"""Tests of the SQLite store as the gateway uses it: a real file, several threads, and files that cannot be read or
written.
"""

import sqlite3
import stat
from contextlib import closing

import pytest

from gateway.store import file
from gateway.store.base import JournalOffset, StoreFailed
from gateway.store.entries import Entry
from gateway.store.sqlite import SqliteStore
from tests.helpers.records import Kept, record


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "irisgate.db"


@pytest.fixture
async def store(path):
    store = Kept(path)
    yield store
    await store.close()


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
