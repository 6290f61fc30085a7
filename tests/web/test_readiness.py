"""Tests of the reply of /readyz: 503 while calls are refused or records may be lost, and each fault with its remedy."""

import asyncio
import json
import socket
import sqlite3
import threading
from contextlib import asynccontextmanager
from datetime import datetime

import pytest

from gateway.access.identity.localapi import LocalApi
from gateway.store import disk_probe
from gateway.store.disk_probe import DiskProbe
from gateway.testkit.localapi import LocalApiSim
from gateway.web import readiness
from gateway.web.readiness import CHECKS, READINESS
from tests.helpers.gateway import bedrock, gate
from tests.helpers.hostile_http import CHAT
from tests.helpers.waiting import eventually, eventually_without_a_loop
from tests.store.test_journal import room

GOOD = {check.name: check.good for check in CHECKS}


async def metric(running, name):
    text = await (await running.get("/metrics")).text()
    (line,) = [line for line in text.splitlines() if line.startswith(f"irisgate_{name} ")]
    return float(line.split()[-1])


@pytest.fixture
async def running(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gated:
        yield gated


async def test_a_gateway_without_a_fault_is_ready(running):
    assert await running.readiness() == (200, {"status": "ready", **GOOD, "problems": []})
    assert await metric(running, "ready") == 1
    for name in GOOD:
        assert await metric(running, f'check_failing{{check="{name}"}}') == 0


async def test_a_full_disk_is_seen_before_the_first_call(running):
    with room(0):
        body = await running.becomes(503)
        assert (body["status"], body["disk"]) == ("unready", "unwritable")
        (problem,) = body["problems"]
        assert (problem["reason"], problem["refuses_calls"]) == ("File too large", True)
        assert "Make room" in problem["remedy"]
        assert await metric(running, "journal_full") == 1
        assert await metric(running, "ready") == 0
        assert await metric(running, 'check_failing{check="disk"}') == 1
    await running.becomes(200)
    assert await metric(running, "journal_full") == 0


async def test_records_that_wait_in_memory_are_seen_at_once(running, monkeypatch):
    monkeypatch.setattr(disk_probe, "KNOWN_SECONDS", 3600.0)
    assert (await running.readiness())[0] == 200
    with room(0):
        assert (await running.post("/v1/chat/completions", CHAT)).status == 200
        status, body = await running.readiness()
        assert (status, body["disk"], body["problems"][0]["reason"]) == (503, "unwritable", "lines wait in memory")
        assert await metric(running, "journal_waiting_bytes") > 0
        assert await metric(running, "journal_full") == 1
    await running.becomes(200)
    assert await metric(running, "journal_waiting_bytes") == 0


async def test_a_store_that_refuses_is_reported_and_calls_go_on(tmp_path, running):
    holder = sqlite3.connect(tmp_path / "irisgate.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert (await running.post("/v1/chat/completions", CHAT)).status == 200
    await eventually(lambda: running.running.gateway.follower.failing)
    status, body = await running.readiness()
    assert (status, body["status"], body["store"]) == (200, "ready", "failing")
    assert [problem["refuses_calls"] for problem in body["problems"]] == [False]
    assert await metric(running, "store_failing") == 1
    holder.execute("ROLLBACK")
    holder.close()
    await eventually(lambda: not running.running.gateway.follower.failing)
    assert (await running.readiness())[1]["store"] == "working"


async def test_a_refused_key_takes_no_gateway_out_of_rotation(running, bedrock_sim):
    bedrock_sim.keys = {"another"}
    assert (await running.post("/v1/chat/completions", CHAT)).status == 502
    status, body = await running.readiness()
    assert (status, body["keys"]) == (200, "refused")
    assert await metric(running, 'check_failing{check="keys"}') == 1
    assert await metric(running, "ready") == 1


async def test_nothing_of_the_configuration_is_in_the_reply(tmp_path, running, bedrock_sim):
    bedrock_sim.keys = {"another"}
    await running.post("/v1/chat/completions", CHAT)
    running.running.gateway.config_error = "/etc/irisgate/config.hujson:1:1: secret"
    text = await (await running.get("/readyz")).text()
    assert not [word for word in ("secret", str(tmp_path), bedrock_sim.url, '"b"') if word in text]


async def test_a_stop_is_told_at_once(running):
    running.running.gateway.draining = True
    status, body = await running.readiness()
    assert (status, body["status"], body["problems"]) == (503, "draining", [])
    assert await metric(running, "ready") == 0
    running.running.gateway.draining = False


async def test_a_probe_may_ask_for_the_status_alone(running):
    for status in (200, 503):
        running.running.gateway.draining = status == 503
        async with running.session.head(running.url + "/readyz") as reply:
            assert (reply.status, await reply.read()) == (status, b"")
    running.running.gateway.draining = False


async def test_the_time_of_a_fault_is_that_of_its_beginning(running):
    running.running.gateway.config_error = "broken"
    first = (await running.readiness())[1]["problems"]
    assert datetime.fromisoformat(first[0]["since"]).tzinfo is not None
    assert (await running.readiness())[1]["problems"] == first
    running.running.gateway.config_error = ""
    assert (await running.readiness())[1]["problems"] == []
    running.running.gateway.config_error = "broken again"
    assert (await running.readiness())[1]["problems"][0]["since"] > first[0]["since"]


async def test_a_change_of_readiness_is_logged_without_a_monitor(tmp_path, bedrock_sim, monkeypatch):
    monkeypatch.setattr(readiness, "WATCH_SECONDS", 0.02)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as running:
        with room(0):
            (entry,) = await running.lines.until("gateway.unready")
            assert entry["reasons"] == {"disk": "File too large"}
        await running.lines.until("gateway.ready")
        assert len(running.lines.entries("gateway.unready")) == 1


@asynccontextmanager
async def identifying(state, upstream, *modes):
    more = {
        "static": {"login": "ci"},
        "loopback": {},
        "whois": {"tailscaled": str(state / "tailscaled.sock")},
        "proxy-protocol": {"tailscaled": str(state / "tailscaled.sock")},
    }
    listeners = [
        {"listen": f"127.0.0.{number}:0", "identity": mode, **more[mode]} for number, mode in enumerate(modes, 1)
    ]
    async with gate(state, {"b": bedrock(upstream.url)}, server={"listeners": listeners}) as running:
        yield running.running.app[READINESS]


async def replied(ready):
    """Return the status and the JSON of the reply to /readyz. The reply is made without an HTTP request, which some of
    the tests' listeners would refuse.
    """
    reply = await ready.reply()
    return reply.status, json.loads(reply.body)


@pytest.fixture(autouse=True)
def _tailscaled_is_asked_each_time(monkeypatch):
    monkeypatch.setattr(readiness, "IDENTITY_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("modes", "status"),
    [
        (["whois"], 503),
        (["proxy-protocol"], 503),
        (["whois", "proxy-protocol"], 503),
        (["whois", "static"], 200),
        (["loopback", "proxy-protocol"], 200),
    ],
)
async def test_tailscaled_that_is_away_counts_where_it_is_needed(tmp_path, bedrock_sim, modes, status):
    async with identifying(tmp_path, bedrock_sim, *modes) as ready:
        seen, body = await replied(ready)
        assert (seen, body["identity"]) == (status, "unavailable")
        (problem,) = body["problems"]
        assert (problem["refuses_calls"], "cannot be reached" in problem["reason"]) == (status == 503, True)
        async with LocalApiSim(tmp_path / "tailscaled.sock"):
            assert (await replied(ready))[1]["identity"] == "available"
        assert (await replied(ready))[1]["identity"] == "unavailable"


@pytest.mark.parametrize("mode", ["static", "loopback"])
async def test_tailscaled_that_nobody_needs_may_be_away(tmp_path, bedrock_sim, mode):
    async with identifying(tmp_path, bedrock_sim, mode) as ready:
        status, body = await replied(ready)
        assert (status, body["identity"]) == (200, "available")


@pytest.mark.parametrize("mode", ["whois", "proxy-protocol"])
async def test_tailscaled_that_does_not_answer_is_away(tmp_path, bedrock_sim, mode):
    async with identifying(tmp_path, bedrock_sim, mode) as ready:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(tmp_path / "tailscaled.sock"))
            silent.listen()
            status, body = await replied(ready)
        # a probe of Kubernetes waits for one second by default
        assert (status, "did not answer within 0.5 seconds" in body["problems"][0]["reason"]) == (503, True)


async def test_many_monitors_share_one_question(tmp_path, bedrock_sim, monkeypatch):
    questions, status = [], LocalApi.status

    async def counted(api):
        questions.append(api)
        return await status(api)

    monkeypatch.setattr(LocalApi, "status", counted)
    async with LocalApiSim(tmp_path / "tailscaled.sock"), identifying(tmp_path, bedrock_sim, "whois") as ready:
        await replied(ready)
        before = len(questions)
        await asyncio.gather(*(replied(ready) for _ in range(20)))
        assert len(questions) == before + 1
        monkeypatch.setattr(readiness, "IDENTITY_SECONDS", 3600.0)
        await replied(ready)
        assert len(questions) == before + 1


def test_a_disk_that_does_not_answer_blocks_one_thread(tmp_path, monkeypatch):
    release, begun = threading.Event(), []

    def slow(path):
        begun.append(path)
        release.wait(10)
        return ""

    monkeypatch.setattr(disk_probe, "_write", slow)
    monkeypatch.setattr(disk_probe, "WAIT_SECONDS", 0.01)
    probe = DiskProbe(tmp_path)
    assert [probe.fault() for _ in range(5)] == ["no answer within 0.01 seconds"] * 5
    assert len(begun) == 1
    release.set()
    eventually_without_a_loop(lambda: probe.fault() == "")


def test_a_test_of_the_disk_leaves_nothing_behind(tmp_path):
    assert DiskProbe(tmp_path).fault() == ""
    assert list(tmp_path.iterdir()) == []
    assert DiskProbe(tmp_path / "missing").fault() == ""
    (tmp_path / "probe").mkdir()
    assert DiskProbe(tmp_path).fault() == "Is a directory"


def test_a_part_of_a_block_is_a_full_disk(tmp_path):
    with room(100):
        assert DiskProbe(tmp_path).fault() == "No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_every_check_says_what_to_do():
    assert all(check.good != check.bad for check in CHECKS)
    assert all(check.remedy.endswith(".") for check in CHECKS)
