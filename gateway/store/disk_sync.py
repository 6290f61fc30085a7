"""Flushing the journal to the disk, so that a power cut loses no line that a call has waited for (`storage.sync`).

- One flush serves all calls that wait when it begins. Calls that come during a flush share the next one.
- Flushes run in a thread of their own, because a flush takes milliseconds.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from gateway.store.base import StoreFailed
from gateway.telemetry.log import Logger


class Unflushed(NamedTuple):
    """The files that a flush has to write to the disk, and what is on the disk afterwards."""

    descriptors: tuple[int, ...]
    """Descriptors of the files; the flush closes them."""
    folder: Path | None
    """The journal's folder if a file was created in it since the last flush; None otherwise."""
    lines: int
    """Number of lines written to the journal since the process started. The flush writes all of them to the disk."""


class Flushable(Protocol):
    """The part of a journal that is flushed."""

    @property
    def appended(self) -> int:
        """The number of lines that were appended so far, including those that wait in memory."""

    @property
    def waiting(self) -> int:
        """The number of bytes of lines that wait in memory to be written."""

    def unflushed(self) -> Unflushed:
        """Return the files with lines that may not be on the disk yet."""


class DiskSync:
    """The flushes of one journal."""

    def __init__(self, journal: Flushable, log: Logger) -> None:
        self._journal = journal
        self._log = log
        self._flushed = 0
        """Number of lines that are on the disk."""
        self._failing = False
        self._round: asyncio.Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-sync")

    async def wait(self) -> None:
        """Wait until all lines that were appended before this call are on the disk.

        Raises `StoreFailed` if the journal cannot be written or flushed.
        """
        lines = self._journal.appended
        while self._flushed < lines:
            if self._journal.waiting:
                raise StoreFailed("the journal cannot be written")
            if self._round is None:
                self._round = asyncio.ensure_future(self._flush())
            # if one caller is cancelled, the flush must go on, because others wait for it
            await asyncio.shield(self._round)

    async def _flush(self) -> None:
        try:
            files = self._journal.unflushed()
            await asyncio.get_running_loop().run_in_executor(self._thread, _write_back, files)
        except OSError as error:
            reason = f"the journal cannot be flushed to the disk: {error.strerror}"
            if not self._failing:
                self._log.error("journal.sync_failed", reason=reason)
            self._failing = True
            raise StoreFailed(reason) from None
        finally:
            self._round = None
        self._failing = False
        self._flushed = files.lines

    async def close(self) -> None:
        """Flush the last lines if possible, and end the thread."""
        with suppress(StoreFailed):
            await self.wait()
        self._thread.shutdown()


def _write_back(files: Unflushed) -> None:
    """Write the files' content to the disk, and the folder's entries if a file is new.

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
