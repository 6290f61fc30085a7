"""The files of a state folder that are backed up, and functions that copy such files.

`backup.py` copies the files of a state folder, and `restore.py` puts them back.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from gateway.store.base import JournalOffset, StoreFailed
from gateway.store.bodies import bodies_path
from gateway.store.segments import SPOOL_PREFIX, UNREADABLE, segment_numbers, segment_path

DATABASE: Final = "irisgate.db"
"""Name of the database file in every backup. In a state folder, this is the default name, and `storage.url` may name
another file."""
KEY: Final = "session.key"
HISTORY: Final = "config-history"
"""Name of the folder with earlier versions of the configuration (`config/history.py`)."""
VERSION_NAME: Final = re.compile(r"[0-9]{14}-[0-9a-f]{8}\.json")
"""Pattern for the name of a file in the folder `HISTORY`."""
_CHUNK: Final = 1024 * 1024
"""Number of bytes that are copied at once."""
SPARE_BYTES: Final = 64 * 1024 * 1024
"""Number of bytes that must stay free on a disk after the files are written."""


class StateFiles(msgspec.Struct, frozen=True):
    """The paths of the files in a state folder or in a backup. Both have files with the same names."""

    path: Path
    database: Path

    @property
    def bodies(self) -> Path:
        return bodies_path(self.database)

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def key(self) -> Path:
        return self.path / KEY

    @property
    def unreadable(self) -> Path:
        return self.journal / UNREADABLE

    @property
    def history(self) -> Path:
        return self.path / HISTORY

    def versions(self) -> list[Path]:
        """Return the files with earlier versions of the configuration, without those that are being written."""
        if not self.history.is_dir():
            return []
        return sorted(path for path in self.history.iterdir() if VERSION_NAME.fullmatch(path.name))

    def spools(self) -> list[Path]:
        """Return the folders of the spools (journals of replaced processes)."""
        return sorted(self.journal.glob(f"{SPOOL_PREFIX}*/"))

    def journal_files(self) -> dict[int, BinaryIO]:
        """Open the files of the journal, by number. An open file can be read even after a gateway has deleted it."""
        opened: dict[int, BinaryIO] = {}
        for number in sorted(segment_numbers(self.journal)):
            with suppress(FileNotFoundError):
                opened[number] = segment_path(self.journal, number).open("rb")
        return opened


def unapplied(files: Mapping[int, BinaryIO], offset: JournalOffset) -> Iterator[tuple[JournalOffset, list[bytes]]]:
    """Yield the complete lines of the journal after `offset`, file by file.

    An item is a pair for one file: the offset after its last complete line, and its lines. Files without complete lines
    after `offset` are left out.
    """
    for number, file in sorted(files.items()):
        if number < offset.segment:
            continue
        start = offset.byte if number == offset.segment else 0
        data = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, start)
        end = data.rfind(b"\n") + 1
        if end:
            yield JournalOffset(number, start + end), data[: end - 1].split(b"\n")


def parts(database: Path) -> list[Path]:
    """Return the files of a database that exist: the database, its write-ahead log, and the index of that log."""
    return [part for end in ("", "-wal", "-shm") if (part := database.with_name(database.name + end)).exists()]


def keep(path: Path, aside: Path) -> None:
    """Keep a file in the folder `aside`, as a hard link or as a copy, unless this folder already has a file of the same
    name.
    """
    aside.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = aside / path.name
    if kept.exists():
        return
    try:
        kept.hardlink_to(path)
    except OSError:
        shutil.copy2(path, kept)
        sync(kept)
    sync(aside)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_private(source: Path, target: Path) -> None:
    """Copy a file to a new file that only its owner may read, and wait until the copy is on the disk."""
    with source.open("rb") as reading, private(target) as writing:
        shutil.copyfileobj(reading, writing, _CHUNK)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, and wait until it is on the disk."""
    with private(path) as file:
        file.write(data)


@contextmanager
def private(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that only its owner may read. At the end of the block, wait until the file is on the disk."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until the content of a file is on the disk. For a folder, wait until its file names are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_owner(path: Path) -> None:
    """Raise `StoreFailed` if a file or folder belongs to another user.

    If this process worked in a folder of another user, it might create files that the other user's gateway could not
    open.
    """
    owner = path.stat().st_uid
    if owner != os.geteuid():
        raise StoreFailed(f"{path} belongs to the user {owner}; run this command as the user of the gateway")


def require_space(folder: Path, size: int) -> None:
    """Raise `StoreFailed` if `size` bytes and a reserve (`SPARE_BYTES`) do not fit on the disk of a folder."""
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    if free < size + SPARE_BYTES:
        megabytes = (size + SPARE_BYTES) // 1_000_000
        raise StoreFailed(f"{folder}: {megabytes} MB are needed and {free // 1_000_000} MB are free; make room")
