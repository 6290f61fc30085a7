"""Tests of calls that wait until lines of the journal are on the disk (`storage.sync`).

One flush serves many calls, the journal's earlier files are flushed too, and failures are reported.
"""

import asyncio
import errno
import os
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.store import disk_sync
from gateway.store.base import StoreFailed
from gateway.store.disk_sync import DiskSync
from gateway.store.journal import Journal
from tests.helpers.descriptors import descriptors, no_descriptor_left
from tests.helpers.records import logger
from tests.helpers.waiting import SECONDS, eventually
from tests.store.test_follower import keeping
from tests.store.test_journal import room
from tests.store.test_open_calls import sent


class LossyDisk:
    """A simulated disk that behaves like Linux: data of a failed flush are lost, and the next flush succeeds."""

    def __init__(self, monkeypatch):
        self.fails = False
        self.clean = {}
        """The size of each file at its last flush, by inode."""
        self.lost = {}
        monkeypatch.setattr(disk_sync.os, "fdatasync", self.fdatasync)

    def fdatasync(self, descriptor):
        status = os.fstat(descriptor)
        begin = self.clean.get(status.st_ino, 0)
        self.clean[status.st_ino] = status.st_size
        if self.fails:
            self.lost.setdefault(status.st_ino, []).append((begin, status.st_size))
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def lines(self, folder):
        """Return the lines of the journal that survive a power cut."""
        lines = set()
        for path in (folder / "journal").glob("*.jsonl"):
            inode = path.stat().st_ino
            data = bytearray(path.read_bytes()[: self.clean.get(inode, 0)])
            for begin, end in self.lost.get(inode, ()):
                data[begin:end] = bytes(end - begin)
            lines |= set(bytes(data).split(b"\n"))
        return lines


class Disk:
    """A simulated disk that records the flushes. A flush waits for `gate` if there is one, and fails with the error
    number `error` if it is not 0.
    """

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


async def flushed(sync):
    """Wait until a flush succeeds. Failed flushes are ignored."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                return await sync.wait()
            except StoreFailed:
                await asyncio.sleep(0.01)


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
    """Check that a line that is written while a flush runs is flushed by another flush."""
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
        await flushed(sync)
        await eventually(lambda: b"journal.sync_recovered" in sync.out.getvalue())
        assert sync.out.getvalue().count(b"journal.sync_failed") == 1


@pytest.mark.parametrize("segment_bytes", [10, 40, 1 << 20])
@pytest.mark.parametrize("failures", [1, 2])
async def test_lines_of_a_failed_flush_are_on_the_disk_after_the_next(tmp_path, monkeypatch, segment_bytes, failures):
    """Check that the lines of a failed flush are written to the journal again, because Linux drops unwritten data when
    a flush fails.

    This includes lines in earlier files of the journal.
    """
    monkeypatch.setattr(disk_sync, "RETRY_SECONDS", (0.0,))
    disk = LossyDisk(monkeypatch)
    async with synced(tmp_path, segment_bytes=segment_bytes) as sync:
        sync.journal.append(b"line 00")
        await sync.wait()
        for number in range(1, 9):
            sync.journal.append(b"line %02d" % number)
        disk.fails = True
        for _ in range(failures):
            with pytest.raises(StoreFailed):
                await sync.wait()
        sync.journal.append(b"line 09")
        disk.fails = False
        await sync.wait()
        assert {b"line %02d" % number for number in range(10)} <= disk.lines(tmp_path)
        files = len(list((tmp_path / "journal").iterdir()))
        await sync.wait()
        assert len(list((tmp_path / "journal").iterdir())) == files


async def test_lines_that_the_store_has_are_not_written_again(tmp_path, monkeypatch):
    """Check that after a failed flush, a line is not written to the journal again if the store already has it."""
    monkeypatch.setattr(disk_sync, "RETRY_SECONDS", (0.0,))
    disk = LossyDisk(monkeypatch)
    async with synced(tmp_path) as sync:
        sync.journal.append(b"in the store")
        applied = sync.journal.end
        sync.journal.append(b"not yet")
        disk.fails = True
        with pytest.raises(StoreFailed):
            await sync.wait()
        sync.journal.applied(applied)
        disk.fails = False
        await sync.wait()
        assert (tmp_path / "journal" / "000000000002.jsonl").read_bytes() == b"not yet\n"


async def test_no_flush_is_tried_in_the_pause_after_a_failed_one(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(disk_sync, "RETRY_SECONDS", (60.0,))
    async with synced(tmp_path) as sync:
        disk.error = errno.EIO
        for number in range(20):
            sync.journal.append(b"%d" % number)
            with pytest.raises(StoreFailed):
                await sync.wait()
        assert (disk.begun, sync.failure != "") == (1, True)
        disk.error = 0


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
        # the loop's executor has its thread already, so that only the flush needs a descriptor
        with no_descriptor_left(), pytest.raises(StoreFailed, match="Too many open files"):
            await sync.wait()
        await flushed(sync)


async def test_the_end_of_a_call_is_on_the_disk_soon(tmp_path, disk):
    """Check that the journal is flushed after a call has ended, although no call waits for this flush.

    Before the next call is sent, the journal is flushed again.
    """
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


async def test_no_call_begins_while_the_disk_does_not_flush(tmp_path, disk):
    async with keeping(tmp_path, sync=True) as records:
        disk.error = errno.EIO
        records.put("a")
        await eventually(lambda: records.follower.full)
        disk.error = 0
        await eventually(lambda: not records.follower.full)
