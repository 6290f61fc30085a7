"""Tests of `JournalFollower`, which writes records from the journal to the store.

No record may be lost or counted twice, and no call waits for the store.
"""

import asyncio
import json
import shutil
import sqlite3
import time
from contextlib import asynccontextmanager

import pytest

from gateway.store import follower as follower_module
from gateway.store.base import SessionQuery, StoreFailed, UsageQuery
from gateway.store.disk_sync import DiskSync
from gateway.store.entries import Balance, Entry, Version
from gateway.store.follower import POLL_SECONDS, JournalFollower
from gateway.store.journal import Journal
from gateway.store.sqlite import SqliteStore
from tests.helpers.records import NOON, logger, record
from tests.helpers.waiting import eventually


class Kept:
    """A journal, a store, and the `JournalFollower` that writes the records of the journal to the store."""

    def __init__(self, folder, *, sync=False, **options):
        self.log, self.out = logger()
        self.path = folder / "irisgate.db"
        self.store = SqliteStore(self.path, sync=sync)
        self.journal = Journal(folder / "journal", self.log, after=self.store.start_offset.segment, sync=sync)
        disk_sync = DiskSync(self.journal, self.log) if sync else None
        self.follower = JournalFollower(self.journal, self.store, self.log, sync=disk_sync, **options)

    def put(self, *ids, **changes):
        for each in ids:
            self.follower.put(Entry(call=record(id=each, **changes)))

    async def ids(self):
        return [row.id for row in (await self.store.calls(None, None, 1000)).rows]

    async def logs(self, event):
        return await eventually(lambda: event.encode() in self.out.getvalue())


@asynccontextmanager
async def keeping(folder, **options):
    records = Kept(folder, **options)
    await records.follower.start()
    try:
        yield records
    finally:
        await records.follower.close()
        await records.store.close()


def abandoned(records):
    """Close the journal's files and nothing else, so that all files remain as a killed process leaves them."""
    records.journal.close()


async def test_a_call_can_be_read_after_a_moment_without_a_flush(tmp_path):
    async with keeping(tmp_path) as records:
        records.put("a")
        await eventually(records.ids)
        assert (await records.store.call(None, "a")) == record(id="a")


async def test_a_steady_load_is_applied_in_few_commits(tmp_path):
    """Check that under a steady load, the store commits a batch of calls at a time, and not each call separately."""
    async with keeping(tmp_path) as records:
        reader = sqlite3.connect(records.path)
        versions = set()
        until = time.monotonic() + 10 * POLL_SECONDS
        while time.monotonic() < until:
            records.put(str(time.monotonic_ns()))
            await asyncio.sleep(0.001)
            versions.update(reader.execute("PRAGMA data_version").fetchone())  # changes with each commit
        reader.close()
        assert 1 < len(versions) < 15


async def test_records_of_a_killed_process_are_there_for_the_next(tmp_path):
    """Check that records of a killed process are in the store when the next process serves."""
    left = Kept(tmp_path)
    left.put("a", "b", "c")
    abandoned(left)
    await left.store.close()
    async with keeping(tmp_path) as records:
        assert sorted(await records.ids()) == ["a", "b", "c"]
    async with keeping(tmp_path) as records:
        assert [row.calls for row in await records.store.usage(UsageQuery())] == [3]


async def test_a_kill_between_store_and_journal_counts_nothing_twice(tmp_path):
    """Check that no call is counted twice if a process was killed after it had stored the journal's lines, and before
    it deleted them.
    """
    async with keeping(tmp_path) as records:
        records.put("a", "b")
        await records.follower.flush()
        segments = {path: path.read_bytes() for path in (tmp_path / "journal").glob("*.jsonl")}
    for path, data in segments.items():
        path.write_bytes(data)
    async with keeping(tmp_path) as records:
        records.put("c")
        await records.follower.flush()
        assert sorted(await records.ids()) == ["a", "b", "c"]
        assert [row.calls for row in await records.store.usage(UsageQuery())] == [3]


async def test_a_restored_store_catches_up_from_the_journal(tmp_path):
    """Check that a store that has lost calls, as after restoring a copy, gets them from the journal again."""
    async with keeping(tmp_path) as records:
        records.put("a")
        await records.follower.flush()
    records.path.unlink()
    async with keeping(tmp_path) as records:
        assert await records.ids() == ["a"]


async def test_a_locked_store_delays_records_and_loses_none(tmp_path, monkeypatch):
    monkeypatch.setattr(follower_module, "FLUSH_SECONDS", 0.1)
    async with keeping(tmp_path) as records:
        other = sqlite3.connect(records.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        for number in range(500):
            records.put(str(number))
        assert time.monotonic() - begun < 4
        with pytest.raises(StoreFailed, match="could not be taken over yet"):
            await records.follower.flush()
        assert await records.logs("store.write_failed")
        assert records.follower.failing
        assert records.follower.lag > 0
        other.execute("ROLLBACK")
        other.close()
        assert await records.logs("store.recovered")
        monkeypatch.setattr(follower_module, "FLUSH_SECONDS", 5)
        await records.follower.flush()
        assert len(await records.ids()) == 500
        assert records.follower.lag == 0


async def test_a_process_ends_despite_a_refusing_store(tmp_path, monkeypatch):
    """Check that a process ends even if the store refuses writes, and that the next process stores its records."""
    monkeypatch.setattr(follower_module, "FLUSH_SECONDS", 0.1)
    async with keeping(tmp_path) as records:
        other = sqlite3.connect(records.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        records.put("a")
    other.close()
    assert await records.logs("store.behind")
    async with keeping(tmp_path) as records:
        assert await records.ids() == ["a"]


async def test_a_removed_state_folder_is_made_again_without_loss(tmp_path):
    """Check that a state folder that is removed is created again, and that records written later are not lost."""
    async with keeping(tmp_path / "state") as records:
        records.put("before")
        await records.follower.flush()
        shutil.rmtree(tmp_path / "state")
        records.put("a", "b")
        assert await records.logs("journal.removed")
        records.put("c")
        await records.follower.flush()
        assert {"a", "b", "c"} <= set(await records.ids())
    async with keeping(tmp_path / "state") as records:
        assert {"a", "b", "c"} <= set(await records.ids())


async def test_a_line_that_is_none_is_told_and_holds_up_nothing(tmp_path):
    async with keeping(tmp_path) as records:
        records.put("a")
        records.journal.append(b"nonsense")
        records.journal.append(b'{"call": {"id": 7}}')
        records.put("b")
        await records.follower.flush()
        assert sorted(await records.ids()) == ["a", "b"]
        assert await records.logs("journal.unreadable_lines")


async def test_unreadable_lines_are_set_aside_once_despite_retries(tmp_path):
    """Check that each unreadable line of the journal is copied and logged only once, although the batch with the line
    is tried several times.

    The batch fails because the store is locked.
    """
    async with keeping(tmp_path) as records:
        other = sqlite3.connect(records.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        file = tmp_path / "journal" / "unreadable"
        for line in (b"first", b"second", b"third"):
            records.journal.append(line)
            assert await eventually(lambda line=line: file.exists() and line in file.read_bytes())
            records.put(line.decode())
        other.execute("ROLLBACK")
        other.close()
        await records.follower.flush()
        records.journal.append(b"third")
        await records.follower.flush()
    assert file.read_bytes() == b"first\nsecond\nthird\nthird\n"
    # the log's thread writes the lines later
    assert await eventually(lambda: records.out.getvalue().count(b'"journal.unreadable_lines"') >= 4)
    logged = [json.loads(line) for line in records.out.getvalue().splitlines()]
    assert [line["lines"] for line in logged if line["event"] == "journal.unreadable_lines"] == [1, 1, 1, 1]


async def test_balances_and_versions_are_kept_beside_calls(tmp_path):
    async with keeping(tmp_path) as records:
        records.follower.put(Entry(call=record(), balances=(Balance("daily:ada", 5, 1, NOON),)))
        records.follower.put(Entry(version=Version(NOON, "ada@example.com", "e1", ("providers.b.models",))))
        await records.follower.flush()
        assert await records.store.balances() == [Balance("daily:ada", 5, 1, NOON)]
    with sqlite3.connect(records.path) as connection:
        assert connection.execute("SELECT who, etag, changed FROM versions").fetchall() == [
            ("ada@example.com", "e1", '["providers.b.models"]')
        ]
    connection.close()


async def test_what_a_client_or_a_provider_made_up_can_be_written_down(tmp_path):
    async with keeping(tmp_path) as records:
        records.put("a", model="\udc80\udcff", agent="\x00\n\x1b[31m", cost=2**70, session_id="s\u2028")
        await records.follower.flush()
        (row,) = (await records.store.calls(None, None, 1)).rows
        assert (row.agent, row.session_id, row.cost) == ("\x00\n\x1b[31m", "s\u2028", 2**53)


async def test_old_calls_are_deleted_a_little_at_a_time_and_new_ones_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(follower_module, "EXPIRE_BATCH_CALLS", 3)
    now = time.time()
    async with keeping(tmp_path, retention=lambda: 3600.0) as records:

        async def only_new():
            return await records.ids() == ["new"]

        for number in range(10):
            records.put(f"old{number}", at=now - 7200, session_id="old")
        records.put("new", at=now, session_id="new")
        await records.follower.flush()
        await eventually(only_new)
        assert [session.id for session in (await records.store.sessions(SessionQuery(None, 10))).rows] == ["new"]


async def test_what_is_kept_no_longer_is_in_no_file_any_more(tmp_path, monkeypatch):
    monkeypatch.setattr(follower_module, "EXPIRE_SECONDS", 0.1)

    def marked():
        # a file may go between the two
        return [path.name for path in tmp_path.rglob("*") if path.is_file() and b"marker" in path.read_bytes()]

    async with keeping(tmp_path, retention=lambda: 0.0) as records:
        for number in range(200):
            records.put(f"a{number}", session_id=f"marker{number}", node="marker", tools=("marker",))
        assert marked()
        await records.follower.flush()
        await eventually(lambda: not marked())
        assert await records.ids() == []
        assert [row.calls for row in await records.store.usage(UsageQuery())] == [200]


async def test_numbers_beyond_what_a_column_holds_hold_up_nothing(tmp_path):
    async with keeping(tmp_path) as records:
        records.follower.put(Entry(balances=(Balance("vast", 2**63 + 5, 0, NOON),)))
        records.put("a", at=1e300)
        records.put("b", status=2**63 + 1)
        records.put("c", duration_ms=1e300)
        records.put("d")
        await records.follower.flush()
        assert await records.ids() == ["d"]
        assert await records.store.balances() == [Balance("vast", 2**63 - 1, 0, NOON)]
        assert await records.logs("journal.unreadable_lines")


class Odd(SqliteStore):
    """A store whose method `write` raises an undocumented exception once after `odd` is set."""

    odd = False

    async def write(self, entries, offset):
        odd, self.odd = self.odd, False
        if odd:
            raise OverflowError("too large")
        await super().write(entries, offset)


class Away(SqliteStore):
    """A store that cannot be reached while `away` is true."""

    away = False

    async def offset(self):
        if self.away:
            raise StoreFailed("away")
        return await super().offset()


async def test_a_store_that_fails_is_noticed_without_calls(tmp_path, monkeypatch):
    monkeypatch.setattr(follower_module, "CHECK_SECONDS", 0.1)
    log, out = logger()
    store = Away(tmp_path / "irisgate.db")
    follower = JournalFollower(Journal(tmp_path / "journal", log), store, log)
    await follower.start()
    for away in (True, False):
        store.away = away
        assert await eventually(lambda away=away: follower.failing is away)
    assert await eventually(lambda: b"store.recovered" in out.getvalue())
    assert out.getvalue().count(b"store.write_failed") == 1
    await follower.close()
    await store.close()


async def test_a_store_that_fails_in_a_way_nobody_thought_of_is_tried_again(tmp_path):
    log, out = logger()
    store = Odd(tmp_path / "irisgate.db")
    follower = JournalFollower(Journal(tmp_path / "journal", log), store, log)
    await follower.start()
    store.odd = True
    follower.put(Entry(call=record(id="a")))
    await follower.flush()
    assert [row.id for row in (await store.calls(None, None, 10)).rows] == ["a"]
    assert b"OverflowError" in out.getvalue()
    await follower.close()
    await store.close()


async def test_old_calls_are_deleted_although_the_clock_was_set_back(tmp_path, monkeypatch):
    monkeypatch.setattr(follower_module, "EXPIRE_SECONDS", 0.1)
    now = time.time()
    async with keeping(tmp_path, retention=lambda: 3600.0) as records:
        await asyncio.sleep(0.1)
        monkeypatch.setattr(follower_module, "time", lambda: now - 86_400)
        records.put("old", at=now - 2 * 86_400)
        await records.follower.flush()

        async def is_empty():
            return not await records.ids()

        await eventually(is_empty)
