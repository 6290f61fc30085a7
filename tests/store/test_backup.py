"""Tests of backups of a state folder, and of restoring them. Some backups are made while a gateway writes to the
folder.
"""

import asyncio
import itertools
import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.config.history import HISTORY, History, Version
from gateway.process.doctor.state import StateFolder, checks
from gateway.store import state_files
from gateway.store.backup import MANIFEST, back_up
from gateway.store.base import JournalOffset, StoreFailed
from gateway.store.bodies import Bodies
from gateway.store.captured import CapturedBodies, CapturedBody
from gateway.store.entries import Entry, encode
from gateway.store.file import connect, prepare
from gateway.store.follower import JournalFollower
from gateway.store.journal import Journal, locked
from gateway.store.restore import restore, unfinished
from gateway.store.schema import MIGRATIONS
from gateway.store.sqlite import SqliteStore
from gateway.store.state_files import StateFiles
from gateway.store.writing import write
from tests.helpers.records import logger, record
from tests.helpers.waiting import eventually

CALLS = 60
JOURNAL_CALLS = 20
SPOOL = "replaced-4711-0a1b2c3d"
SEGMENT = "000000000001.jsonl"
NOW = time.time()
CHANGES = {"os.rename", "os.remove", "os.link", "os.mkdir", "sqlite3.connect", "shutil.rmtree"}
"""Names of Python's audit events at which a test may kill a process. Another such moment is the creation of a file."""


class Body:
    """The bodies of a call, as an argument of `Bodies.put`."""

    def __init__(self, call, at=NOW):
        self.size = 10
        self._bodies = CapturedBodies(call, "", at, *[CapturedBody({}, b"hello", cut=False)] * 2)

    def redacted(self):
        return self._bodies


def call(number, **changes):
    return record(id=f"c{number}", session_id=f"s{number % 7}", at=NOW - 86_400 + number, **changes)


def files(path):
    return StateFiles(path, path / "irisgate.db")


def version(number):
    """Return a version of the configuration. Its time and its text depend on the number."""
    return Version(at=NOW + number, who="file", etag=f"{number:08x}", changed=(), text=f"{{}} // {number}")


def make_state(folder, numbers, *, journal=(), versions=()):
    """Make a state folder. The database has the calls with the numbers `numbers`, the journal has those with the
    numbers `journal`, and the history has the versions of the configuration.
    """
    state = files(folder)
    state.journal.mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    prepare(state.database)
    with closing(connect(state.database)) as connection:
        write(connection, [Entry(call=call(number)) for number in numbers], JournalOffset(1, 0))
    lines = b"".join(encode(Entry(call=call(number))) + b"\n" for number in journal)
    private(state.journal / SEGMENT, lines + (b'{"torn' if lines else b""))
    private(state.key, bytes([len(numbers) % 256]) * 32)
    for version in versions:
        History(state.history).add(version)
    bodies = Bodies(state.bodies, logger()[0], lambda: None)
    bodies.start()
    for number in numbers:
        bodies.put(Body(f"c{number}"))
    bodies.close()
    return state


def private(path, data):
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_bytes(data)
    path.chmod(0o600)


@pytest.fixture
def state(tmp_path):
    journal = range(CALLS, CALLS + JOURNAL_CALLS)
    return make_state(tmp_path / "state", range(CALLS), journal=journal, versions=[version(1), version(2)])


@pytest.fixture
def backup(state, tmp_path):
    back_up(state, tmp_path / "backup", release="1.2.3")
    return files(tmp_path / "backup")


def column(path, query):
    with closing(sqlite3.connect(path)) as connection:
        return {value for (value,) in connection.execute(query)}


def calls(state):
    return column(state.database, "SELECT id FROM calls")


def bodies(state):
    if not state.bodies.exists() or not column(state.bodies, "SELECT name FROM sqlite_schema"):
        return set()
    return column(state.bodies, "SELECT id FROM bodies")


def texts(state):
    """Return the texts of the stored versions of the configuration, the newest first."""
    history = History(state.history)
    return [history.version(name).text for name, _ in history.changes()]


def named(*numbers):
    return {f"c{number}" for number in numbers}


def faults(state):
    """Return what `irisgate doctor` finds in a state folder."""
    results = checks(StateFolder(state.path, state.database, repair=False))
    return [result for result in results if result.state != "ok" and result.check != "disk"]


def content(folder):
    """Return a dict from the path of each file in a folder to its content. The lock file and the index of a write-ahead
    log are left out.
    """
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if not path.name.endswith("-shm")}


def test_a_backup_has_what_the_journal_alone_has(backup):
    assert calls(backup) == named(*range(CALLS + JOURNAL_CALLS))
    assert bodies(backup) == named(*range(CALLS))
    assert backup.key.read_bytes() == bytes([CALLS]) * 32
    assert faults(backup) == []
    assert {path.stat().st_mode & 0o077 for path in backup.path.rglob("*")} == {0}
    manifest = json.loads((backup.path / MANIFEST).read_text())
    assert (manifest["calls"], manifest["release"]) == (CALLS + JOURNAL_CALLS, "1.2.3")
    versions = [f"config-history/{path.name}" for path in sorted(backup.history.iterdir())]
    assert sorted(manifest["files"]) == [*versions, "irisgate.db", "irisgate.db-bodies", "session.key"]
    assert texts(backup) == ["{} // 2", "{} // 1"]


def test_a_backup_changes_nothing_of_the_state(state, tmp_path):
    before = content(state.path)
    back_up(state, tmp_path / "backup", release="1")
    back_up(state, tmp_path / "another", release="1", bodies=False)
    assert content(state.path) == before
    assert not files(tmp_path / "another").bodies.exists()


def test_lines_of_another_release_and_spools_come_along(state, tmp_path):
    other = b'{"of": "another release"}'
    private(state.unreadable, b"old\n")
    private(state.journal / "000000000002.jsonl", other + b"\n")
    private(state.journal / SPOOL / SEGMENT, encode(Entry(call=call(99))) + b"\n")
    back_up(state, tmp_path / "backup", release="1")
    restored = files(tmp_path / "restored")
    restore(tmp_path / "backup", restored, aside=tmp_path / "aside")
    assert restored.unreadable.read_bytes() == b"old\n" + other + b"\n"
    assert (restored.journal / SPOOL / SEGMENT).read_bytes() == (state.journal / SPOOL / SEGMENT).read_bytes()


def test_what_a_killed_backup_left_is_removed_by_the_next(state, tmp_path):
    private(tmp_path / ".backup.partial" / "journal" / "half", b"x")
    back_up(state, tmp_path / "backup", release="1")
    assert not (tmp_path / "backup" / "journal" / "half").exists()
    assert not (tmp_path / ".backup.partial").exists()


def test_the_history_is_where_the_gateway_keeps_it():
    assert state_files.HISTORY == HISTORY


def test_backups_while_versions_are_saved_and_removed_have_only_whole_ones(state, tmp_path, monkeypatch):
    """Check that each backup has only complete versions of the configuration, and lists them in its manifest, although
    a thread saves versions during the backups.

    Only three versions are kept here, so each save also removes one.
    """
    monkeypatch.setattr("gateway.config.history.KEPT", 3)
    history, ended, saved = History(state.history), threading.Event(), itertools.count(3)

    def saving():
        while not ended.is_set():
            history.add(version(next(saved)))

    thread = threading.Thread(target=saving)
    thread.start()
    try:
        for number in range(5):
            made = files(tmp_path / f"backup{number}")
            manifest = back_up(state, made.path, release="1")
            names = {name for name in manifest.files if name.startswith("config-history/")}
            assert names == {f"config-history/{path.name}" for path in made.history.iterdir()}
            assert len(texts(made)) == len(names)
            assert all(text.startswith("{} // ") for text in texts(made))
    finally:
        ended.set()
        thread.join()


def test_a_backup_without_versions_leaves_the_present_ones(state, tmp_path):
    """Check that restoring a backup without versions of the configuration keeps the present versions. Backups of older
    releases have no versions.
    """
    shutil.rmtree(state.history)
    back_up(state, tmp_path / "backup", release="1")
    assert not (tmp_path / "backup" / "config-history").exists()
    present = make_state(tmp_path / "present", range(3), versions=[version(7)])
    restore(tmp_path / "backup", present, aside=tmp_path / "aside")
    assert texts(present) == ["{} // 7"]
    assert not (tmp_path / "aside" / "config-history").exists()


def test_restored_versions_replace_the_present_ones_which_are_kept(backup, tmp_path):
    present = make_state(tmp_path / "present", range(3), versions=[version(7)])
    private(present.history / ".half-written", b"{")
    restore(backup.path, present, aside=tmp_path / "aside")
    assert texts(present) == ["{} // 2", "{} // 1"]
    assert texts(files(tmp_path / "aside")) == ["{} // 7"]
    assert [path.name for path in present.history.iterdir() if path.name.startswith(".")] == []


def old_schema(state):
    with closing(sqlite3.connect(state.database)) as connection:
        connection.execute("PRAGMA user_version = 1")


def damaged(state):
    data = bytearray(state.database.read_bytes())
    data[:100] = bytes(100)
    state.database.write_bytes(data)


@pytest.mark.parametrize(
    ("prepared", "message"),
    [
        (lambda state: state.database.unlink(), "there is no database"),
        (old_schema, "use the release that serves"),
        (damaged, "see irisgate doctor"),
        (lambda state: (state.path.parent / "backup").mkdir(), "exists; name a new folder"),
    ],
    ids=["no database", "older schema", "damaged", "existing"],
)
def test_a_backup_that_cannot_be_made_leaves_nothing(state, tmp_path, prepared, message):
    prepared(state)
    before = content(tmp_path)
    with pytest.raises(StoreFailed, match=message):
        back_up(state, tmp_path / "backup", release="1")
    assert content(tmp_path) == before
    assert not (tmp_path / ".backup.partial").exists()


def test_a_full_disk_is_noticed_before_anything_is_copied(state, backup, tmp_path, monkeypatch):
    monkeypatch.setattr(state_files, "SPARE_BYTES", 2**62)
    before = content(tmp_path)
    with pytest.raises(StoreFailed, match=r"MB are needed and .* MB are free"):
        back_up(state, tmp_path / "more", release="1")
    with pytest.raises(StoreFailed, match=r"MB are needed and .* MB are free"):
        restore(backup.path, state, aside=tmp_path / "aside", replace=True)
    assert content(tmp_path) == before


async def test_backups_of_a_state_that_is_being_written_are_whole(tmp_path):
    """Check that a backup of a state folder in use is consistent: it has all calls up to some moment and no later ones,
    and each body belongs to one of these calls.

    The journal's files are small here, so some of them are written to the database and deleted during a backup.
    """
    state = files(tmp_path / "state")
    log, _ = logger()
    store = SqliteStore(state.database)
    journal = Journal(state.journal, log, segment_bytes=50_000)
    follower = JournalFollower(journal, store, log)
    await follower.start()
    kept = Bodies(state.bodies, log, lambda: None)
    kept.start()
    count = 0

    async def writing():
        nonlocal count
        while True:
            follower.put(Entry(call=call(count)))
            kept.put(Body(f"c{count}"))
            count += 1
            if count % 5 == 0:
                await asyncio.sleep(0.001)

    task = asyncio.create_task(writing())
    await eventually(lambda: count > 200 and bodies(state))
    for number in range(6):
        before = count
        made = files(tmp_path / f"backup{number}")
        manifest = await asyncio.to_thread(back_up, state, made.path, release="1")
        assert calls(made) == named(*range(manifest.calls))
        assert before <= manifest.calls <= count
        assert bodies(made) <= calls(made)
        assert faults(made) == []
    task.cancel()
    await follower.close()
    await store.close()
    kept.close()
    assert len(bodies(made)) > 0


def test_a_restored_state_continues_as_the_backup_was(backup, tmp_path):
    state = files(tmp_path / "restored")
    restored = restore(backup.path, state, aside=tmp_path / "aside")
    assert restored.former is None
    assert calls(state) == calls(backup)
    assert bodies(state) == bodies(backup)
    assert state.key.read_bytes() == backup.key.read_bytes()
    assert faults(state) == []
    assert unfinished(state) == []


async def applied(state):
    """Let a `JournalFollower` write the records of the journal, and that of one more call, to the database."""
    log, _ = logger()
    store = SqliteStore(state.database)
    journal = Journal(state.journal, log, after=store.start_offset.segment)
    follower = JournalFollower(journal, store, log)
    await follower.start()
    follower.put(Entry(call=call(500)))
    await follower.close()
    await store.close()


async def test_former_files_are_kept_and_never_applied_to_the_restored_store(backup, state, tmp_path):
    private(state.journal / "000000000007.jsonl", encode(Entry(call=call(900))) + b"\n")
    private(state.journal / SPOOL / SEGMENT, encode(Entry(call=call(901))) + b"\n")
    aside = state.path / "before-restore-1"
    restored = restore(backup.path, state, aside=aside, replace=True)
    await applied(state)
    assert calls(state) == calls(backup) | named(500)
    assert restored.former == aside
    assert calls(files(aside)) == named(*range(CALLS))
    assert (aside / "journal" / "000000000007.jsonl").exists()
    assert (aside / "journal" / SPOOL / SEGMENT).exists()
    assert faults(state) == []


def newer_call(state):
    with closing(connect(state.database)) as connection:
        write(connection, [Entry(call=call(2000))], JournalOffset(9, 0))


def newer_schema(state):
    with closing(sqlite3.connect(state.database)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")


REPLACEABLE = {
    "newer calls": (newer_call, "its last call is of"),
    "lines of the journal": (lambda state: None, "its journal has lines"),
    "later release": (newer_schema, "add --replace"),
    "damaged": (damaged, "add --replace"),
}


@pytest.mark.parametrize("name", REPLACEABLE)
def test_a_newer_or_damaged_store_is_replaced_only_on_request(backup, state, tmp_path, name):
    prepared, message = REPLACEABLE[name]
    prepared(state)
    before = content(state.path)
    with pytest.raises(StoreFailed, match=message):
        restore(backup.path, state, aside=tmp_path / "aside")
    assert content(state.path) == before
    restore(backup.path, state, aside=tmp_path / "aside", replace=True)
    assert calls(state) == calls(backup)
    assert faults(state) == []
    assert content(tmp_path / "aside")["irisgate.db"] == before["irisgate.db"]


@contextmanager
def gateway_running(state):
    with locked(state.journal):
        yield


@contextmanager
def replaced_process_running(state):
    (state.journal / SPOOL).mkdir()
    with locked(state.journal / SPOOL):
        yield


@contextmanager
def open_elsewhere(state):
    with closing(sqlite3.connect(state.database)) as reader:
        reader.execute("SELECT count(*) FROM calls").fetchone()
        yield


@contextmanager
def foreign(state):
    state.database.unlink()
    with closing(sqlite3.connect(state.database)) as connection:
        connection.execute("CREATE TABLE notes (text)")
    yield


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (gateway_running, "a gateway runs on"),
        (replaced_process_running, "a gateway runs on"),
        (open_elsewhere, "another program has it open"),
        (foreign, "is not replaced"),
    ],
)
def test_a_store_in_use_is_never_replaced(backup, state, tmp_path, held, message):
    with held(state):
        before = state.database.read_bytes()
        with pytest.raises(StoreFailed, match=message):
            restore(backup.path, state, aside=tmp_path / "aside", replace=True)
        assert state.database.read_bytes() == before
    assert not (tmp_path / "aside").exists()


def manifest_with(**changes):
    def change(backup):
        path = backup.path / MANIFEST
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def flipped(backup):
    data = bytearray(backup.database.read_bytes())
    data[5000] ^= 1
    backup.database.write_bytes(data)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (flipped, "is not as it was"),
        (lambda backup: backup.key.unlink(), "is not as it was"),
        (lambda backup: (backup.path / MANIFEST).unlink(), "is no backup of irisgate"),
        (lambda backup: (backup.path / MANIFEST).write_bytes(b"\xff{"), "is no backup of irisgate"),
        (manifest_with(schema=len(MIGRATIONS) + 1), "restore it with that release"),
        (manifest_with(files={}), "it has no database"),
        (
            manifest_with(files={"../x": {"bytes": 1, "sha256": ""}, "irisgate.db": {"bytes": 1, "sha256": ""}}),
            "it names '../x'",
        ),
        (
            manifest_with(
                files={"config-history/../x": {"bytes": 1, "sha256": ""}, "irisgate.db": {"bytes": 1, "sha256": ""}}
            ),
            "it names 'config-history/../x'",
        ),
    ],
    ids=[
        "flipped bit",
        "no key",
        "no manifest",
        "no text",
        "later release",
        "no database",
        "outside",
        "out of the history",
    ],
)
def test_a_backup_that_is_not_sound_restores_nothing(backup, tmp_path, changed, message):
    changed(backup)
    state = files(tmp_path / "restored")
    with pytest.raises(StoreFailed, match=message):
        restore(backup.path, state, aside=tmp_path / "aside")
    assert not state.path.exists()


def die_before(work, number):
    """Run `work` in a forked process, and kill this process at its change number `number`, counted from 0.

    A change is an event in `CHANGES`, or the creation of a file. Return whether the process was killed. It is not
    killed if it makes fewer changes.
    """
    child = os.fork()
    if not child:
        seen = 0

        def hook(event, arguments):
            nonlocal seen
            if event in CHANGES or (event == "open" and arguments[2] & os.O_CREAT):
                seen += 1
                if seen > number:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_restore_killed_anywhere_leaves_the_former_or_the_new_store(tmp_path):
    former = make_state(tmp_path / "former", range(5), versions=[version(1)])
    made = make_state(tmp_path / "made", range(100, 112), journal=[112], versions=[version(2), version(3)])
    back_up(made, tmp_path / "backup", release="1")
    old, new = named(*range(5)), named(*range(100, 113))
    outcomes, number = [], 0
    killed = True
    while killed:
        state = files(tmp_path / f"state{number}")
        state.path.mkdir(0o700)
        for path, data in content(former.path).items():
            private(state.path / path, data)

        def work(state=state):
            restore(tmp_path / "backup", state, aside=state.path / "aside")

        killed = die_before(work, number)
        outcomes.append(calls(state))
        assert outcomes[-1] in (old, new)
        assert texts(state) in (["{} // 1"], [], ["{} // 3", "{} // 2"])
        assert [fault for fault in faults(state) if fault.state == "error"] == []
        assert bool(unfinished(state)) == any("ended before its time" in fault.message for fault in faults(state))
        again = state.path / "again"
        restore(tmp_path / "backup", state, aside=again)
        assert (calls(state), bodies(state), faults(state)) == (new, named(*range(100, 112)), [])
        assert texts(state) == ["{} // 3", "{} // 2"]
        kept = [files(aside) for aside in (state.path / "aside", again)]
        assert any(texts(aside) == ["{} // 1"] for aside in kept)
        number += 1
    assert len(outcomes) > 20
    assert outcomes == sorted(outcomes, key=lambda outcome: outcome == new)
    assert Path(tmp_path / f"state{number - 1}" / "aside" / "irisgate.db").exists()
