"""A folder as the destination of an export.

A file gets its name when it is complete and on the disk. So a reader never sees an incomplete file, and neither a
killed process nor a power cut leaves one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import time
from typing import Final
from uuid import uuid4

from gateway.process.exports.export import ExportFailed
from gateway.store.state_files import sync, write_private

LEFTOVER_SECONDS: Final = 3600
"""Age in seconds after which an incomplete file counts as the leftover of a killed process."""
_PART: Final = ".part"
"""Suffix of the name of a file that is being written. Such a name also begins with a dot."""


class FolderTarget:
    """A folder, which is created if it is missing. Only its owner may read the files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_clean = False

    async def put(self, name: str, data: bytes, *, again: bool) -> None:
        """Write a file. If `again` is true and the folder already has a file of this name, that file is complete, and
        is left as it is.

        Raises `ExportFailed` if the file cannot be written.
        """
        await asyncio.to_thread(self.write, name, data, again=again)

    async def close(self) -> None:
        """Do nothing, because nothing is open."""

    def write(self, name: str, data: bytes, *, again: bool = False) -> None:
        """Write a file in the calling thread, and wait until the file is on the disk.

        The arguments, and the exception `ExportFailed`, are those of `put`.
        """
        path = self._folder / name
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._remove_leftovers()
            if again and path.exists():
                return
            part = path.with_name(f".{path.name}.{uuid4().hex}{_PART}")
            try:
                write_private(part, data)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            sync(self._folder)
        except OSError as error:
            raise ExportFailed(f"{error.filename or path}: {error.strerror or error}") from None

    def _remove_leftovers(self) -> None:
        """Remove incomplete files of killed processes. Do nothing if this object has done so before."""
        if not self._is_clean:
            for part in self._folder.glob(f".*{_PART}"):
                if part.stat().st_mtime < time() - LEFTOVER_SECONDS:
                    part.unlink(missing_ok=True)
            self._is_clean = True
