"""Reads the files of a journal in one folder: their numbers, paths and complete lines.

`journal.py` writes the files. Another process may read them while they are written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.store.base import JournalOffset, StoreFailed
from gateway.telemetry.log import Logger

UNREADABLE: Final = "unreadable"
"""Name of the file with the lines that could not be read. Lines of a later release may be among them."""
SPOOL_PREFIX: Final = "replaced-"
"""Prefix of the names of spools. A spool is a folder with the journal of a replaced process or of a worker, inside the
folder of the main journal. The process that writes the main journal stores the calls of the spools, and charges them to
the quotas."""
_SUFFIX: Final = ".jsonl"
_NAME: Final = re.compile(r"([0-9]{12})\.jsonl")
"""Pattern of the names of the journal's files. Other files in the folder are ignored."""


class Segments:
    """The files of a journal."""

    def __init__(self, folder: Path, log: Logger) -> None:
        self._folder = folder
        self._log = log

    def read(self, offset: JournalOffset, limit: int) -> tuple[list[bytes], JournalOffset]:
        """Return complete lines from `offset` on, and the offset after the last of them.

        All lines are from one file: the file of `offset`, or the next file if the first one has no more complete lines.
        The lines have at most `limit` bytes in total, but at least one line is returned even if it is longer. May be
        called from any thread. Raises `StoreFailed` if a file cannot be read.
        """
        while True:
            # listed before the file is read, because only a file that has a later one is complete
            later = min((number for number in self.numbers() if number > offset.segment), default=0)
            data = self._read(offset, limit)
            if lines := data.rfind(b"\n") + 1:
                return data[: lines - 1].split(b"\n"), JournalOffset(offset.segment, offset.byte + lines)
            if len(data) == limit:
                limit *= 2
            elif not later:
                return [], offset
            else:
                if data:
                    self._log.error("journal.torn_line", file=str(self.path(offset.segment)), bytes=len(data))
                offset = JournalOffset(later, 0)

    def _read(self, offset: JournalOffset, limit: int) -> bytes:
        try:
            with self.path(offset.segment).open("rb") as file:
                file.seek(offset.byte)
                return file.read(limit)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StoreFailed(
                f"{error.filename}: the journal cannot be read: {error.strerror}; run irisgate doctor"
            ) from None

    def set_aside(self, lines: Sequence[bytes]) -> Path:
        """Append unreadable lines to a separate file, and return its path. The release that wrote the lines may be able
        to read them later.

        May be called from any thread. Raises `StoreFailed` if the file cannot be written.
        """
        path = self._folder / UNREADABLE
        try:
            with open(path, "ab", opener=_private) as file:
                file.write(b"".join(line + b"\n" for line in lines))
        except OSError as error:
            raise StoreFailed(f"{path}: unreadable lines cannot be kept: {error.strerror}") from None
        return path

    def has_more(self, offset: JournalOffset) -> bool:
        """Return whether there may be lines after `offset`. This takes a few microseconds, much less than `read`."""
        try:
            size = self.path(offset.segment).stat().st_size
        except OSError:
            return True  # `read` finds out
        return size > offset.byte or self.path(offset.segment + 1).exists()

    def delete_before(self, number: int) -> None:
        """Delete the files with lower numbers than `number`. May be called from any thread."""
        for each in self.numbers():
            if each < number:
                with suppress(OSError):
                    self.path(each).unlink()

    def numbers(self) -> list[int]:
        return segment_numbers(self._folder)

    def path(self, number: int) -> Path:
        return segment_path(self._folder, number)


def segment_numbers(folder: Path) -> list[int]:
    """Return the numbers of the files of the journal in `folder`, in no order."""
    named = [(path, _NAME.fullmatch(path.name)) for path in folder.glob(f"*{_SUFFIX}")]
    return [int(name[1]) for path, name in named if name and path.is_file()]


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:012d}{_SUFFIX}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
