"""Tests of exports that are interrupted, and of two processes that export at the same time. Each call must be exported
exactly once.
"""

import asyncio
import json
import os
import random

import pytest

from gateway.config.exporters import Exporter
from gateway.process.exports import export as module
from gateway.process.exports.export import Export, ExportFailed
from gateway.process.exports.folder import FolderTarget
from gateway.store.captured import CapturedBodies, CapturedBody
from tests.helpers.forked import fork
from tests.helpers.processes import environment, irisgate
from tests.helpers.records import NOON, Kept, record
from tests.helpers.waiting import eventually
from tests.process.exports.reading import exported_ids, json_records


class Crash(Exception):
    """The exception that simulates the end of the process."""


class Crashing:
    """Passes method calls on to a store or an export destination, until it simulates a crash.

    Each method call is two steps: its beginning and its end. Each step takes a number from the iterator `left`, which
    counts down. At 0, the crash comes.
    """

    def __init__(self, inner, left):
        self._inner = inner
        self._left = left

    def __getattr__(self, name):
        method = getattr(self._inner, name)

        async def counted(*arguments, **options):
            self._step()
            result = await method(*arguments, **options)
            self._step()
            return result

        return counted

    def _step(self):
        if next(self._left) <= 0:
            raise Crash


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0)


@pytest.fixture
async def store(tmp_path):
    store = Kept(tmp_path / "state" / "irisgate.db")
    yield store
    await store.close()


def exporter(folder, **more):
    return Exporter("folder", folder, "json.gz", **{"limit": 4, **more})


async def fill(store, *names, at=NOON):
    for name in names:
        store.put(record(id=name, at=at))
    await store.flush()


async def run(store, folder, left=None, **more):
    """Export all calls. If `left` is given, crash after this number of steps. A step is the beginning or end of a
    method call (see `Crashing`).
    """
    exports, target = store.exports, FolderTarget(folder)
    if left is not None:
        steps = iter(range(left, -1, -1))
        exports, target = Crashing(exports, steps), Crashing(target, steps)
    await Export(exporter(folder, **more), exports, target, None).all(lambda _: None)


async def test_a_crash_at_any_point_leaves_neither_gap_nor_duplicate(store, tmp_path):
    await fill(store, *(f"{number:02}" for number in range(10)))
    # an object takes ten steps
    for left in range(24):
        folder = tmp_path / f"export-{left}"
        with pytest.raises(Crash):
            await run(store, folder, left)
        # calls that come after the crash, one of them late
        await fill(store, f"new-{left}")
        await fill(store, f"late-{left}", at=NOON - 3600)
        await run(store, folder, limit=50)
        stored = await store.exports.read(0, 2**62, 1000, lambda calls: [record.id for _, record in calls])
        assert exported_ids(folder) == stored
        assert all(file.name.startswith("irisgate-export-") for file in folder.iterdir())


async def test_calls_that_expire_during_a_crash_stay_in_the_object(store, tmp_path):
    await fill(store, "a", "b")
    with pytest.raises(Crash):
        await run(store, tmp_path / "out", 10)
    assert exported_ids(tmp_path / "out") == ["a", "b"]
    assert (await store.exports.position(exporter(tmp_path / "out").name)).object
    assert await store.expire(NOON + 1, 1) == 1
    await run(store, tmp_path / "out")
    await fill(store, "c")
    await run(store, tmp_path / "out")
    assert exported_ids(tmp_path / "out") == ["a", "b", "c"]


async def test_two_processes_export_each_call_once(store, tmp_path):
    other = Kept(tmp_path / "state" / "irisgate.db")
    await fill(store, *(f"{number:02}" for number in range(20)))
    await asyncio.gather(run(store, tmp_path / "out"), run(other, tmp_path / "out"))
    await other.close()
    assert exported_ids(tmp_path / "out") == [f"{number:02}" for number in range(20)]


async def test_an_object_ends_at_its_number_of_calls_or_its_size(store, tmp_path, monkeypatch):
    await fill(store, *"abcdef")
    await run(store, tmp_path / "one")
    assert [len(json_records(file.read_bytes())) for file in sorted((tmp_path / "one").iterdir())] == [4, 2]
    monkeypatch.setattr(module, "MAX_BYTES", 1)
    await run(store, tmp_path / "two")
    assert len(list((tmp_path / "two").iterdir())) == 6


async def test_bodies_are_exported_only_if_that_is_asked_for(store, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0)
    await fill(store, "a", "b")
    body = CapturedBody({}, b"hello", cut=False)
    bodies = {"a": CapturedBodies("a", "ada@example.com", NOON, body, body)}
    for name, asked in (("with", True), ("without", False)):
        target = FolderTarget(tmp_path / name)
        await Export(exporter(tmp_path / name, bodies=asked), store.exports, target, bodies.get).all(lambda _: None)
    (file,) = (tmp_path / "with").iterdir()
    first, second = json_records(file.read_bytes())
    assert first["capture"]["requestBody"] == "hello"
    assert "capture" not in second
    (file,) = (tmp_path / "without").iterdir()
    assert all("capture" not in each for each in json_records(file.read_bytes()))


async def test_an_ended_export_does_not_hold_its_thread(store, tmp_path):
    await fill(store, *(f"{number:03}" for number in range(60)))
    export = Export(exporter(tmp_path / "out", limit=100), store.exports, FolderTarget(tmp_path / "out"), None)
    export.end()
    with pytest.raises(ExportFailed, match="was ended"):
        await export.all(lambda _: None)
    assert not (tmp_path / "out").exists()


def test_a_file_that_a_killed_process_has_begun_is_removed(tmp_path):
    target = FolderTarget(tmp_path)
    (tmp_path / ".a.0123.part").write_bytes(b"half")
    os.utime(tmp_path / ".a.0123.part", (NOON, NOON - 7200))
    (tmp_path / ".b.0123.part").write_bytes(b"another process writes it now")
    target.write("a", b"whole", again=True)
    target.write("a", b"less", again=True)
    content = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert content == {"a": b"whole", ".b.0123.part": b"another process writes it now"}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


async def test_a_killed_command_leaves_neither_gap_nor_duplicate(store, tmp_path):
    """Check that each call is exported exactly once if `irisgate export` is killed at random moments, and then run
    again.
    """
    await fill(store, *(f"{number:04}" for number in range(600)))
    folder = tmp_path / "out"
    config = tmp_path / "config.hujson"
    config.write_text(json.dumps({"exporters": {"folder": {"path": "out", "format": "json.gz", "limit": 20}}}))
    command = ("export", "--config", str(config), "--state", str(tmp_path / "state"))
    moments = random.Random(1)
    for _ in range(2):
        process = await fork(command, cwd=tmp_path, env=environment(tmp_path))
        files = len(list(folder.glob("*")))
        await eventually(lambda files=files: len(list(folder.glob("*"))) > files)
        await asyncio.sleep(moments.uniform(0, 0.02))
        process.kill()
        await process.wait()
    status, out, err = await irisgate(tmp_path, *command)
    assert (status, err) == (0, "")
    assert "calls in" in out
    assert exported_ids(folder) == [f"{number:04}" for number in range(600)]
