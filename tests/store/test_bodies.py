"""Tests of the file in which the bodies of calls are stored.

Bodies are written to it after the call. Only its owner may read it, its size is limited, and old bodies are deleted.
"""

import asyncio
import sqlite3
import stat
import threading
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest

from gateway.call.capture import Capture
from gateway.store import bodies as module
from gateway.store.base import StoreFailed
from gateway.store.bodies import Bodies
from tests.helpers.records import logger
from tests.helpers.waiting import eventually

CANARY = b"canary-in-a-body"
ALICE = "alice@example.com"


def capture(call, *, at=None, identity=ALICE, body=CANARY):
    made = Capture((call, identity, time.time() if at is None else at), 65536, {"x-api-key": "secret-header"}, body)
    made.replied({"content-type": "text/plain"})
    made.feed(b"reply to " + call.encode())
    return made


@asynccontextmanager
async def keeping(folder, retention=None, *, start=True):
    log, out = logger()
    path = folder / "irisgate.db-bodies"
    bodies = Bodies(path, log, retention if callable(retention) else lambda: retention)
    bodies.path, bodies.out = path, out
    if start:
        bodies.start()
    try:
        yield bodies
    finally:
        await asyncio.to_thread(bodies.close)


async def logged(bodies, text):
    """Wait until the log contains this text. The log's thread writes with a short delay."""

    async def written():
        return text in bodies.out.getvalue()

    await eventually(written)


def files(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def ids(path):
    connection = sqlite3.connect(path)
    numbers = [row[0] for row in connection.execute("SELECT id FROM bodies ORDER BY id")]
    connection.close()
    return numbers


async def test_bodies_can_be_read_by_whose_they_are_and_by_nobody_else(tmp_path):
    async with keeping(tmp_path) as bodies:
        bodies.put(capture("a"))
        row = await eventually(lambda: bodies.of("a", ALICE))
        assert (row.request.body, row.reply.body) == (CANARY, b"reply to a")
        assert row.reply.headers == {"content-type": "text/plain"}
        assert await bodies.of("a", None) == row
        assert await bodies.of("a", "bob@example.com") is None
        assert await bodies.of("b", None) is None


async def test_no_file_is_made_before_there_is_a_body(tmp_path):
    async with keeping(tmp_path, retention=3600.0) as bodies:
        assert await bodies.of("a", None) is None
    assert list(tmp_path.iterdir()) == []


async def test_what_waits_is_written_at_the_end_into_a_file_for_its_owner_alone(tmp_path):
    async with keeping(tmp_path) as bodies:
        for number in range(500):
            bodies.put(capture(f"{number:03}"))
    assert len(ids(bodies.path)) == 500
    assert stat.S_IMODE(bodies.path.stat().st_mode) == 0o600
    assert b"secret-header" not in files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [bodies.path.name]


async def test_old_bodies_are_deleted_in_steps_without_a_trace(tmp_path, monkeypatch):
    """Check that old bodies are deleted in small steps, that no file has their text afterwards, and that the database's
    file becomes smaller.
    """
    monkeypatch.setattr(module, "BATCH", 7)
    async with keeping(tmp_path) as bodies:
        for number in range(30):
            bodies.put(capture(f"old-{number}", at=time.time() - 7200, body=CANARY * 500))
        bodies.put(capture("new", body=b"young"))
    size = bodies.path.stat().st_size
    async with keeping(tmp_path, retention=3600.0) as bodies:
        assert await bodies.of("old-1", None) is None

        async def only_the_new():
            return await asyncio.to_thread(ids, bodies.path) == ["new"]

        await eventually(only_the_new)
    assert CANARY not in files(tmp_path)
    assert bodies.path.stat().st_size < size / 4


async def test_a_retention_of_zero_deletes_all_and_writes_nothing(tmp_path, monkeypatch):
    """Check that a retention of zero deletes the stored bodies and writes no more of them."""
    monkeypatch.setattr(module, "EXPIRE_SECONDS", 0.05)
    retention = {"seconds": None}
    async with keeping(tmp_path, retention=lambda: retention["seconds"]) as bodies:
        bodies.put(capture("before"))
        await eventually(lambda: bodies.of("before", None))
        retention["seconds"] = 0.0
        assert await bodies.of("before", None) is None
        bodies.put(capture("after"))

        async def empty():
            return await asyncio.to_thread(ids, bodies.path) == []

        await eventually(empty)
    assert ids(bodies.path) == []
    assert CANARY not in files(tmp_path)


async def test_more_than_the_memory_bound_is_lost_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 3 * (module.OVERHEAD + 100))
    async with keeping(tmp_path, start=False) as bodies:
        for number in range(10):
            bodies.put(capture(str(number)))
        bodies.start()
    assert ids(bodies.path) == ["0", "1", "2"]
    await logged(bodies, b'"lost":7')


async def test_reads_do_not_make_a_write_fail(tmp_path, monkeypatch):
    """Check that bodies are stored while two threads continuously read them.

    A write fails at once here if the file is locked. So a read must not lock it.
    """
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.0)
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.0)
    ended = threading.Event()
    async with keeping(tmp_path) as bodies:

        def read():
            while not ended.is_set():
                bodies.read("0", None)
                time.sleep(0.001)

        readers = [asyncio.create_task(asyncio.to_thread(read)) for _ in range(2)]
        try:
            for number in range(8):
                bodies.put(capture(str(number)))
                await eventually(partial(bodies.of, str(number), None), 5)
        finally:
            ended.set()
            await asyncio.gather(*readers)


async def test_a_file_that_cannot_be_written_loses_bodies_and_tells_how_many(tmp_path):
    (tmp_path / "irisgate.db-bodies").mkdir()
    async with keeping(tmp_path) as bodies:
        bodies.put(capture("a"))
        bodies.put(capture("b"))
    await logged(bodies, b'"lost":2')
    assert b'"event":"bodies.lost"' in bodies.out.getvalue()
    with pytest.raises(StoreFailed):
        await bodies.of("a", None)


async def test_a_file_of_a_later_release_is_left_alone(tmp_path):
    connection = sqlite3.connect(tmp_path / "irisgate.db-bodies")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    before = files(tmp_path)
    async with keeping(tmp_path) as bodies:
        bodies.put(capture("a"))
    await logged(bodies, b"its schema is version 2")
    assert before
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["irisgate.db-bodies"]
