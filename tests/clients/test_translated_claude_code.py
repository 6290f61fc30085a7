"""Tests of Claude Code, which uses Anthropic's API, with a provider that has only Converse or only Chat Completions."""

import os

import pytest

from gateway.testkit import scenarios
from tests.clients import page
from tests.clients.samples import CACHED, PLAIN, SAID, check_upstream, program
from tests.clients.test_claude_code import MODES, NO_THINKING, QUIET, ClaudeCode, two_files
from tests.helpers.gateway import KEY, SONNET, bedrock, gate

GPT = "gpt-5.4"
ANTHROPICS_OWN = ("/anthropic-beta/", "/context_management", "/metadata")
NOT_IN_CHAT = ("/cache_control", "/thinking/budget_tokens")
"""Request fields that the gateway may drop, as ends of their JSON pointers. `ANTHROPICS_OWN` has the beginnings of
further ones.

All other fields must reach the provider.
"""


class Side:
    """Claude Code, the gateway, and the provider behind the gateway."""

    def __init__(self, code, gw, simulated):
        self.code = code
        self.gw = gw
        self.simulated = simulated


@pytest.fixture(params=["converse", "chat"])
async def side(request, tmp_path, bedrock_sim, openai_upstream):
    """Yield a `Side`. Its `model` is the model that Claude Code requests."""
    path = program("claude", "node_modules", ".bin")
    if request.param == "converse":
        simulated, model = bedrock_sim, SONNET
        provider = bedrock(simulated.url, flags=["bedrock_converse"])
    else:
        simulated, model = openai_upstream, GPT
        provider = {"baseurl": simulated.url, "apikey": KEY, "models": [GPT], "compatibility": {"openai_chat": True}}
    async with gate(tmp_path / "state", {"p": provider}) as gw:
        for name in ("home", "work"):
            (tmp_path / name).mkdir()
        own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")}
        environ = {**own, **QUIET, **page.environ(MODES["native"], gw.url), "ANTHROPIC_MODEL": model}
        yield Side(ClaudeCode(path, tmp_path / "work", environ), gw, simulated)


async def test_a_prompt_is_answered(side):
    side.simulated.script(PLAIN)
    assert await side.code.answer("hello") == SAID
    (record,) = await side.gw.calls()
    assert (record["agent"], record["outcome"]) == ("claude-cli", "ok")
    check_upstream(side.simulated)


async def test_two_tools_are_run_and_their_results_come_back(side):
    side.simulated.script(scenarios.tools(*two_files(side.code.folder)))
    answer = await side.code.answer("What do the two files say?", "--allowedTools", "Read", "--settings", NO_THINKING)
    assert answer.startswith("The tool said:")
    first, second = await side.gw.calls(2)
    assert (first["tools"], second["tools"]) == (["Read", "Read"], [])
    assert b"turquoise" in side.simulated.requests[-1].body
    assert b"hexagon" in side.simulated.requests[-1].body
    check_upstream(side.simulated)


async def test_thinking_comes_back_with_the_results(side):
    side.simulated.script(scenarios.thinking("I should look.", "Let me look.", calls=two_files(side.code.folder)))
    assert "The tool said:" in await side.code.answer("What do the two files say?", "--allowedTools", "Read")
    lost = (await side.gw.calls(2))[1]["dropped"]
    assert [name for name in lost if not name.startswith(ANTHROPICS_OWN) and not name.endswith(NOT_IN_CHAT)] == []
    check_upstream(side.simulated)


async def test_the_counts_of_the_cache_reach_the_program(side):
    side.simulated.script(CACHED)
    answer = await side.code.answer("hello", "--output-format", "json")
    assert '"cache_read_input_tokens":1000' in answer.replace(" ", "")


async def test_a_broken_stream_is_not_taken_for_an_answer(side):
    side.simulated.script(scenarios.cut(900), PLAIN)
    assert await side.code.answer("hello") == SAID
    assert [record["outcome"] for record in await side.gw.calls(2)] == ["failed", "ok"]
