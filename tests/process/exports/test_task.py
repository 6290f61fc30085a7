"""Tests of exports while the gateway serves, and the command `irisgate export`."""

import json

import pytest

from gateway.process.exports import task
from gateway.store.base import rfc3339
from tests.helpers.gateway import bedrock, gate
from tests.helpers.processes import irisgate
from tests.helpers.records import NOON, Kept, record
from tests.helpers.waiting import eventually
from tests.process.exports.reading import exported_ids, json_records


def settings(folder, **more):
    return {"exporters": {"folder": {"path": str(folder), "format": "json.gz", "every": 1, **more}}}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(task, "RETRY_SECONDS", (0.05,))
    monkeypatch.setattr(task, "LOOK_SECONDS", 0.05)


async def chat(gw):
    reply = await gw.post(
        "/v1/chat/completions", {"model": gw.models[0], "messages": [{"role": "user", "content": "hi"}]}
    )
    return reply.headers["x-request-id"]


async def metric(gw, name):
    text = gw.running.gateway.metrics.render().decode()
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"irisgate_{name}{{")), None)


async def test_calls_are_exported_while_the_gateway_serves(tmp_path, bedrock_sim):
    provider = bedrock(bedrock_sim.url)
    async with gate(tmp_path, {"b": provider}, more=settings(tmp_path / "out")) as gw:
        gw.models = provider["models"]
        call = await chat(gw)
        await eventually(lambda: exported_ids(tmp_path / "out") == [call])
        await eventually(lambda: metric(gw, "exported_calls_total"))
        assert await metric(gw, "exported_calls_total") == 1
        assert await metric(gw, "export_waiting_calls") == 0
        assert await metric(gw, "export_last_success_timestamp_seconds") > NOON
        assert gw.lines.entries("export.failed") == []


async def test_a_failing_export_delays_nothing_and_catches_up(tmp_path, bedrock_sim):
    """Check an export whose folder cannot be written. The failure is reported once, the gateway stays ready, and the
    export is tried again.
    """
    (tmp_path / "out").write_text("a file where the folder should be")
    provider = bedrock(bedrock_sim.url)
    async with gate(tmp_path, {"b": provider}, more=settings(tmp_path / "out")) as gw:
        gw.models = provider["models"]
        call = await chat(gw)
        await gw.lines.until("export.failed")
        failures = await metric(gw, "export_failures_total")
        assert (await gw.readiness())[0] == 200
        assert await metric(gw, "export_waiting_calls") == 1
        (tmp_path / "out").unlink()
        await gw.lines.until("export.recovered")
        assert exported_ids(tmp_path / "out") == [call]
        assert await metric(gw, "export_failures_total") >= failures >= 1
        await gw.log_is_written()
        (line,) = gw.lines.entries("export.failed")
        assert line["to"] == str(tmp_path / "out")
        assert "File exists" in line["reason"]


@pytest.fixture
async def state(tmp_path):
    """Return a state folder with three calls on two days."""
    store = Kept(tmp_path / "state" / "irisgate.db")
    for name, at in (("a", NOON), ("b", NOON + 86_400), ("c", NOON + 2)):
        store.put(record(id=name, at=at))
    await store.flush()
    await store.close()
    return tmp_path / "state"


async def test_the_command_exports_the_rest(tmp_path, state):
    (tmp_path / "config.hujson").write_text(json.dumps(settings("out", limit=2)))
    command = ("export", "--config", "config.hujson", "--state", str(state))
    done = await irisgate(tmp_path, *command)
    assert done == (0, "folder: 3 calls in 2 objects were exported to out\n", "")
    assert (await irisgate(tmp_path, *command))[1].startswith("folder: 0 calls in 0 objects")
    assert exported_ids(tmp_path / "out") == ["a", "b", "c"]


async def test_the_command_exports_some_days(tmp_path, state):
    day = rfc3339(NOON)[:10]
    command = ("export", "--state", str(state), "--output", "out", "--format", "json.gz", "--from", day, "--to", day)
    assert await irisgate(tmp_path, *command) == (0, "2 calls in 1 files were exported to out\n", "")
    (file,) = (tmp_path / "out").iterdir()
    assert [each["capture_id"] for each in json_records(file.read_bytes())] == ["a", "c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the configuration has no exporter"),
        (("--from", "2026-11-01"), "need --output FOLDER"),
        (("--output", "out"), "there is no store"),
        (("--output", "out", "--from", "yesterday"), "'yesterday' is no day"),
    ],
)
async def test_the_command_says_what_it_cannot_do(tmp_path, arguments, message):
    status, _, err = await irisgate(tmp_path, "export", "--state", str(tmp_path / "none"), *arguments)
    assert status == 2
    assert message in err
