"""Tests of the state folders of the demo and of a gateway. The default folders differ, and a second process with the
same folder is refused.
"""

import json
import re

import pytest

from tests.helpers.gateway import EVERYTHING, bedrock
from tests.helpers.processes import irisgate, served
from tests.helpers.waiting import eventually


@pytest.fixture
def config(tmp_path, bedrock_sim):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"providers": {"b": bedrock(bedrock_sim.url)}, "grants": EVERYTHING}))
    return path


async def calls(running):
    async with running.session.get(running.url + "/api/calls") as reply:
        return len((await reply.json())["calls"])


async def test_a_call_of_the_demo_is_not_in_the_usage_of_a_gateway_beside_it(tmp_path, config):
    async with (
        served(tmp_path, "demo", "--listen", "127.0.0.1:0") as demo,
        served(tmp_path, "serve", "--config", str(config), "--listen", "127.0.0.1:0") as gateway,
    ):
        assert (await demo.chat())[0] == 200
        await eventually(lambda: calls(demo))
        assert (await calls(demo), await calls(gateway)) == (1, 0)


@pytest.mark.parametrize("variable", ["STATE_DIRECTORY", "XDG_STATE_HOME"])
async def test_the_state_of_the_demo_is_below_the_usual_one(tmp_path, variable):
    base = tmp_path / "states"
    usual = base if variable == "STATE_DIRECTORY" else base / "irisgate"
    async with served(tmp_path, "demo", "--listen", "127.0.0.1:0", **{variable: str(base)}) as demo:
        await demo.line(f"^Config: +{re.escape(str(usual))}/demo/demo.hujson")
        assert await demo.end() == 0
    assert [entry.name for entry in usual.iterdir()] == ["demo"]


async def test_a_gateway_is_told_which_process_has_its_state(tmp_path, config):
    state = tmp_path / "state"
    async with served(tmp_path, "demo", "--listen", "127.0.0.1:0", "--state", str(state)) as demo:
        serve = ("serve", "--config", str(config), "--listen", "127.0.0.1:0", "--state", str(state))
        status, _, err = await irisgate(tmp_path, *serve)
        assert (status, err.count("\n")) == (2, 1)
        assert f"(process {demo.process.pid}: irisgate demo --listen" in err
        assert await demo.end() == 0
    async with served(tmp_path, *serve) as gateway:
        assert await gateway.end() == 0


async def test_a_second_demo_leaves_the_first_one_as_it_is(tmp_path):
    """Check that a second demo with the same state folder is refused, and leaves the running demo's configuration
    unchanged.
    """
    state = tmp_path / "state"
    async with served(tmp_path, "demo", "--listen", "127.0.0.1:0", "--state", str(state)) as demo:
        before = (state / "demo.hujson").read_bytes()
        status, _, err = await irisgate(tmp_path, "demo", "--listen", "127.0.0.1:0", "--state", str(state))
        assert (status, "another gateway keeps its records there" in err) == (2, True)
        assert (state / "demo.hujson").read_bytes() == before
        assert (await demo.chat())[0] == 200
        assert await demo.end() == 0
