"""A test whether the disk accepts new data. It writes a small file into a folder, and removes the file.

Free space alone would not reveal a disk quota, a read-only mount or a failing disk.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic
from typing import Final

KNOWN_SECONDS: Final = 1.0
"""Number of seconds for which the result of a test is reused."""
WAIT_SECONDS: Final = 0.5
"""Maximum number of seconds to wait for the disk. It is below one second, because a monitor may wait only one second
for the reply to its health check."""
_DATA: Final = b"\0" * 4096
"""Data that fills one block of the file system. Smaller files may take no block at all."""


class DiskProbe:
    """Tests whether one folder accepts data. Only one test runs at a time, so a disk that hangs blocks only one
    thread.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "probe"
        self._lock = Lock()
        self._done = Event()
        self._done.set()
        self._at = -KNOWN_SECONDS
        self._fault = ""

    def fault(self) -> str:
        """Return the reason why the folder accepts no data, or "" if it accepts data.

        This waits for the disk, at most `WAIT_SECONDS`, and may be called from any thread.
        """
        with self._lock:
            if self._done.is_set() and monotonic() - self._at >= KNOWN_SECONDS:
                self._done.clear()
                Thread(target=self._test, name="disk-probe", daemon=True).start()
        return self._fault if self._done.wait(WAIT_SECONDS) else f"no answer within {WAIT_SECONDS:g} seconds"

    def _test(self) -> None:
        self._fault = _write(self._path)
        self._at = monotonic()
        self._done.set()


def _write(path: Path) -> str:
    """Write and remove a file. Return the reason if that fails, else "".

    A missing folder is no failure, because the journal creates it.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            size = os.write(file, _DATA)
        finally:
            os.close(file)
            with suppress(OSError):
                path.unlink()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return "" if size == len(_DATA) else os.strerror(errno.ENOSPC)
