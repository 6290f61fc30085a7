"""Lines that wait for the disk: one flush serves many calls, no file is forgotten, and a failing disk is reported."""

import asyncio
import errno
import os
import resource
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.store import disk_sync
from gateway.store.base import StoreFailed
from gateway.store.disk_sync import DiskSync
from gateway.store.journal import Journal
from tests.helpers.records import logger
from tests.helpers.waiting import eventually
from tests.store.test_follower import keeping
from tests.store.test_journal import room
from tests.store.test_open_calls import sent


class Disk:
    """A stand-in for the disk. It records the flushes, which wait for `gate` and fail while `error` is set."""

    def __init__(self, monkeypatch):
        self.begun = 0
        self.flushed = []
        self.folders = 0
        self.error = 0
        self.gate = None
        self.flush, self.sync = os.fdatasync, os.fsync
        monkeypatch.setattr(disk_sync.os, "fdatasync", self.fdatasync)
        monkeypatch.setattr(disk_sync.os, "fsync", self.fsync)

    def fdatasync(self, descriptor):
        self.begun += 1
        if self.gate is not None:
            self.gate.wait(10)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        self.flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        self.flush(descriptor)

    def fsync(self, descriptor):
        self.folders += 1
        self.sync(descriptor)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


@asynccontextmanager
async def synced(folder, **options):
    log, out = logger()
    journal = Journal(folder / "journal", log, sync=True, **options)
    sync = DiskSync(journal, log)
    sync.journal, sync.out = journal, out
    try:
        yield sync
    finally:
        await sync.close()
        journal.close()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_line_is_on_the_disk_when_the_wait_ends(tmp_path, disk):
    async with synced(tmp_path) as sync:
        sync.journal.append(b"a")
        await sync.wait()
        assert (disk.flushed, disk.folders) == (["000000000001.jsonl"], 1)
        await sync.wait()
        assert len(disk.flushed) == 1
        sync.journal.append(b"b")
        await sync.wait()
        assert (len(disk.flushed), disk.folders) == (2, 1)


async def test_many_calls_share_one_flush(tmp_path, disk):
    async def call(sync, number):
        sync.journal.append(b"%d" % number)
        await sync.wait()

    async with synced(tmp_path) as sync:
        await asyncio.gather(*(call(sync, number) for number in range(500)))
        # the first call begins a flush of what was there, the others share the next
        assert len(disk.flushed) <= 3


async def test_a_line_that_comes_during_a_flush_waits_for_the_next(tmp_path, disk):
    """Check that a flush that began before a line was written does not count for the line."""
    disk.gate = threading.Event()
    async with synced(tmp_path) as sync:
        sync.journal.append(b"a")
        first = asyncio.create_task(sync.wait())
        await eventually(lambda: disk.begun == 1)
        sync.journal.append(b"b")
        second = asyncio.create_task(sync.wait())
        disk.gate.set()
        await asyncio.gather(first, second)
        assert len(disk.flushed) == 2


async def test_a_client_that_leaves_ends_no_flush_of_others(tmp_path, disk):
    disk.gate = threading.Event()
    async with synced(tmp_path) as sync:
        sync.journal.append(b"a")
        leaving, staying = asyncio.create_task(sync.wait()), asyncio.create_task(sync.wait())
        await eventually(lambda: disk.begun == 1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        disk.gate.set()
        await staying
        assert len(disk.flushed) == 1


async def test_former_files_are_flushed_and_closed(tmp_path, disk):
    before = descriptors()
    async with synced(tmp_path, segment_bytes=10) as sync:
        for number in range(20):
            sync.journal.append(b"line %02d" % number)
        await sync.wait()
        assert len(set(disk.flushed)) == len(list((tmp_path / "journal").glob("*.jsonl"))) > 5
        await sync.wait()
    await eventually(lambda: descriptors() <= before)


async def test_a_disk_that_does_not_flush_fails_the_wait_and_is_told_once(tmp_path, disk):
    async with synced(tmp_path) as sync:
        disk.error = errno.EIO
        for line in (b"a", b"b"):
            sync.journal.append(line)
            with pytest.raises(StoreFailed, match="cannot be flushed to the disk: Input/output error"):
                await sync.wait()
        disk.error = 0
        await sync.wait()
        await eventually(lambda: b"journal.sync_failed" in sync.out.getvalue())
        assert sync.out.getvalue().count(b"journal.sync_failed") == 1


async def test_a_full_disk_fails_the_wait(tmp_path):
    async with synced(tmp_path) as sync:
        with room(10):
            sync.journal.append(b"x" * 100)
            with pytest.raises(StoreFailed, match="cannot be written"):
                await sync.wait()
        sync.journal.retry()
        await sync.wait()


async def test_too_many_open_files_fail_the_wait(tmp_path):
    async with synced(tmp_path) as sync:
        sync.journal.append(b"a")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        # the loop's executor has its thread already, so that only the flush needs a descriptor
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() - 1, limits[1]))
        try:
            with pytest.raises(StoreFailed, match="Too many open files"):
                await sync.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        await sync.wait()


async def test_the_end_of_a_call_is_on_the_disk_soon(tmp_path, disk):
    """Check that the follower flushes the ends of calls, for which nobody waits."""
    async with keeping(tmp_path, sync=True) as records:
        records.put("a")
        await eventually(lambda: len(disk.flushed) == 1)
        pending = records.follower.put_sent(sent("b"))
        assert pending is not None
        await pending
        assert len(disk.flushed) >= 2


async def test_without_sync_nothing_is_flushed(tmp_path, disk):
    async with keeping(tmp_path) as records:
        assert records.follower.put_sent(sent("a")) is None
        records.put("a")
        await records.follower.flush()
        assert disk.flushed == []
