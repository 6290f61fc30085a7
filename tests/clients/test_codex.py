"""Tests of Codex with the settings of `deploy/clients.md`. It uses the Responses API.

The provider is a Bedrock on which only InvokeModel or only Converse is enabled.
"""

import json

import pytest

from gateway.testkit import scenarios
from gateway.testkit.scenarios import Tool
from tests.clients import page, programs
from tests.clients.samples import PLAIN, PNG, PNG_BASE64, SAID, THOUGHT, check_upstream
from tests.helpers.gateway import HAIKU, SONNET, bedrock, gate

CONVERSIONS = {"InvokeModel": "bedrock_model_invoke", "Converse": "bedrock_converse"}
conversions = pytest.mark.parametrize("gw", CONVERSIONS, indirect=True)
over_converse = pytest.mark.parametrize("gw", ["Converse"], indirect=True)

DROPPED = ["/prompt_cache_key", "/client_metadata", "/tools/8"]
"""JSON pointers of the request fields that the gateway drops. `/tools/8` is a web search on OpenAI's own servers."""
ECHO = Tool("exec_command", {"cmd": "echo tur$((3 + 4))quoise"})
PRINTED = "tur7quoise"
"""The output of the command in `ECHO`. No prompt contains this text, so it appears only if a shell has really run the
command.
"""


class Codex:
    """`codex exec`, with the code block of `deploy/clients.md` as its configuration."""

    def __init__(self, program, url):
        self._program = program
        self.folder = program.folder
        home = program.folder.parent / "home" / ".codex"
        home.mkdir()
        (home / "config.toml").write_text(page.settings("Codex", url, "toml")[0])

    async def run(self, *arguments):
        """Run `codex exec`. Return its exit status and everything that it printed.

        Callers switch off Codex's sandbox, because it does not start in every container.
        """
        return await self._program.run("exec", "--skip-git-repo-check", *arguments)

    async def answer(self, *arguments):
        status, output = await self.run("--sandbox", "danger-full-access", *arguments)
        assert status == 0, output
        return output


@pytest.fixture
async def gw(request, tmp_path, bedrock_sim):
    flag = CONVERSIONS[request.param]
    async with gate(tmp_path / "state", {"bedrock": bedrock(bedrock_sim.url, flags=[flag])}) as running:
        yield running


@pytest.fixture
def codex(tmp_path, gw):
    return Codex(programs.npm("codex", tmp_path), gw.url)


@conversions
async def test_a_command_is_run_and_what_it_printed_comes_back(codex, gw, bedrock_sim):
    bedrock_sim.script(scenarios.tools(ECHO))
    answer = await codex.answer("What does the shell say?")
    assert PRINTED in answer.rpartition("The tool said:")[2]
    first, second = await gw.calls(2)
    assert (first["tools"], second["tools"]) == (["exec_command"], [])
    assert first["session_id"] == second["session_id"]
    assert (await gw.sessions())[0]["calls"] == 2
    assert {(record["agent"], record["api"]) for record in (first, second)} == {("codex", "openai_responses")}
    assert first["dropped"] == second["dropped"] == DROPPED
    check_upstream(bedrock_sim)


@conversions
async def test_thinking_comes_back_with_its_signature(codex, bedrock_sim):
    bedrock_sim.script(scenarios.thinking(THOUGHT, "Let me look.", calls=(ECHO,)))
    answer = await codex.answer("What does the shell say?", "-c", "model_reasoning_effort=low")
    assert PRINTED in answer.rpartition("The tool said:")[2]
    answered = next(turn for turn in bedrock_sim.requests[1].json["messages"] if turn["role"] == "assistant")
    thought, text, call = answered["content"]
    assert THOUGHT in json.dumps(thought)
    assert "sig-sim-" in json.dumps(thought)
    assert text["text"] == "Let me look."
    assert call.get("toolUse", call)["name"] == "exec_command"
    check_upstream(bedrock_sim)


@conversions
async def test_an_image_that_a_tool_looks_at_arrives_as_it_is(codex, bedrock_sim):
    (codex.folder / "dot.png").write_bytes(PNG)
    bedrock_sim.script(scenarios.tools(Tool("view_image", {"path": str(codex.folder / "dot.png")})))
    await codex.answer("Look at the image.")
    result = bedrock_sim.requests[1].json["messages"][-1]["content"][0]
    assert result.get("toolResult", result)["content"] in (
        [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG_BASE64}}],
        [{"image": {"format": "png", "source": {"bytes": PNG_BASE64}}}],
    )
    check_upstream(bedrock_sim)


@over_converse
async def test_a_tool_of_a_namespace_is_found_by_codex(codex, bedrock_sim):
    bedrock_sim.script(scenarios.tools(Tool("multi_agent_v1__close_agent", {"target": "nobody"})))
    assert "The tool said: invalid agent id nobody" in await codex.answer("Close the agent.")
    check_upstream(bedrock_sim)


@over_converse
async def test_a_resumed_thread_is_one_session_and_brings_its_history(codex, gw, bedrock_sim):
    bedrock_sim.script(scenarios.tools(ECHO), PLAIN, PLAIN)
    await codex.answer("What does the shell say?")
    assert SAID in (await codex.run("resume", "--last", "And now?"))[1]
    (session,) = await gw.sessions()
    assert session["calls"] == 3
    history = [turn["content"] for turn in bedrock_sim.requests[2].json["messages"]]
    assert ["toolUse" in block for block in history[1]] == [True]
    assert {"text": SAID} in history[3]
    assert history[4][-1] == {"text": "And now?"}
    check_upstream(bedrock_sim)


@over_converse
async def test_a_broken_stream_is_tried_again(codex, gw, bedrock_sim):
    bedrock_sim.script(scenarios.NAMED["error_in_stream"], scenarios.cut(900), PLAIN)
    assert SAID in await codex.answer("hello")
    assert [record["outcome"] for record in await gw.calls(3)] == ["failed", "failed", "ok"]


@over_converse
async def test_a_throttled_call_is_told_to_the_user(codex, bedrock_sim):
    bedrock_sim.script(scenarios.NAMED["throttle"])
    status, output = await codex.run("hello")
    assert status != 0
    assert "429 Too Many Requests" in output


async def test_a_model_that_is_not_granted_is_named_to_the_user(tmp_path, bedrock_sim):
    async with gate(tmp_path / "state", {"bedrock": bedrock(bedrock_sim.url, models=[HAIKU])}) as gw:
        status, output = await Codex(programs.npm("codex", tmp_path), gw.url).run("hello")
        assert status != 0
        assert f'model "{SONNET}" not found or not granted' in output
        assert bedrock_sim.requests == []
