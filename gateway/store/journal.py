"""The journal: files of lines that only grow, written before a call's last byte is sent.

- An append goes to the system's page cache and waits for no disk. So it survives the process being killed, but a power
  failure may lose the last seconds.
- The store is filled from these files alone: a slow or failing store delays no call and loses nothing.
- When the disk is full, lines wait in memory up to a bound; `full` reports that the bound is reached.

Nothing here reads the content of a line.
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
"""Bytes of a file after which the next one begins, so that files that are applied can be deleted."""
WAITING_BYTES: Final = 64 * 1024 * 1024
"""Bytes that wait in memory while the disk is full: some 80,000 calls, more than a process makes in a minute."""
HOLDER_BYTES: Final = 200
"""Bytes of the lock's file that describe the process holding the lock: a part of one line of text."""
_SUFFIX: Final = ".jsonl"
_NAME: Final = re.compile(r"([0-9]{12})\.jsonl")
"""Names of the journal's files; other files in the folder are left alone."""
_HIGHEST: Final = 10**12 - 1


class Journal:
    """The files of one folder, locked by one process. Raises `StoreFailed` if the folder cannot be locked or written.

    New lines go to a file with a higher number than all existing files, and than `after`.
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
        self._waiting_size = 0
        self._file = -1
        self._end = JournalOffset()
        self._begun = 0.0
        self._removed = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock_file(folder / "lock")
            self._begin(max([*self._numbers(), after]) + 1)
        except OSError as error:
            raise StoreFailed(f"{error.filename or folder}: the journal cannot be written: {error.strerror}") from None

    @property
    def full(self) -> bool:
        """Whether so many bytes wait in memory that no call should begin."""
        return self._waiting_size >= self._waiting_bytes

    @property
    def end(self) -> JournalOffset:
        """Offset of the next line."""
        return self._end

    @property
    def waiting(self) -> int:
        """Bytes that wait in memory."""
        return self._waiting_size

    def append(self, line: bytes) -> None:
        """Write a line, or hold it in memory until there is room. Never raises, and waits for no disk."""
        data = line + b"\n"
        if not self._waiting and self._write(data):
            return
        if not self._waiting:
            self._log.error("journal.write_failed", folder=str(self._folder), kept="in memory")
        self._waiting.append(data)
        self._waiting_size += len(data)
        self.retry()

    def retry(self) -> None:
        """Write waiting lines as far as there is room, and replace the current file if it was removed."""
        self._replace_removed_file()
        if not self._waiting:
            return
        while self._waiting and self._write(self._waiting[0]):
            self._waiting_size -= len(self._waiting.popleft())
        if not self._waiting:
            self._log.info("journal.recovered", folder=str(self._folder))

    def _write(self, data: bytes) -> bool:
        """Return whether the data was written: all of it or nothing."""
        try:
            if self._end.byte >= self._segment_bytes:
                self._begin(self._end.segment + 1)
            size = os.write(self._file, data)
            if size != len(data):
                # half a line, as on a full disk, would swallow the one that comes after it
                os.ftruncate(self._file, self._end.byte)
                return False
        except OSError:
            return False
        self._end = JournalOffset(self._end.segment, self._end.byte + size)
        return True

    def _replace_removed_file(self) -> None:
        """Make the folder again if it was removed, with the content of its last file.

        Writing to a removed file succeeds and would lose the lines. The store counts a call once, so the whole file may
        be read again.
        """
        try:
            inode = self._path(self._end.segment).stat().st_ino
        except OSError:
            inode = -1
        if inode == os.fstat(self._file).st_ino:
            self._removed = False
            return
        if not self._removed:
            # logged once, not with every try, where it cannot be made again
            self._log.error("journal.removed", folder=str(self._folder), kept="what its last file held")
            self._removed = True
        try:
            data = os.pread(self._file, self._end.byte, 0)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._begin(self._end.segment + 1)
        except OSError:
            return
        if not self._write(data):
            self._waiting.appendleft(data)
            self._waiting_size += len(data)

    def _begin(self, number: int) -> None:
        if number > _HIGHEST:
            raise StoreFailed(f"{self._path(_HIGHEST)}: no file can follow this one; move it out of the journal")
        before = self._file
        self._file = os.open(self._path(number), os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._end = JournalOffset(number, 0)
        self._begun = monotonic()
        if before >= 0:
            os.close(before)

    def renew(self, seconds: float) -> None:
        """Begin the next file if this one is older than the retention, so that it can be deleted with its calls.

        A failure, as on a full disk, is tried again the next time.
        """
        if self._end.byte and monotonic() - self._begun >= seconds:
            with suppress(OSError):
                self._begin(self._end.segment + 1)

    def read(self, offset: JournalOffset, limit: int) -> tuple[list[bytes], JournalOffset]:
        """Return whole lines from an offset on, about `limit` bytes of them, and the offset after them. For any thread.

        Raises `StoreFailed` when a file cannot be read.
        """
        end = self._end
        while True:
            data = self._read(offset, limit)
            if lines := data.rfind(b"\n") + 1:
                return data[: lines - 1].split(b"\n"), JournalOffset(offset.segment, offset.byte + lines)
            if len(data) == limit:
                limit *= 2
            elif (later := min((number for number in self._numbers() if number > offset.segment), default=0)) == 0:
                return [], max(offset, JournalOffset(end.segment, 0))
            else:
                if data:
                    self._log.error("journal.torn_line", file=str(self._path(offset.segment)), bytes=len(data))
                offset = JournalOffset(later, 0)

    def _read(self, offset: JournalOffset, limit: int) -> bytes:
        try:
            with self._path(offset.segment).open("rb") as file:
                file.seek(offset.byte)
                return file.read(limit)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StoreFailed(f"{error.filename}: the journal cannot be read: {error.strerror}") from None

    def discard(self, before: JournalOffset) -> None:
        """Delete the files that end before `before`. For any thread."""
        for number in self._numbers():
            if number < min(before.segment, self._end.segment):
                with suppress(OSError):
                    self._path(number).unlink()

    def close(self) -> None:
        """Close the files. Lines that still wait in memory are lost, and counted in the log."""
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


def require_unlocked(folder: Path) -> None:
    """Raise `StoreFailed` if another process has the journal; called before anything in the folder is changed."""
    if folder.exists():
        try:
            os.close(_lock_file(folder / "lock"))
        except OSError as error:
            raise StoreFailed(f"{error.filename}: the journal cannot be written: {error.strerror}") from None


def _lock_file(path: Path) -> int:
    """Return a lock that ends with the process. Raises `StoreFailed`, which names the process that holds it."""
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
