"""Restores a backup to a state folder.

- First the whole backup is checked, and copied to the disk of the state folder. Nothing in use is changed before that.
- Then one rename replaces the old database by the restored one. If the process is killed, the database is either the
  old or the restored one, and never a mixture. A second run completes the restoration.
- After the rename, the old journal is moved away. If the process is killed before that, the next gateway finds the old
  journal, but does not apply its lines: the journal offset in the restored database is after them.
- The old files are kept in a folder of their own.

`backup.py` makes backups.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

import msgspec

from gateway.store.backup import MANIFEST, Manifest
from gateway.store.base import JournalOffset, StoreFailed, rfc3339
from gateway.store.examine import examine_database
from gateway.store.file import BUSY_SECONDS, connect
from gateway.store.journal import lock_holder, locked
from gateway.store.schema import MIGRATIONS
from gateway.store.segments import SPOOL_PREFIX, segment_numbers, segment_path
from gateway.store.state_files import (
    DATABASE,
    HISTORY,
    KEY,
    VERSION_NAME,
    StateFiles,
    copy_private,
    digest,
    keep,
    parts,
    require_owner,
    require_space,
    sync,
    unapplied,
)

STAGED: Final = ".restoring"
"""Suffix of the name of a restored file, until the file replaces the old one."""
_BODIES: Final = StateFiles(Path(), Path(DATABASE)).bodies.name
_SPOOLS: Final = f"journal/{SPOOL_PREFIX}"
_SPOOL_FILE: Final = re.compile(rf"{_SPOOLS}[0-9a-f-]+/[0-9]{{12}}\.jsonl")
_VERSIONS: Final = f"{HISTORY}/"
_SEGMENT: Final = "SELECT segment FROM place"
_NAMES: Final = frozenset({DATABASE, _BODIES, KEY, "journal/unreadable"})
"""Names of the files that a backup may contain, besides spools (journals of replaced processes) and versions of the
configuration."""


class Restored(msgspec.Struct, frozen=True):
    """The result of a restoration: what the backup contained, and where the old files are."""

    manifest: Manifest
    former: Path | None
    """The folder with the old files. It is None if there were none."""


def restore(backup: Path, state: StateFiles, *, aside: Path, replace: bool = False) -> Restored:
    """Replace a state folder by a backup, and keep the old files in the folder `aside`.

    Raises `StoreFailed` or `OSError`, and changes nothing, if the backup is damaged, a gateway uses the folder, or the
    disk has too little room. Without `replace`, also raises `StoreFailed` if the present store is damaged, was written
    by a later release, or has newer calls than the backup.
    """
    manifest = checked(backup)
    source = StateFiles(backup, backup / DATABASE)
    for folder in (state.path, state.journal, state.database.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # the state folder itself may belong to another user, such as the root of a volume
    for path in (state.journal, *parts(state.database)):
        require_owner(path)
    for folder in (state.journal, *state.spools()):
        if holder := lock_holder(folder):
            raise StoreFailed(f"a gateway runs on {state.path} ({holder}); stop it first")
    with locked(state.journal):
        _require_replaceable(state, manifest, replace=replace)
        require_space(state.database.parent, manifest.size)
        _sweep(state)
        _stage(source, state, manifest.files)
        for database in (state.database, state.bodies):
            _settle(database)
        _swap(state, aside)
    return Restored(manifest, aside if aside.exists() else None)


def checked(backup: Path) -> Manifest:
    """Return what a backup contains. Raises `StoreFailed` if the backup is damaged or of a later release."""
    try:
        manifest = msgspec.json.decode((backup / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreFailed(f"{backup}: is no backup of irisgate: {error}") from None
    if manifest.schema > len(MIGRATIONS):
        raise StoreFailed(
            f"{backup}: irisgate {manifest.release} made it, with schema {manifest.schema}, "
            f"and this irisgate knows up to {len(MIGRATIONS)}; restore it with that release"
        )
    if DATABASE not in manifest.files:
        raise StoreFailed(f"{backup}: is no backup of irisgate: it has no database")
    for name, file in manifest.files.items():
        path = backup / name
        if not (name in _NAMES or _SPOOL_FILE.fullmatch(name) or _is_version(name)):
            raise StoreFailed(f"{backup}: is no backup of irisgate: it names {name!a}")
        if not path.is_file() or path.stat().st_size != file.bytes or digest(path) != file.sha256:
            raise StoreFailed(f"{path}: is not as it was when the backup was made; use another backup")
    return manifest


def _is_version(name: str) -> bool:
    return name.startswith(_VERSIONS) and VERSION_NAME.fullmatch(name.removeprefix(_VERSIONS)) is not None


def _require_replaceable(state: StateFiles, manifest: Manifest, *, replace: bool) -> None:
    """Raise `StoreFailed` if the present database belongs to another program, is locked or cannot be read.

    Without `replace`, also raise `StoreFailed` if the database is damaged, if a later release wrote it, or if the
    present store has newer calls than the backup.
    """
    database = examine_database(state.database)
    match database.state:
        case "foreign" | "locked" | "unreadable":
            raise StoreFailed(f"{state.database}: is not replaced: {database.detail}")
        case "damaged" | "newer" if not replace:
            raise StoreFailed(f"{state.database}: {database.detail}; add --replace to replace it all the same")
        case "good" | "missing" if not replace and (newer := _newer(state, manifest)):
            raise StoreFailed(
                f"{state.path}: {newer}, and the backup is of {rfc3339(manifest.at)}; "
                "add --replace to replace it all the same"
            )


def _newer(state: StateFiles, manifest: Manifest) -> str:
    """Return a text that says what is newer in the present store than in the backup, or "" if nothing is."""
    last_at = _value(state.database, "SELECT max(at) FROM calls")
    if last_at is not None and last_at / 1000 > (manifest.last_at or 0):
        return f"its last call is of {rfc3339(last_at / 1000)}"
    segment, byte = (_value(state.database, query) or 0 for query in (_SEGMENT, "SELECT offset FROM place"))
    offset = JournalOffset(segment, byte)
    with ExitStack() as opened:
        files = state.journal_files()
        for file in files.values():
            opened.enter_context(file)
        has_lines = any(lines for _, lines in unapplied(files, offset))
    return "its journal has lines that the database lacks" if has_lines else ""


def unfinished(state: StateFiles) -> list[Path]:
    """Return the files that a killed restoration has left behind."""
    folders = {state.path, state.database.parent, state.journal}
    return sorted(path for folder in folders for path in folder.glob(f".*{STAGED}"))


def _sweep(state: StateFiles) -> None:
    """Remove what a killed restoration has left behind."""
    for path in unfinished(state):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _stage(source: StateFiles, state: StateFiles, names: Iterable[str]) -> None:
    """Copy the files of the backup to temporary names, each beside the file that it will replace. Migrate the copied
    database, and set its journal offset after all lines of the present journal.

    Raises `StoreFailed` or `OSError` if that fails. If the restoration is run again, it overwrites these copies.
    """
    for name in names:
        path = _staged_path(state, name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        copy_private(source.path / name, path)
        sync(path.parent)
    database = _staged(state.database)
    for leftover in parts(database)[1:]:
        leftover.unlink()
    segments = (_value(path, _SEGMENT) or 0 for path in (state.database, database))
    last = max(*segments, *segment_numbers(state.journal), 0)
    try:
        # an older schema is migrated here, so that a failure changes nothing
        with closing(connect(database)) as connection:
            connection.execute("UPDATE place SET segment = ?, offset = 0", (last + 1,))
    except sqlite3.Error as error:
        raise StoreFailed(f"{database}: {error}") from error
    sync(database)


def _value(database: Path, query: str) -> int | None:
    """Return the only value of a query, or None if the database does not answer with an integer."""
    if not database.exists():
        return None
    try:
        with closing(sqlite3.connect(database, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            row = connection.execute(query).fetchone()
    except sqlite3.Error:
        return None
    return row[0] if row and isinstance(row[0], int) else None


def _staged(path: Path) -> Path:
    return path.with_name(f".{path.name}{STAGED}")


def _staged_path(state: StateFiles, name: str) -> Path:
    """Return the temporary path to which a file of the backup is copied.

    Spools (journals of replaced processes) and versions of the configuration are put in place as whole folders. So
    their files are copied into a temporary folder.
    """
    if name.startswith(_VERSIONS):
        return _staged(state.history) / name.removeprefix(_VERSIONS)
    if name.startswith(_SPOOLS):
        spool = state.path / name
        return _staged(spool.parent) / spool.name
    return _staged({DATABASE: state.database, _BODIES: state.bodies}.get(name, state.path / name))


def _settle(database: Path) -> None:
    """Write the content of a database's write-ahead log into the database file, so that this single file is complete.

    Raises `StoreFailed` if another program has the database open.
    """
    if not database.exists():
        return
    # a damaged database is kept with its log
    with suppress(sqlite3.DatabaseError):
        with closing(sqlite3.connect(database, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if len(parts(database)) > 1:
            raise StoreFailed(f"{database}: another program has it open; end that program first")


def _swap(state: StateFiles, aside: Path) -> None:
    """Replace the present files by the restored copies beside them (`_stage`). Keep the present files in the folder
    `aside`.
    """
    for path in (state.key, *parts(state.database), *parts(state.bodies)):
        if path.exists():
            keep(path, aside)
    # a write-ahead log beside the database of another file would damage it (sqlite.org/howtocorrupt.html, 1.4)
    for part in parts(state.database)[1:]:
        part.unlink()
    for path in (state.key, state.database):
        _put(path)
    # from here on, the former journal is behind the offset of the database
    _move(state, aside / "journal")
    for staged in sorted(state.journal.glob(f".*{STAGED}")):
        _put(staged.with_name(staged.name.removeprefix(".").removesuffix(STAGED)))
    for part in parts(state.bodies):
        part.unlink()
    _put(state.bodies)
    # a backup of an older release has no versions; then the present ones stay
    if _staged(state.history).exists():
        _move_all(state.history, aside / HISTORY)
        _put(state.history)


def _put(path: Path) -> None:
    """Rename the restored copy of `path`, a file or folder, to `path`. Do nothing if there is no such copy."""
    if _staged(path).exists():
        _staged(path).replace(path)
        sync(path.parent)


def _move_all(folder: Path, aside: Path) -> None:
    """Move the files of a folder to the folder `aside`, if there are any."""
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        aside.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.replace(aside / path.name)


def _move(state: StateFiles, aside: Path) -> None:
    """Move the files of the old journal to the folder `aside`."""
    files = [segment_path(state.journal, number) for number in segment_numbers(state.journal)]
    for path in (*files, state.unreadable, *state.spools()):
        if path.exists():
            aside.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.replace(aside / path.name)
    sync(state.journal)
