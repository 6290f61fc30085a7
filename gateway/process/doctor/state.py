"""Checks of the state folder: its permissions and its disk, the journal, the database, the quotas and the clock.

A repair moves damaged files into a separate folder, and makes new files from the readable parts (`store/repair.py`).
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Final

from gateway.call.sessions import load_key
from gateway.process.doctor import postgres
from gateway.process.doctor.result import REPAIR, Result, error, ok, repaired, warning
from gateway.store.base import rfc3339
from gateway.store.bodies import bodies_path
from gateway.store.disk_probe import DiskProbe
from gateway.store.examine import Database, Segment, examine_database, examine_segment, opened
from gateway.store.journal import WAITING_BYTES
from gateway.store.postgres.address import Address
from gateway.store.repair import (
    move_aside,
    rebuild_database,
    rebuild_sums,
    repair_segment,
    retry_unreadable,
)
from gateway.store.restore import unfinished
from gateway.store.segments import UNREADABLE, segment_numbers, segment_path
from gateway.store.state_files import StateFiles

LITTLE_BYTES: Final = 4 * WAITING_BYTES
"""Number of free bytes below which the disk may soon be full: four times the size of the journal's queue in memory."""
CLOCK_SECONDS: Final = 60.0
"""Maximum number of seconds by which the last record may be later than the clock. The clocks of virtual machines may
jump back.
"""


@dataclass(frozen=True, slots=True)
class StateFolder:
    """A state folder to be checked, and the files in it."""

    path: Path
    database: Path
    """The path of the SQLite file. The path of the bodies' file is derived from it.

    If the store is in PostgreSQL, there is no file at this path."""
    repair: bool
    postgres: Address | None = None
    """The database of a store in PostgreSQL. It is None for a store in SQLite."""

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def bodies(self) -> Path:
        return bodies_path(self.database)

    @property
    def aside(self) -> Path:
        """The folder into which a repair moves the damaged files."""
        return self.path / f"damaged-{_STARTED}"


_STARTED: Final = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def checks(state: StateFolder) -> Iterator[Result]:
    """Yield the results of all checks of an existing state folder.

    Files of another user are not opened, because SQLite would then create files that the other user cannot open.
    """
    for path in (state.database, state.journal):
        if path.exists() and (owner := path.stat().st_uid) != os.geteuid():
            message = f"{path} belongs to the user {owner}, and this is the user {os.geteuid()}"
            yield error("state folder", message, "run this command as the user of the gateway")
            return
    yield _permissions(state)
    if left := unfinished(StateFiles(state.path, state.database)):
        yield warning("state folder", f"a restore was ended before its time and left {left[0]}", "run it again")
    yield from _disk(state)
    yield _key(state)
    yield from _journal(state)
    yield from _database(state) if state.postgres is None else postgres.checks(state.postgres, repair=state.repair)
    yield from _bodies(state)


def _permissions(state: StateFolder) -> Result:
    check = "state folder"
    paths = [state.path, *state.path.rglob("*"), state.database, state.bodies]
    shared = [path for path in dict.fromkeys(paths) if _is_shared(path)]
    if not shared:
        return ok(check, f"{state.path} is readable by its owner alone")
    if state.repair:
        for path in shared:
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o077)
        return repaired(check, f"{len(shared)} files were open to other users, such as {shared[0]}")
    message = f"{len(shared)} files are open to other users, such as {shared[0]}"
    return warning(check, message, f"chmod go= them, or {REPAIR}")


def _is_shared(path: Path) -> bool:
    """Return whether other users can access a file or folder of this user.

    The result is False for sockets and for files of other users, because their modes may be intended. It is also False
    for a missing file.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    is_plain = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    return is_plain and status.st_uid == os.geteuid() and status.st_mode & 0o077 != 0


def _disk(state: StateFolder) -> Iterator[Result]:
    if fault := DiskProbe(state.path).fault():
        yield error("disk", f"{state.path} cannot be written: {fault}", "make room, or make the folder writable")
        return
    space = os.statvfs(state.path)
    free = space.f_bavail * space.f_frsize
    megabytes = f"{free // 1_000_000} MB"
    if free < LITTLE_BYTES:
        yield warning("disk", f"{megabytes} are free", "make room; a gateway on a full disk refuses calls in the end")
    elif space.f_files and space.f_favail < 100:
        yield warning("disk", f"{space.f_favail} more files can be made", "remove files; the disk has no more inodes")
    else:
        yield ok("disk", f"{megabytes} are free")


def _key(state: StateFolder) -> Result:
    if not (state.path / "session.key").exists():
        return ok("session.key", "the first start makes it")
    try:
        load_key(state.path)
    except (OSError, ValueError) as failure:
        return error("session.key", str(failure), "delete it; recognised sessions and entity tags begin anew")
    return ok("session.key", "is a key")


def _journal(state: StateFolder) -> Iterator[Result]:
    numbers = sorted(segment_numbers(state.journal))
    lines = 0
    for path in (segment_path(state.journal, number) for number in numbers):
        try:
            segment = examine_segment(path)
        except FileNotFoundError:
            continue  # the running gateway has applied and removed it
        except OSError as failure:
            yield error("journal", f"{path}: {failure.strerror}", "give the gateway's user the right to read it")
            continue
        lines += segment.lines - len(segment.bad)
        yield from _segment(state, segment)
    yield ok("journal", f"{lines} lines in {len(numbers)} files can be read")
    yield from _unreadable(state, numbers)


def _segment(state: StateFolder, segment: Segment) -> Iterator[Result]:
    damaged = [line for line in segment.bad if line.state != "unknown"]
    if damaged and state.repair:
        repair_segment(segment, state.aside)
        yield repaired("journal", f"{segment.path}: {len(damaged)} damaged lines are kept in {state.aside}")
    for line in segment.bad:
        place = f"{segment.path}: the line at byte {line.start}"
        match line.state:
            case "unknown":
                yield warning("journal", f"{place} is of another release", "run the release that wrote it")
            case "torn" if not state.repair:
                yield warning("journal", f"{place} has no end, as after a kill or a power cut", f"nothing, or {REPAIR}")
            case "damaged" if not state.repair:
                yield error("journal", f"{place} is damaged", REPAIR)


def _unreadable(state: StateFolder, numbers: Sequence[int]) -> Iterator[Result]:
    path = state.journal / UNREADABLE
    if not path.exists():
        return
    if state.repair:
        following = segment_path(state.journal, max(numbers, default=0) + 1)
        if again := retry_unreadable(path, following, state.aside):
            yield repaired("journal", f"{path}: {again} lines can be read by now and are applied at the next start")
    if rest := path.read_bytes().count(b"\n"):
        remedy = "run irisgate doctor --repair of the release that wrote them; otherwise remove the file"
        yield warning("journal", f"{path}: {rest} lines could not be read", remedy)


def _database(state: StateFolder) -> Iterator[Result]:
    path = state.database
    database = examine_database(path)
    if database.state == "damaged" and state.repair:
        rows = rebuild_database(path, state.aside)
        kept = ", ".join(f"{count} of {name}" for name, count in rows.items() if name in _SHOWN)
        yield repaired("database", f"{path} is made anew from the rows that could be read ({kept}), and the damaged "
                       f"file is kept in {state.aside}; the next start adds what the journal has")  # fmt: skip
        database = examine_database(path)
    if database.state not in {"good", "missing"}:
        yield error("database", f"{path}: {database.detail}", _REMEDIES[database.state])
        return
    about = database.detail or (
        "the first start makes it" if database.state == "missing" else f"{database.calls} calls"
    )
    yield ok("database", f"{path}: {about}")
    yield from _contents(state, database)
    yield _clock(database)


_SHOWN: Final = frozenset({"calls", "sessions", "balances"})
_REMEDIES: Final = {
    "damaged": REPAIR,
    "newer": "run the release that wrote it, or restore a backup",
    "foreign": "set storage.url to a file of its own",
    "locked": "end the other program that has locked it",
    "unreadable": "look at the file's owner and permissions, and at the disk",
}


def _contents(state: StateFolder, database: Database) -> Iterator[Result]:
    """Yield results about the content of a database whose structure is intact.

    If some stored sums do not include all calls and `state.repair` is true, compute the sums anew.
    """
    if database.wrong_sums and state.repair:
        rebuild_sums(state.database)
        yield repaired("database", f"{database.wrong_sums} sums lacked calls, and are counted again")
    elif database.wrong_sums:
        yield error("database", f"{database.wrong_sums} sums lack calls that are stored", REPAIR)
    if database.wrong_balances:
        names = ", ".join(database.wrong_balances[:5])
        yield error("quotas", f"the balances of {names} cannot be used", "restore a backup, or refill these buckets")
    else:
        yield ok("quotas", "the balances can be used")
    if database.wrong_open_calls:
        message = f"{database.wrong_open_calls} calls that were sent and have no end cannot be read"
        yield error("database", message, "run the release that wrote them")


def _clock(database: Database) -> Result:
    ahead = database.last_at - time()
    if ahead > CLOCK_SECONDS:
        last = rfc3339(database.last_at)
        remedy = "set the clock; the windows of quotas and the retention of calls go by it"
        return error("clock", f"it is {ahead:.0f} seconds behind the last record, which is of {last}", remedy)
    return ok("clock", f"it is {rfc3339(time())}")


def _bodies(state: StateFolder) -> Iterator[Result]:
    path = state.bodies
    if not path.exists():
        return
    fault = _integrity(path)
    if not fault:
        yield ok("bodies", f"{path} can be read")
    elif state.repair:
        move_aside(path, state.aside)
        yield repaired("bodies", f"{path} is damaged and kept in {state.aside}; the next body begins a new file")
    else:
        yield error("bodies", f"{path}: {fault}", REPAIR)


def _integrity(path: Path) -> str:
    try:
        with opened(path) as connection:
            fault = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.Error as failure:
        return str(failure)
    return "" if fault == "ok" else fault
