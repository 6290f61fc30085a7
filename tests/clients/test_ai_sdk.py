"""Tests of the AI SDK with the settings of `deploy/clients.md`: each of the SDK's provider packages, with a Bedrock on
which only InvokeModel or only Converse is enabled.

The program is `node/ai_sdk.mjs`. It runs in the folder of npm's packages, because it imports them.
"""

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from gateway.testkit import scenarios
from gateway.testkit.scenarios import Scenario
from tests.clients import page
from tests.clients.programs import NOWHERE, TIMEOUT_SECONDS
from tests.clients.samples import (
    CACHED,
    PLAIN,
    PNG_BASE64,
    SAID_OF_THE_RESULTS,
    THINKING,
    THOUGHT,
    TOOLS_FOLDER,
    TWO_CALLS,
    check_upstream,
    program,
)
from tests.helpers.gateway import SONNET, bedrock, gate

SCRIPT = Path(__file__).parent / "node" / "ai_sdk.mjs"
PROVIDERS = {
    "bedrock": ("createAmazonBedrock", "", "bedrock_converse"),
    "anthropic": ("createAnthropic", "", "anthropic_messages"),
    "openai": ("createOpenAI", "", "openai_responses"),
    "openai's chat": ("createOpenAI", "chat", "openai_chat"),
    "compatible": ("createOpenAICompatible", "", "openai_chat"),
}
"""The code for each provider of the SDK: the function that creates the provider, the method that selects a model (""
for none), and the compatibility flag.
"""
OPERATIONS = {
    "bedrock_model_invoke": ("invoke", "invoke-with-response-stream"),
    "bedrock_converse": ("converse", "converse-stream"),
}
REASONING = {
    "bedrock": {"bedrock": {"reasoningConfig": {"type": "enabled", "budgetTokens": 2000}}},
    "anthropic": {"anthropic": {"thinking": {"type": "enabled", "budgetTokens": 2000}}},
    "openai": {"openai": {"reasoningEffort": "low", "forceReasoning": True, "store": False}},
}
"""Options with which each provider of the SDK asks for thinking. Providers that cannot return a signature are left
out."""

conversions = pytest.mark.parametrize("flag", OPERATIONS, ids=["InvokeModel", "Converse"])
over_converse = pytest.mark.parametrize("flag", ["bedrock_converse"], ids=["Converse"])
ANSWER = Scenario()
"""The simulated model's default reply. If the request has results of tools, the reply repeats them."""


@pytest.fixture
async def gw(tmp_path, bedrock_sim, flag):
    async with gate(tmp_path, {"bedrock": bedrock(bedrock_sim.url, flags=[flag])}) as running:
        yield running


@pytest.fixture(scope="module")
def node():
    """Yield one Node.js process for all tests, because loading the SDK takes longer than its calls."""
    if not (TOOLS_FOLDER / "node_modules" / "ai").is_dir():
        pytest.skip("the AI SDK is not in .tools")
    with subprocess.Popen(
        [program("node"), "--input-type=module", "--eval", SCRIPT.read_text()],
        cwd=TOOLS_FOLDER,
        env={"PATH": os.environ["PATH"], **NOWHERE},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def ai_sdk(gw, node):
    """Return a function that runs conversations through one of the SDK's providers, and returns the results."""

    def line_for(given):
        node.stdin.write(json.dumps(given) + "\n")
        node.stdin.flush()
        return node.stdout.readline()

    async def talks(name, *streamed, **given):
        maker, method, _ = PROVIDERS[name]
        makers, call = page.settings("AI SDK", gw.url)
        (provider,) = re.findall(rf"= ({maker}\(.*\));$", makers, re.MULTILINE)
        (always,) = re.findall(r"^  (providerOptions: .*),$", call, re.MULTILINE) if name == "openai" else ("",)
        given |= {"provider": provider, "always": always, "method": method, "model": SONNET, "prompt": "hello"}
        given["streamed"] = streamed
        killing = asyncio.get_running_loop().call_later(TIMEOUT_SECONDS, node.kill)
        results = json.loads(await asyncio.to_thread(line_for, given))
        killing.cancel()
        assert isinstance(results, list), results
        return results

    return talks


@conversions
@pytest.mark.parametrize("name", PROVIDERS)
async def test_two_tools_are_run_and_their_results_come_back_whole_and_streamed(ai_sdk, gw, bedrock_sim, flag, name):
    bedrock_sim.script(TWO_CALLS, ANSWER, TWO_CALLS, ANSWER)
    for talk in await ai_sdk(name, False, True):
        assert talk["texts"] == ["Let me look.", SAID_OF_THE_RESULTS]
        assert talk["finished"] == ["tool-calls", "stop"]
        assert talk["asked"] == [["get_weather", {"city": "Zürich"}], ["get_time", {"city": "Tokyo"}]]
    whole, streamed = OPERATIONS[flag]
    operations = [seen.path.rpartition("/")[2] for seen in bedrock_sim.requests]
    assert operations == [whole, whole, streamed, streamed]
    assert {(record["agent"], record["api"]) for record in await gw.calls(4)} == {("ai-sdk", PROVIDERS[name][2])}
    check_upstream(bedrock_sim)


@over_converse
@pytest.mark.parametrize("name", PROVIDERS)
async def test_tokens_are_told_as_they_are_booked(ai_sdk, gw, bedrock_sim, name):
    bedrock_sim.default = CACHED
    for talk, record in zip(await ai_sdk(name, False, True), await gw.calls(2), strict=True):
        booked = record["tokens"]
        assert booked["input"] == 3
        assert talk["tokens"]["output"] == booked["output"] == 7
        assert talk["tokens"]["input"] == 3 + 1000 + 200 + 50


@conversions
@pytest.mark.parametrize("name", REASONING)
async def test_thinking_comes_back_with_its_signature_whole_and_streamed(ai_sdk, bedrock_sim, name):
    bedrock_sim.script(THINKING, ANSWER, THINKING, ANSWER)
    for talk in await ai_sdk(name, False, True, options=REASONING[name]):
        assert talk["thoughts"][0] == THOUGHT
        assert talk["texts"] == ["Let me check.", "The tool said: 09:41"]
    assert len(bedrock_sim.requests) == 4
    for seen in bedrock_sim.requests[1::2]:
        answered = next(turn for turn in seen.json["messages"] if turn["role"] == "assistant")
        thought = json.dumps(answered["content"][0])
        assert THOUGHT in thought
        assert "sig-sim-" in thought
    check_upstream(bedrock_sim)


@over_converse
@pytest.mark.parametrize("name", PROVIDERS)
async def test_an_image_arrives_as_it_is(ai_sdk, bedrock_sim, name):
    bedrock_sim.script(PLAIN)
    await ai_sdk(name, False, image=PNG_BASE64)
    assert PNG_BASE64 in bedrock_sim.requests[0].body.decode()
    check_upstream(bedrock_sim)


@over_converse
@pytest.mark.parametrize("name", PROVIDERS)
async def test_an_answer_by_a_schema_is_parsed(ai_sdk, bedrock_sim, name):
    bedrock_sim.default = scenarios.text('{"city": "Tokyo"}')
    assert [talk["output"] for talk in await ai_sdk(name, False, True, shape=True)] == [{"city": "Tokyo"}] * 2
    check_upstream(bedrock_sim)
