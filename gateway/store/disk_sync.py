"""Flushes of the journal to the disk (`storage.sync`). A call waits for the flush of its line, so a power failure
cannot lose the line.

- One flush serves all calls that wait when it begins. Later calls share the next flush.
- Flushes run in a thread of their own, because a flush takes milliseconds.
- After a failed flush, it is unknown which lines are on the disk. A second flush of the same file may succeed without
  writing them. So the journal writes these lines to a new file before the next flush.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple, Protocol

from gateway.store.base import JournalOffset, StoreFailed
from gateway.telemetry.log import Logger

RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds to wait after the first and each further failed flush in a row. The last number applies to all later
failures.

Each retry writes the unflushed lines again, so retries without a pause would fill the disk."""


class Unflushed(NamedTuple):
    """The work of one flush: the files to flush, and how much of the journal is on the disk after the flush."""

    descriptors: tuple[int, ...]
    """Descriptors of the files. They are closed after the flush."""
    folder: Path | None
    """The journal's folder if a file was created in it since the last flush. It is None otherwise."""
    lines: int
    """Number of lines that are on the disk after the flush. All lines since the start of the process are counted."""
    end: JournalOffset
    """The journal offset up to which all lines are on the disk after the flush."""


class Flushable(Protocol):
    """The interface by which `DiskSync` flushes a journal."""

    @property
    def appended(self) -> int:
        """The number of lines that were appended so far, including those that wait in memory."""

    @property
    def waiting(self) -> int:
        """The number of bytes in memory that are not written to a file yet."""

    def unflushed(self) -> Unflushed:
        """Return the files whose lines are perhaps not all on the disk yet."""

    def flushed(self, offset: JournalOffset) -> None:
        """Record that all lines before `offset` are on the disk."""

    def rewrite(self) -> None:
        """Write a new file with the lines that may not be on the disk yet. Raises `OSError` if that fails."""


class DiskSync:
    """Flushes one journal to the disk, for all calls that wait for it."""

    def __init__(self, journal: Flushable, log: Logger) -> None:
        self._journal = journal
        self._log = log
        self._flushed = 0
        """Number of the journal's lines that are on the disk."""
        self._failures = 0
        self._reason = ""
        """The error message of the last failure."""
        self._retry_at = 0.0
        """Time by the monotonic clock before which no flush is attempted, after a flush has failed."""
        self._round: asyncio.Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-sync")

    @property
    def failure(self) -> str:
        """The error message of the last flush if it failed, else "". After a failed flush, the gateway sends no call
        until a later flush succeeds.
        """
        return self._reason if self._failures else ""

    async def wait(self) -> None:
        """Wait until all lines that were appended so far are on the disk.

        Raises `StoreFailed` if the journal cannot be written or flushed.
        """
        lines = self._journal.appended
        while self._flushed < lines:
            if self._journal.waiting:
                raise StoreFailed("the journal cannot be written")
            if monotonic() < self._retry_at:
                raise StoreFailed(self._reason)
            if self._round is None:
                self._round = asyncio.ensure_future(self._flush())
            # if one caller is cancelled, the flush must go on, because others wait for it
            await asyncio.shield(self._round)

    async def _flush(self) -> None:
        try:
            if self._failures:
                self._journal.rewrite()
            files = self._journal.unflushed()
            await asyncio.get_running_loop().run_in_executor(self._thread, _write_back, files)
        except (OSError, StoreFailed) as error:
            raise self._failed(error) from None
        finally:
            self._round = None
        if self._failures:
            self._log.info("journal.sync_recovered", failures=self._failures)
        self._failures = 0
        self._flushed = files.lines
        self._journal.flushed(files.end)

    def _failed(self, error: OSError | StoreFailed) -> StoreFailed:
        """Record that a flush failed, and return the exception to raise for the calls that wait for this flush.

        Of several failures in a row, only the first is logged.
        """
        cause = error.strerror if isinstance(error, OSError) else str(error)
        self._reason = f"the journal cannot be flushed to the disk: {cause}"
        if not self._failures:
            self._log.error("journal.sync_failed", reason=self._reason)
        self._retry_at = monotonic() + RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        return StoreFailed(self._reason)

    async def close(self) -> None:
        """Flush the last lines if possible, and end the thread."""
        self._retry_at = 0.0
        with suppress(StoreFailed):
            await self.wait()
        self._thread.shutdown()


def _write_back(files: Unflushed) -> None:
    """Flush the files to the disk and close them. If one of them is new, also flush its folder.

    Raises `OSError` if this fails.
    """
    try:
        for descriptor in files.descriptors:
            os.fdatasync(descriptor)
        if files.folder is not None:
            folder = os.open(files.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        for descriptor in files.descriptors:
            os.close(descriptor)
