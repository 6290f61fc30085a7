"""Tests of faults of the machine on which a gateway runs. Calls continue, or are refused in their format, and the
gateway recovers.
"""

import os
import random
import sqlite3
import time
from contextlib import closing

import pytest

from gateway.call import finish
from gateway.process.command_line import main
from gateway.process.serve import CannotStart
from gateway.store import follower
from gateway.testkit.bedrock import BedrockSim
from tests.end_to_end.test_quotas import balance, limited, quota
from tests.helpers.descriptors import no_descriptor_left
from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate
from tests.helpers.hostile_http import CHAT
from tests.helpers.waiting import eventually

CHAT_PATH = "/v1/chat/completions"
BUDGET = 10**9


async def test_without_a_free_descriptor_calls_fail_in_their_format(tmp_path, bedrock_sim):
    """Check that a process that can open no more files still serves calls over its open connections to a provider.

    A call that needs a new connection gets a 503.
    """
    async with BedrockSim() as other:
        providers = {"a": bedrock(bedrock_sim.url, models=[HAIKU]), "b": bedrock(other.url, models=[NOVA])}
        async with gate(tmp_path, providers) as running:
            assert (await running.post(CHAT_PATH, {**CHAT, "model": HAIKU})).status == 200
            with no_descriptor_left():
                for _ in range(3):
                    reply = await running.post(CHAT_PATH, {**CHAT, "model": NOVA})
                    assert (reply.status, (await reply.json())["error"]["code"]) == (503, "unavailable")
                assert (await running.post(CHAT_PATH, {**CHAT, "model": HAIKU})).status == 200
                assert (await running.get("/healthz")).status == 200
                assert (await running.becomes(503))["problems"][0]["reason"] == "Too many open files"
            await running.becomes(200)
            assert (await running.post(CHAT_PATH, {**CHAT, "model": NOVA})).status == 200
            calls = await running.calls(6)
            assert [call["outcome"] for call in calls] == ["ok", *["failed"] * 3, "ok", "ok"]
            assert running.lines.data.count(b"\n") < 30


def unwritable_folder(state):
    """Put a file in place of the journal's folder, so that the journal cannot create files."""
    (state / "journal").rename(state / "away")
    (state / "journal").touch()


def removed_for_good(state):
    """Remove the state folder, and put a file in its place."""
    state.rename(state.with_name("away"))
    state.touch()


@pytest.mark.parametrize("fault", [unwritable_folder, removed_for_good])
async def test_a_state_that_cannot_be_written_refuses_no_call_and_is_reported(tmp_path, bedrock_sim, fault):
    state = tmp_path / "state"
    state.mkdir()
    async with gate(state, {"b": bedrock(bedrock_sim.url)}) as running:
        assert (await running.post(CHAT_PATH, CHAT)).status == 200
        await running.running.gateway.follower.flush()
        fault(state)
        assert (await running.post(CHAT_PATH, CHAT)).status == 200
        await running.lines.until("journal.removed")
        assert (await running.becomes(503))["disk"] == "unwritable"
        place = state if state.is_file() else state / "journal"
        place.unlink()
        await running.becomes(200)
        assert (await running.post(CHAT_PATH, CHAT)).status == 200
        # the database is new where the state folder is; the call in between is in it, because the journal kept it
        await running.running.gateway.follower.flush()
        (session,) = await running.sessions()
        assert session["calls"] == (3 if fault is unwritable_folder else 2)


async def test_a_database_that_breaks_fails_no_call_and_is_repaired(tmp_path, bedrock_sim, capfd, monkeypatch):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as running:
        assert (await running.post(CHAT_PATH, CHAT)).status == 200
        await running.running.gateway.follower.flush()
        with closing(sqlite3.connect(tmp_path / "irisgate.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        broken = tmp_path / "broken"
        broken.write_bytes(b"junk" * 5000)
        broken.replace(tmp_path / "irisgate.db")
        for _ in range(3):
            assert (await running.post(CHAT_PATH, CHAT)).status == 200
        await eventually(lambda: running.running.gateway.follower.failing)
        status, body = await running.readiness()
        assert (status, body["store"]) == (200, "failing")
        (line,) = await running.lines.until("store.write_failed")
        assert line["reason"].endswith("file is not a database; stop the gateway and run irisgate doctor --repair")
        monkeypatch.setattr(follower, "FLUSH_SECONDS", 0.1)
    monkeypatch.undo()
    with pytest.raises(CannotStart, match=r"irisgate\.db.*file is not a database; .*irisgate doctor --repair"):
        async with gate(tmp_path, {}):
            pass
    assert main(["doctor", "--state", str(tmp_path), "--repair"]) == 0
    assert "repaired database: " in capfd.readouterr().out
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as running:
        (session,) = await running.sessions()
        assert session["calls"] == 4


async def test_a_damaged_page_of_the_database_names_the_repair_or_stops_no_start(tmp_path, bedrock_sim, monkeypatch):
    """Check that a gateway starts although a page of its database is damaged, or that its error names the file and how
    to repair it.

    Every fourth page is tried, or every page if IRISGATE_ALL_OFFSETS=1 is set.
    """
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as running:
        for _ in range(3):
            assert (await running.post(CHAT_PATH, CHAT)).status == 200
    path = tmp_path / "irisgate.db"
    good, size = path.read_bytes(), 4096
    # the seconds for which a stop waits for a store that fails
    monkeypatch.setattr(follower, "FLUSH_SECONDS", 0.1)
    errors, chance = [], random.Random(0)
    for page in range(0, len(good) // size, 1 if "IRISGATE_ALL_OFFSETS" in os.environ else 4):
        path.write_bytes(good[: page * size] + chance.randbytes(size) + good[(page + 1) * size :])
        try:
            async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as running:
                assert (await running.post(CHAT_PATH, CHAT)).status == 200
        except CannotStart as error:
            errors.append(str(error))
        for part in tmp_path.glob("irisgate.db-*"):
            part.unlink()
    assert len(errors) > 1
    assert [error for error in errors if str(path) not in error or "\n" in error] == []
    assert all(error.endswith("; stop the gateway and run irisgate doctor --repair") for error in errors)


async def test_a_damaged_line_of_the_journal_stops_no_start(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}):
        pass
    left = max((tmp_path / "journal").glob("*.jsonl"))
    left.write_bytes(b"\x00\x01 nonsense\n")
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as running:
        assert (await running.post(CHAT_PATH, CHAT)).status == 200
        (line,) = await running.lines.until("journal.unreadable_lines")
        kept = tmp_path / "journal" / "unreadable"
        assert (line["kept"], kept.read_bytes()) == (str(kept), b"\x00\x01 nonsense\n")


async def test_a_clock_that_jumps_ahead_deletes_calls_and_fails_none(tmp_path, bedrock_sim, monkeypatch):
    """Check that no call fails if the clock jumps ahead by ten years, and then back.

    After the jump ahead, the stored calls are too old and are deleted. A call that is made after the jump back is kept.
    """
    real, jump = time.time, 0
    monkeypatch.setattr(follower, "time", lambda: real() + jump)
    monkeypatch.setattr(follower, "EXPIRE_SECONDS", 0.0)
    more = {"storage": {"retention": "90d"}}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, more=more) as running:
        store = running.running.gateway.store

        async def is_empty():
            return not (await store.calls(None, None, 10)).rows

        assert (await running.post(CHAT_PATH, CHAT)).status == 200
        await running.running.gateway.follower.flush()
        jump = 315_360_000
        await eventually(is_empty)
        jump = 0
        assert (await running.post(CHAT_PATH, CHAT)).status == 200
        first, second = await running.calls(2)
        await running.running.gateway.follower.flush()
        assert [row.id for row in (await store.calls(None, None, 10)).rows] == [second["id"]]
        assert (first["outcome"], (await running.readiness())[0]) == ("ok", 200)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("step", ["last_cost", "total_cost", "settle", "_record", "Balance"])
async def test_a_bug_at_the_end_of_a_call_loses_no_record(tmp_path, bedrock_sim, monkeypatch, step, stream):
    """Check that if one of a call's last steps raises an exception, the client still gets its reply, and the call is
    recorded and charged.
    """
    faults = [SystemError("a bug")]
    real = getattr(finish, step)

    def breaking(*arguments, **options):
        if faults:
            raise faults.pop()
        return real(*arguments, **options)

    monkeypatch.setattr(finish, step, breaking)
    async with limited(tmp_path, bedrock_sim, quota(BUDGET)) as gw:
        reply = await gw.post(CHAT_PATH, {**CHAT, "stream": stream})
        assert (reply.status, b"[DONE]" in reply.body) == (200, stream)
        (record,) = await gw.calls()
        assert (record["status"], record["outcome"], len(gw.lines.entries("call.crashed"))) == (200, "ok", 1)
        assert BUDGET - balance(gw) == round(record["charges_usd"]["team"] * 10**9) > 0
        assert gw.book.level("team").reserved == 0
