"""The journal: append-only files with a record of every call. The store is filled from these files.

For each call, a line is written before the call is sent, and another before the reply's last byte is sent.

- Lines are written to the operating system's page cache, without waiting for the disk. A killed process loses no line,
  but a power failure may lose the lines of the last half minute. With `storage.sync`, a call waits until the first line
  of this call is flushed to the disk (`disk_sync.py`).
- A call never waits for the store. So a slow or failing store delays no call and loses nothing.
- If the disk is full, lines wait in memory. If too many bytes wait, `full` is true.
- After a failed flush, the operating system treats the lines as written, although they may not be on the disk
  (lwn.net/Articles/752063). So the journal writes these lines again, to a new file (`rewrite`).

This module does not read the content of a line.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Final

from gateway.store.base import JournalOffset, StoreFailed
from gateway.store.disk_probe import DiskProbe
from gateway.store.disk_sync import Unflushed
from gateway.store.segments import Segments
from gateway.telemetry.log import Logger

SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""Size in bytes at which a new file is begun. Older files can be deleted once the store has applied them."""
WAITING_BYTES: Final = 64 * 1024 * 1024
"""Number of bytes of waiting lines at which the journal is full.

The lines of about 80,000 calls have this size. That is more than the calls of one process in a minute.
"""
HOLDER_BYTES: Final = 200
"""Maximum size of the lock file in bytes. The process that holds the lock writes its id and arguments into the file."""
_HIGHEST: Final = 10**12 - 1


class Journal(Segments):
    """The journal's files in one folder, which one process locks.

    - New lines go to a new file. The number in its name is higher than `after` and than the numbers of all existing
      files.
    - With `sync`, the journal remembers which files must be flushed to the disk.
    - `lock` is the descriptor of a locked lock file, if another process has handed it over to this process. If `lock`
      is None, this process locks the file.

    Raises `StoreFailed` if the folder cannot be locked or written.
    """

    def __init__(
        self,
        folder: Path,
        log: Logger,
        *,
        after: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
        waiting_bytes: int = WAITING_BYTES,
        sync: bool = False,
        lock: int | None = None,
    ) -> None:
        super().__init__(folder, log)
        self._segment_bytes = segment_bytes
        self._waiting_bytes = waiting_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_size = 0
        self._appended = 0
        self._applied = JournalOffset()
        self._unflushed: list[int] = []
        """Descriptors of earlier files whose content may not be on the disk yet. This is used only if `sync` is True.
        """
        self._is_new = False
        """True if the directory entry of a new file may not be on the disk yet."""
        self._sync = sync
        self._suspects: deque[tuple[JournalOffset, bytes]] = deque()
        """Lines that may not be on the disk yet, each with the offset after it. This is used only if `sync` is True."""
        self._file = -1
        self._end = JournalOffset()
        self._begun = 0.0
        self._removed = False
        self._probe = DiskProbe(folder)
        try:
            # `mode` does not apply to parents, and the folder of a worker's spool may come before that of the journal
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = _lock(folder) if lock is None else lock
            _write_holder(self._lock)
            self._begin(max([*self.numbers(), after]) + 1)
        except OSError as error:
            raise _unusable(folder, error) from None

    @property
    def lock(self) -> int:
        """The descriptor of the lock file. The lock is held until all copies of the descriptor are closed."""
        return self._lock

    @property
    def full(self) -> bool:
        """True if the lines in memory have reached their maximum size, so that no call may begin."""
        return self._waiting_size >= self._waiting_bytes

    def fault(self) -> str:
        """Return the reason why lines cannot be written to the disk, or "" if they can.

        This waits for the disk, and may be called from any thread.
        """
        return (
            self._probe.fault()
            or ("lines wait in memory" if self._waiting else "")
            or ("its folder was removed and cannot be made again" if self._removed else "")
        )

    @property
    def end(self) -> JournalOffset:
        """The offset at which the next line will be written."""
        return self._end

    @property
    def waiting(self) -> int:
        """The number of bytes of lines that wait in memory to be written."""
        return self._waiting_size

    @property
    def appended(self) -> int:
        """The number of lines that were appended so far, including those that wait in memory."""
        return self._appended

    def unflushed(self) -> Unflushed:
        """Return the files with lines that may not be on the disk yet, as duplicated file descriptors. The caller must
        close these descriptors.
        """
        files = Unflushed(
            (*self._unflushed, os.dup(self._file)),
            self._folder if self._is_new else None,
            self._appended - len(self._waiting),
            self._end,
        )
        self._unflushed.clear()
        self._is_new = False
        return files

    def flushed(self, offset: JournalOffset) -> None:
        """Record that all lines before `offset` are on the disk. The journal no longer keeps copies of these lines in
        memory.
        """
        while self._suspects and self._suspects[0][0] <= offset:
            self._suspects.popleft()

    def rewrite(self) -> None:
        """Write all lines that may not be on the disk to a new file. This is done after a failed flush.

        A line may then be in two files. This does no harm, because the store ignores a call that it already has. Raises
        `OSError` if the new file cannot be written.
        """
        if self._end.byte:
            self._begin(self._end.segment + 1)
        suspects, self._suspects = self._suspects, deque()
        if suspects and not self._write(b"".join(line for _, line in suspects)):
            self._suspects = suspects
            raise OSError(errno.EIO, "its lines cannot be written again")

    def applied(self, offset: JournalOffset) -> None:
        """Record that the store has all lines before `offset`. After a failed flush, or if a file of the journal is
        removed, these lines are not written again.
        """
        self._applied = offset
        self.flushed(offset)

    def append(self, line: bytes) -> None:
        """Write a line, or keep it in memory if it cannot be written.

        This never raises, and does not wait for the disk.
        """
        data = line + b"\n"
        self._appended += 1
        if not self._waiting and self._write(data):
            return
        if not self._waiting:
            self._log.error("journal.write_failed", folder=str(self._folder), kept="in memory")
        self._waiting.append(data)
        self._waiting_size += len(data)
        self.retry()

    def retry(self) -> None:
        """Replace the current file if it was removed, and write as many of the waiting lines as possible."""
        self._replace_removed_file()
        if not self._waiting:
            return
        while self._waiting and self._write(self._waiting[0]):
            self._waiting_size -= len(self._waiting.popleft())
        if not self._waiting:
            self._log.info("journal.recovered", folder=str(self._folder))

    def _write(self, data: bytes) -> bool:
        """Write all of the data or nothing, and return whether it was written."""
        try:
            if self._end.byte >= self._segment_bytes:
                self._begin(self._end.segment + 1)
            size = os.write(self._file, data)
            if size != len(data):
                # a partly written line, as on a full disk, is removed, because the next line would be appended to it
                os.ftruncate(self._file, self._end.byte)
                return False
        except (OSError, StoreFailed):
            return False
        self._end = JournalOffset(self._end.segment, self._end.byte + size)
        if self._sync:
            self._suspects.append((self._end, data))
        return True

    def _replace_removed_file(self) -> None:
        """Begin a new file if the current file, or its folder, was removed. Write those lines of the old file to it
        that are not applied to the store yet.

        Other lines are not written again. A call that has expired in the store would be counted twice if its line were
        applied again.
        """
        try:
            inode = self.path(self._end.segment).stat().st_ino
        except OSError:
            inode = -1
        if inode == os.fstat(self._file).st_ino:
            self._removed = False
            return
        if not self._removed:
            # logged once, not at each attempt, if a new file cannot be made
            self._log.error("journal.removed", folder=str(self._folder), kept="what was not in the store yet")
            self._removed = True
        try:
            start = self._applied.byte if self._applied.segment == self._end.segment else 0
            data = os.pread(self._file, self._end.byte - start, start)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._begin(self._end.segment + 1)
        except (OSError, StoreFailed):
            return
        if not self._write(data):
            self._waiting.appendleft(data)
            self._waiting_size += len(data)

    def _begin(self, number: int) -> None:
        """Begin a new file. Raises `OSError` if it cannot be created, and `StoreFailed` if no number is left."""
        if number > _HIGHEST:
            raise StoreFailed(f"{self.path(_HIGHEST)}: no file can follow this one; move it out of the journal")
        before = self._file
        self._file = os.open(self.path(number), os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._end = JournalOffset(number, 0)
        self._begun = monotonic()
        self._is_new = True
        if before < 0:
            return
        if self._sync:
            self._unflushed.append(before)
        else:
            os.close(before)

    def renew(self, seconds: float) -> None:
        """Begin a new file if the current file is older than `seconds`. The old file can then be deleted once the store
        has applied it.

        If the new file cannot be created, the next `renew` tries again.
        """
        if self._end.byte and monotonic() - self._begun >= seconds:
            with suppress(OSError, StoreFailed):
                self._begin(self._end.segment + 1)

    def read(self, offset: JournalOffset, limit: int) -> tuple[list[bytes], JournalOffset]:
        end = self._end
        lines, after = super().read(offset, limit)
        return lines, after if lines else max(after, JournalOffset(end.segment, 0))

    def discard(self, before: JournalOffset) -> None:
        """Delete the files whose lines are all before the offset `before`. The current file is never deleted.

        This may be called from any thread.
        """
        self.delete_before(min(before.segment, self._end.segment))

    def reopen(self) -> None:
        """Begin a new file. Its number is higher than the numbers of all files in the folder, including the files that
        another process has written.

        Raises `OSError` or `StoreFailed` if the file cannot be created.
        """
        self._begin(max([*self.numbers(), self._end.segment]) + 1)

    def abandon(self) -> None:
        """Close the files and the lock, because another process writes the journal from now on."""
        for descriptor in (*self._unflushed, self._file, self._lock):
            os.close(descriptor)

    def close(self) -> None:
        """Write the waiting lines if possible, and close the files.

        Lines that cannot be written are lost, and their number is logged.
        """
        self.retry()
        if self._waiting:
            self._log.error("journal.lines_lost", folder=str(self._folder), lost=len(self._waiting))
        self.abandon()


def lock_holder(folder: Path) -> str:
    """Return text that names the process that has locked the journal in `folder`, or "" if the journal is not locked.

    Raises `StoreFailed` if this cannot be determined.
    """
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _unusable(folder, error) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(lock)
    finally:
        os.close(lock)
    return ""


def require_unlocked(folder: Path) -> None:
    """Raise `StoreFailed` if another process has locked the journal in `folder`. The message names that process."""
    if holder := lock_holder(folder):
        raise _in_use(folder, holder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the journal in `folder`. Raises `StoreFailed` if another process holds it."""
    try:
        lock = _lock(folder)
    except OSError as error:
        raise _unusable(folder, error) from None
    try:
        _write_holder(lock)
        yield
    finally:
        os.close(lock)


def _lock(folder: Path) -> int:
    """Lock the journal in `folder` until the process ends, and return the descriptor of the lock file.

    Raises `OSError` if the lock file cannot be opened, and `StoreFailed` if another process holds the lock.
    """
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(lock)
        os.close(lock)
        raise _in_use(folder, holder) from None
    return lock


def _holder(lock: int) -> str:
    return os.pread(lock, HOLDER_BYTES, 0).decode(errors="replace") or "its number is not known"


def _in_use(folder: Path, holder: str) -> StoreFailed:
    return StoreFailed(f"{folder}: another gateway keeps its records there ({holder}); give each its own --state")


def _unusable(folder: Path, error: OSError) -> StoreFailed:
    return StoreFailed(f"{error.filename or folder}: the journal cannot be written: {error.strerror}")


def _write_holder(lock: int) -> None:
    """Write the id and the arguments of this process into the lock file."""
    with suppress(OSError):  # the gateway must also start on a full disk
        os.ftruncate(lock, 0)
        os.pwrite(
            lock,
            f"process {os.getpid()}: irisgate {shlex.join(sys.argv[1:])}".encode(errors="replace")[:HOLDER_BYTES],
            0,
        )
