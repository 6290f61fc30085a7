"""The journal: what happened, a line each, in files that only grow. It is written before a call's last byte goes out.

An append goes to the system's page cache and waits for no disk, so it survives the process being killed (a power cut
may take the last seconds). The store follows behind, from these files alone: a slow or dead one delays no call and
loses nothing. Where the disk is full, lines wait in memory up to a bound, and `full` says when that is reached. What
the lines say is not known here.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

from gateway.store.base import JournalOffset, StoreFailed
from gateway.telemetry.log import Logger

SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""After which another file is begun, so that what the store has taken over can be deleted."""
WAITING_BYTES: Final = 64 * 1024 * 1024
"""Kept in memory while the disk takes nothing: some 80,000 calls, which is more than a process makes in a minute."""
HOLDER_BYTES: Final = 200
"""Of the lock's file, for the number and the command of the process that has the lock: a part of one line of text."""
_SUFFIX: Final = ".jsonl"
_NAME: Final = re.compile(r"([0-9]{12})\.jsonl")
"""What is named otherwise is somebody else's."""
_HIGHEST: Final = 10**12 - 1


class Journal:
    """The files of one folder, which one process has for itself. Raises `StoreFailed` where that cannot be.

    New lines go to a file of a higher number than all that are there, and than `after`.
    """

    def __init__(
        self,
        folder: Path,
        log: Logger,
        *,
        after: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
        waiting_bytes: int = WAITING_BYTES,
    ) -> None:
        self._folder = folder
        self._log = log
        self._segment_bytes = segment_bytes
        self._waiting_bytes = waiting_bytes
        self._waiting: deque[bytes] = deque()
        self._waits = 0
        self._file = -1
        self._place = JournalOffset()
        self._begun = 0.0
        self._gone = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(folder / "lock")
            self._begin(max([*self._numbers(), after]) + 1)
        except OSError as error:
            raise StoreFailed(f"{error.filename or folder}: the journal cannot be written: {error.strerror}") from None

    @property
    def full(self) -> bool:
        """So much waits in memory that nothing more should begin."""
        return self._waits >= self._waiting_bytes

    @property
    def end(self) -> JournalOffset:
        """Where the next line will begin."""
        return self._place

    @property
    def waiting(self) -> int:
        """Bytes that no file has yet."""
        return self._waits

    def append(self, line: bytes) -> None:
        """Write a line, or keep it until there is room. Never raises, and waits for nothing but the page cache."""
        data = line + b"\n"
        if not self._waiting and self._write(data):
            return
        if not self._waiting:
            self._log.error("journal.write_failed", folder=str(self._folder), kept="in memory")
        self._waiting.append(data)
        self._waits += len(data)
        self.retry()

    def retry(self) -> None:
        """Write what waits, as far as there is room; and find out whether the file that is written is still there."""
        self._go_on_elsewhere_if_gone()
        if not self._waiting:
            return
        while self._waiting and self._write(self._waiting[0]):
            self._waits -= len(self._waiting.popleft())
        if not self._waiting:
            self._log.info("journal.recovered", folder=str(self._folder))

    def _write(self, data: bytes) -> bool:
        """All of it, or nothing of it."""
        try:
            if self._place.offset >= self._segment_bytes:
                self._begin(self._place.segment + 1)
            written = os.write(self._file, data)
            if written != len(data):
                # half a line, as on a full disk, would swallow the one that comes after it
                os.ftruncate(self._file, self._place.offset)
                return False
        except OSError:
            return False
        self._place = JournalOffset(self._place.segment, self._place.offset + written)
        return True

    def _go_on_elsewhere_if_gone(self) -> None:
        """A folder that somebody has removed is made again, with what its last file held: writing to it seems to work.

        What the store has already counts once, so the whole file may come again.
        """
        try:
            there = self._path(self._place.segment).stat().st_ino
        except OSError:
            there = -1
        if there == os.fstat(self._file).st_ino:
            self._gone = False
            return
        if not self._gone:
            # once, not with every look, where it cannot be made again
            self._log.error("journal.removed", folder=str(self._folder), kept="what its last file held")
            self._gone = True
        try:
            data = os.pread(self._file, self._place.offset, 0)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._begin(self._place.segment + 1)
        except OSError:
            return
        if not self._write(data):
            self._waiting.appendleft(data)
            self._waits += len(data)

    def _begin(self, number: int) -> None:
        if number > _HIGHEST:
            raise StoreFailed(f"{self._path(_HIGHEST)}: no file can follow this one; move it out of the journal")
        before = self._file
        self._file = os.open(self._path(number), os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._place = JournalOffset(number, 0)
        self._begun = monotonic()
        if before >= 0:
            os.close(before)

    def renew(self, seconds: float) -> None:
        """Go on in another file where this one is so old, so that it can be discarded: its calls may be kept no longer.

        Where that cannot be, as on a full disk, it is tried again the next time.
        """
        if self._place.offset and monotonic() - self._begun >= seconds:
            with suppress(OSError):
                self._begin(self._place.segment + 1)

    def read(self, place: JournalOffset, limit: int) -> tuple[list[bytes], JournalOffset]:
        """Whole lines from `place` on, about `limit` bytes of them, and where the next ones begin. For any thread.

        Raises `StoreFailed` when a file cannot be read.
        """
        end = self._place
        while True:
            data = self._read(place, limit)
            if lines := data.rfind(b"\n") + 1:
                return data[: lines - 1].split(b"\n"), JournalOffset(place.segment, place.offset + lines)
            if len(data) == limit:
                limit *= 2
            elif (later := min((number for number in self._numbers() if number > place.segment), default=0)) == 0:
                return [], max(place, JournalOffset(end.segment, 0))
            else:
                if data:
                    self._log.error("journal.torn_line", file=str(self._path(place.segment)), bytes=len(data))
                place = JournalOffset(later, 0)

    def _read(self, place: JournalOffset, limit: int) -> bytes:
        try:
            with self._path(place.segment).open("rb") as file:
                file.seek(place.offset)
                return file.read(limit)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StoreFailed(f"{error.filename}: the journal cannot be read: {error.strerror}") from None

    def discard(self, before: JournalOffset) -> None:
        """Delete the files that end before `before`. For any thread."""
        for number in self._numbers():
            if number < min(before.segment, self._place.segment):
                with suppress(OSError):
                    self._path(number).unlink()

    def close(self) -> None:
        """Let go of the files. What waits in memory is lost, and counted in the log."""
        self.retry()
        if self._waiting:
            self._log.error("journal.lines_lost", folder=str(self._folder), lost=len(self._waiting))
        os.close(self._file)
        os.close(self._lock)

    def _numbers(self) -> list[int]:
        named = [(path, _NAME.fullmatch(path.name)) for path in self._folder.glob(f"*{_SUFFIX}")]
        return [int(name[1]) for path, name in named if name and path.is_file()]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}{_SUFFIX}"


def see_that_it_is_free(folder: Path) -> None:
    """Raises `StoreFailed` where another process has this journal: to be asked before anything of it is touched."""
    if folder.exists():
        try:
            os.close(_locked(folder / "lock"))
        except OSError as error:
            raise StoreFailed(f"{error.filename}: the journal cannot be written: {error.strerror}") from None


def _locked(path: Path) -> int:
    """Return a lock that ends with the process. Raises `StoreFailed`, which names the process that has it already."""
    lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, HOLDER_BYTES, 0).decode(errors="replace") or "its number is not known"
        os.close(lock)
        raise StoreFailed(
            f"{path.parent}: another gateway keeps its records there ({holder}); give each its own --state"
        ) from None
    with suppress(OSError):  # a full disk keeps no gateway from starting
        os.ftruncate(lock, 0)
        os.pwrite(
            lock,
            f"process {os.getpid()}: irisgate {shlex.join(sys.argv[1:])}".encode(errors="replace")[:HOLDER_BYTES],
            0,
        )
    return lock
