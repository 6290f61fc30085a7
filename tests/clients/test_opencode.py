"""Tests of opencode with the settings of `deploy/clients.md`. It uses three APIs of the gateway.

The provider is a Bedrock on which only InvokeModel or only Converse is enabled.
"""

import os

import pytest

from gateway.testkit import scenarios
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.scenarios import Tool
from tests.clients import page, programs
from tests.clients.samples import check_upstream
from tests.helpers.gateway import HAIKU, KEY, SONNET, bedrock, gate

APIS = {
    "bedrock_converse": "opencode, Bedrock",
    "anthropic_messages": "opencode, Messages",
    "openai_chat": "opencode, Chat Completions",
}
"""The heading in `deploy/clients.md` for each API."""
CONVERSIONS = {"InvokeModel": "bedrock_model_invoke", "Converse": "bedrock_converse"}
OPERATIONS = {"InvokeModel": "invoke-with-response-stream", "Converse": "converse-stream"}
QUIET = {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"}
"""Environment variables with which opencode downloads neither updates nor a list of models. It then uses its built-in
list."""
ECHO = Tool("bash", {"command": "echo tur$((3 + 4))quoise", "description": "Says a colour"})
SAID = "The tool said: tur7quoise"
"""The model's answer, which has the output of the command in `ECHO`. No prompt contains this output, so it appears only
if a shell has really run the command.
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Return opencode with one home folder for all tests, because its first run slowly creates a database there."""
    return programs.npm("opencode", tmp_path_factory.mktemp("opencode"), **QUIET)


@pytest.fixture
async def titles_sim():
    """Yield the simulated provider of opencode's small model. Opencode may call this model at any time between other
    calls.
    """
    async with BedrockSim(keys={KEY}) as simulated:
        yield simulated


@pytest.fixture
async def gw(request, tmp_path, bedrock_sim, titles_sim):
    flags = [CONVERSIONS[request.param]]
    providers = {
        "bedrock": bedrock(bedrock_sim.url, flags=flags, models=[SONNET]),
        "titles": bedrock(titles_sim.url, flags=flags, models=[HAIKU]),
    }
    async with gate(tmp_path, providers) as running:
        yield running


@pytest.fixture
def opencode(program, gw):
    async def answer(api, prompt):
        (settings,) = page.settings(APIS[api], gw.url, "json")
        (program.folder / "opencode.json").write_text(settings)
        status, output = await program.run("run", prompt)
        assert status == 0, output
        return output

    return answer


PAIRS = [
    pytest.param(api, envelope, operation, id=f"{api}-{envelope}")
    for row, api in enumerate(APIS)
    for column, (envelope, operation) in enumerate(OPERATIONS.items())
    if "IRISGATE_ALL_CLIENTS" in os.environ or (row + column) % 2 == 0
]
"""Pairs of an API and an operation to try. Each API and each operation occurs.

These are half of all pairs, or all pairs if IRISGATE_ALL_CLIENTS=1 is set.
"""


@pytest.mark.parametrize(("api", "gw", "operation"), PAIRS, indirect=["gw"])
async def test_a_command_is_run_and_what_it_printed_comes_back(opencode, gw, bedrock_sim, titles_sim, api, operation):
    bedrock_sim.script(scenarios.tools(ECHO))
    assert SAID in await opencode(api, "What does the shell say?")
    assert [seen.path.rpartition("/")[2] for seen in bedrock_sim.requests] == [operation] * 2
    assert [seen.path.rpartition("/")[2] for seen in titles_sim.requests] == [operation]
    records = await gw.calls(3)
    assert [record["tools"] for record in records if record["model"] == SONNET] == [["bash"], []]
    assert {(record["agent"], record["api"]) for record in records} == {("opencode", api)}
    (session,) = {record["session_id"] for record in records}
    assert session.startswith("ses_")
    check_upstream(bedrock_sim)
    check_upstream(titles_sim)
