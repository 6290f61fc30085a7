"""Backup of a state folder that a gateway may be using at the same time.

- The database is copied in one read transaction, so the copy is consistent. The gateway can write meanwhile.
- The gateway writes a call to the journal first, and to the database later. So the journal's newer lines are applied to
  the copy of the database. The backup then has every call that had ended when the backup began.
- The snapshot of the bodies is taken before the snapshot of the calls. So the backup has the call of each body.
- Earlier versions of the configuration are copied file by file. Each file is complete, because the gateway writes it
  under another name and then renames it.
- Spools (journals of replaced processes, `follower.py`) are copied, but not applied. Only a gateway can charge their
  calls to the quotas.
- The files are written to a hidden folder, which is renamed to the target at the end.

`restore.py` puts a backup back.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import time
from typing import BinaryIO, Final
from urllib.parse import quote

import msgspec

from gateway.store.base import JournalOffset, StoreFailed
from gateway.store.entries import decode
from gateway.store.file import BUSY_SECONDS, connect
from gateway.store.schema import MIGRATIONS
from gateway.store.segments import segment_numbers, segment_path
from gateway.store.state_files import (
    DATABASE,
    StateFiles,
    copy_private,
    digest,
    require_owner,
    require_space,
    sync,
    unapplied,
    write_private,
)
from gateway.store.writing import write

MANIFEST: Final = "backup.json"
"""Name of the file that says what is in a backup."""
STEP_PAGES: Final = 25_600
"""Number of pages (of 4 KiB) of a database that are copied in one step. Ctrl-C ends a backup after the current step."""


class CopiedFile(msgspec.Struct, frozen=True):
    """A file in a backup."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """The content of a backup."""

    release: str
    """The version of Irisgate that made the backup."""
    schema: int
    """Version of the database's schema."""
    at: float
    """Unix time in seconds at which the backup was started."""
    calls: int
    last_at: float | None
    """Unix time in seconds at which the last call began. It is None if the backup has no call."""
    files: Mapping[str, CopiedFile]
    """The files by their paths in the backup."""

    @property
    def size(self) -> int:
        """The total number of bytes of the files."""
        return sum(file.bytes for file in self.files.values())


def back_up(state: StateFiles, target: Path, *, release: str, bodies: bool = True) -> Manifest:
    """Copy a state folder to the new folder `target`, and return what the copy contains.

    With `bodies=False`, the bodies of calls are left out. Raises `StoreFailed` or `OSError` if the backup cannot be
    made. In that case, there is no folder `target`.
    """
    at = time()
    if not state.database.exists():
        raise StoreFailed(f"{state.database}: there is no database, so there is nothing to back up")
    require_owner(state.database)
    with _made(target) as folder, ExitStack() as opened:
        copy = StateFiles(folder, folder / DATABASE)
        copy.journal.mkdir(mode=0o700)
        snapshots = {copy.bodies: _snapshot(state.bodies, opened)} if bodies and state.bodies.exists() else {}
        _copy_spools(state, copy)
        snapshots[copy.database], offset, journal = _snapshot_with_journal(state, opened)
        _require_schema(state.database, snapshots[copy.database])
        require_space(folder, sum(map(_size, snapshots.values())))
        for path, snapshot in snapshots.items():
            _copy_database(snapshot, path)
        for path, copied in ((state.key, copy.key), (state.unreadable, copy.unreadable)):
            if path.exists():
                copy_private(path, copied)
        _copy_history(state, copy)
        calls, last_at = _apply(journal, offset, copy)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {str(path.relative_to(folder)): CopiedFile(path.stat().st_size, digest(path)) for path in paths}
        manifest = Manifest(release, len(MIGRATIONS), at, calls, last_at, files)
        write_private(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return manifest


@contextmanager
def _made(target: Path) -> Iterator[Path]:
    """Yield a hidden folder for the files of a backup. At the end of the block, rename the folder to `target`. After an
    exception, remove the folder.

    If a killed backup to `target` has left files behind, they are removed first. Raises `StoreFailed` if `target`
    exists, or if another process is making a backup to `target`.
    """
    if target.exists():
        raise StoreFailed(f"{target}: exists; name a new folder for the backup")
    folder = target.with_name(f".{target.name}.partial")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for leftover in folder.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        try:
            yield folder
            for path in (folder, *(path for path in folder.iterdir() if path.is_dir())):
                sync(path)
            folder.rename(target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        sync(target.parent)
    except BlockingIOError:
        raise StoreFailed(f"{target}: another backup is being made there") from None
    finally:
        os.close(lock)


def _snapshot(path: Path, opened: ExitStack) -> sqlite3.Connection:
    """Return a connection in a read transaction, which sees the database as it is now. When `opened` is closed, the
    connection is closed.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode=rw"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        opened.enter_context(closing(connection))
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        # the transaction of SQLite begins with the first read
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        raise StoreFailed(f"{path}: {error}; see irisgate doctor") from error
    return connection


def _snapshot_with_journal(
    state: StateFiles, opened: ExitStack
) -> tuple[sqlite3.Connection, JournalOffset, Mapping[int, BinaryIO]]:
    """Return a snapshot of the database, the journal offset in this snapshot, and the open files of the journal by
    number.

    The files are opened first, and then the snapshot is taken. If the gateway has begun a new journal file in between,
    both steps are repeated, because lines that the snapshot lacks may be in the new file.
    """
    while True:
        with ExitStack() as attempt:
            journal = state.journal_files()
            for file in journal.values():
                attempt.enter_context(file)
            snapshot = _snapshot(state.database, attempt)
            if max(segment_numbers(state.journal), default=0) == max(journal, default=0):
                opened.enter_context(attempt.pop_all())
                return snapshot, _offset(state.database, snapshot), journal


def _offset(path: Path, snapshot: sqlite3.Connection) -> JournalOffset:
    try:
        return JournalOffset(*snapshot.execute("SELECT segment, offset FROM place").fetchone())
    except (sqlite3.Error, TypeError) as error:
        raise StoreFailed(f"{path}: {error}; see irisgate doctor") from error


def _require_schema(path: Path, snapshot: sqlite3.Connection) -> None:
    """Raise `StoreFailed` if the schema of the database is not that of this release.

    If such a database were backed up, its copy would be migrated when the journal is applied to it. The release that
    uses the database could then not use the copy.
    """
    version = snapshot.execute("PRAGMA user_version").fetchone()[0]
    if version != len(MIGRATIONS):
        raise StoreFailed(
            f"{path}: its schema is version {version}, and this irisgate backs up version {len(MIGRATIONS)}; "
            "use the release that serves"
        )


def _size(snapshot: sqlite3.Connection) -> int:
    """Return the number of bytes of a database."""
    pages, size = (snapshot.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages * size)


def _copy_spools(state: StateFiles, copy: StateFiles) -> None:
    """Copy the spools (journals of replaced processes).

    A spool that a gateway removes meanwhile need not be copied, because its calls are already in the journal.
    """
    for spool in state.spools():
        target = copy.journal / spool.name
        try:
            target.mkdir(mode=0o700)
            for number in sorted(segment_numbers(spool)):
                copy_private(segment_path(spool, number), segment_path(target, number))
        except FileNotFoundError:
            shutil.rmtree(target)


def _copy_history(state: StateFiles, copy: StateFiles) -> None:
    """Copy the earlier versions of the configuration.

    The gateway may remove an old version or save a new one meanwhile. The copy then lacks this version.
    """
    for version in state.versions():
        copy.history.mkdir(mode=0o700, exist_ok=True)
        try:
            copy_private(version, copy.history / version.name)
        except FileNotFoundError:
            (copy.history / version.name).unlink(missing_ok=True)


def _copy_database(snapshot: sqlite3.Connection, path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as copy:
            snapshot.backup(copy, pages=STEP_PAGES)
    except sqlite3.Error as error:
        raise StoreFailed(f"{path}: {error}; see irisgate doctor") from error
    sync(path)


def _apply(journal: Mapping[int, BinaryIO], offset: JournalOffset, copy: StateFiles) -> tuple[int, float | None]:
    """Apply the lines of the journal after `offset` to the copied database.

    Return the number of calls in the copy, and the Unix time at which its last call began. Unreadable lines are
    appended to the file `copy.unreadable`.
    """
    try:
        with closing(connect(copy.database)) as connection:
            for after, lines in unapplied(journal, offset):
                entries, unreadable = decode(lines)
                write(connection, entries, after)
                if unreadable:
                    with copy.unreadable.open("ab") as file:
                        file.write(b"".join(line + b"\n" for line in unreadable))
            calls, last_at = connection.execute("SELECT count(*), max(at) FROM calls").fetchone()
    except sqlite3.Error as error:
        raise StoreFailed(f"{copy.database}: {error}; see irisgate doctor") from error
    sync(copy.database)
    return calls, None if last_at is None else last_at / 1000
