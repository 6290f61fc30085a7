"""Tests of `irisgate backup` and `irisgate restore` while a gateway serves many calls, or is being replaced."""

import asyncio
import json
from decimal import Decimal

import pytest

from gateway.testkit import scenarios
from tests.end_to_end.test_handover import held_stream
from tests.end_to_end.test_kill import load
from tests.end_to_end.test_restarts import configuration
from tests.helpers.gateway import CAP, EVERYTHING, bedrock
from tests.helpers.processes import family, irisgate, served
from tests.helpers.waiting import eventually

BACKUPS = 3
FINISHED = 30
"""Number of calls that must have ended between two backups."""


@pytest.fixture
def config(tmp_path, bedrock_sim):
    path = tmp_path / "config.hujson"
    quotas = {"all": {"capacity": "$1000.00", "rate": "$0.00/day"}}
    grants = [*EVERYTHING, {"src": ["*"], "app": {CAP: [{"quotas": [{"bucket": "all"}]}]}}]
    saved = {"save_raws": True, "retention": {"duration": "7d"}}
    providers = {"b": bedrock(bedrock_sim.url)}
    path.write_text(json.dumps({"providers": providers, "grants": grants, "quotas": quotas, "database": saved}))
    return path


def serve(config, state):
    return "serve", "--config", str(config), "--listen", "127.0.0.1:0", "--state", str(state)


async def restored(tmp_path, name):
    """Restore a backup to a new state folder, check the folder with `irisgate doctor`, and return it."""
    state = tmp_path / f"restored-{name}"
    status, _, err = await irisgate(tmp_path, "restore", tmp_path / name, "--state", state)
    assert (status, err) == (0, "")
    status, out, _ = await irisgate(tmp_path, "doctor", "--json", "--state", state)
    unhealthy = [check for check in json.loads(out)["checks"] if check["state"] != "ok"]
    assert [check for check in unhealthy if check["check"] not in {"disk", "descriptors"}] == []
    return state


async def has_calls(gateway, count):
    return len(await gateway.stored()) >= count


async def test_a_backup_under_load_has_every_call_that_had_ended(tmp_path, config):
    whole, before = [], {}
    async with served(tmp_path, *serve(config, tmp_path / "state")) as gateway:
        loading = asyncio.create_task(load(gateway.url, whole))
        for name in map(str, range(BACKUPS)):
            had = len(whole)
            await eventually(lambda had=had: len(whole) >= had + FINISHED)
            before[name] = set(whole)
            status, out, err = await irisgate(tmp_path, "backup", tmp_path / name, "--state", tmp_path / "state")
            assert (status, err) == (0, ""), out
        # a gateway that serves is never replaced
        status, _, err = await irisgate(tmp_path, "restore", tmp_path / "0", "--state", tmp_path / "state", "--replace")
        assert status == 2
        assert "a gateway runs on" in err
        gateway.process.kill()
        await loading
    for name, ended in before.items():
        state = await restored(tmp_path, name)
        async with served(tmp_path, *serve(config, state)) as again:
            calls = await again.stored()
            async with again.session.get(f"{again.url}/api/quotas") as reply:
                (bucket,) = (await reply.json())["quotas"]
        ids = [call["id"] for call in calls]
        assert len(set(ids)) == len(ids)
        assert ended <= set(ids)
        charged = sum(Decimal(str(call["charges_usd"].get("all", 0))) for call in calls)
        assert Decimal(str(bucket["balance_usd"])) == 1000 - charged


async def test_a_backup_during_a_hand_over_has_the_calls_of_both_processes(tmp_path, bedrock_sim):
    bedrock_sim.default = scenarios.NAMED["text"]
    arguments = configuration(tmp_path, bedrock_sim.url)
    async with family(tmp_path, *arguments) as gateway:
        assert (await gateway.chat())[0] == 200
        async with held_stream(gateway, bedrock_sim) as (reply, gate):
            await gateway.restart()
            assert (await gateway.chat())[0] == 200
            status, _, err = await irisgate(tmp_path, "backup", tmp_path / "backup", "--state", tmp_path / "state")
            assert (status, err) == (0, "")
            gate.let_pass(100)
            await reply.read()
        await gateway.end()
    state = await restored(tmp_path, "backup")
    async with served(tmp_path, *arguments[:-1], state) as again:
        # the open call of the replaced process is found in its spool
        await eventually(lambda: has_calls(again, 3))
        calls = await again.stored()
    assert sorted(call["outcome"] for call in calls) == ["lost", "ok", "ok"]
