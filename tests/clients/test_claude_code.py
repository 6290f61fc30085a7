"""Tests of Claude Code with the settings of `deploy/clients.md`, some for Bedrock's API and some for Anthropic's.

The tests check the requests that the provider gets.
"""

import json
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from gateway.testkit import scenarios
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.scenarios import Tool
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from tests.clients import page
from tests.clients.programs import Program, npm
from tests.clients.samples import PLAIN, SAID, check_upstream
from tests.helpers.gateway import HAIKU, KEY, SONNET, bedrock, gate

QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
}
"""Environment variables that make Claude Code call only the model, because tests must send nothing to other
machines."""

MODES = {"bedrock": "Claude Code, Bedrock", "native": "Claude Code, native"}
"""Headings in `deploy/clients.md`, by the mode of Claude Code."""
MANTLE = {"mantle": "Claude Code, Mantle"}
modes = pytest.mark.parametrize("mode", MODES)
NO_THINKING = json.dumps({"alwaysThinkingEnabled": False})
PATH = f"/model/{SONNET.replace(':', '%3A')}/invoke-with-response-stream"


class ClaudeCode(Program):
    """Claude Code in its own folder, without any user settings."""

    async def answer(self, prompt, *options):
        """Return the answer that `claude -p` prints."""
        status, output = await self.run(prompt, *options)
        assert status == 0, output
        return output.strip()

    async def run(self, prompt, *options):
        """Run `claude -p`. Return its exit status and everything that it printed."""
        return await super().run("-p", prompt, *options)


def configured(folder, mode, url):
    return npm("claude", folder, ClaudeCode, **QUIET, **page.environ((MODES | MANTLE)[mode], url))


@pytest.fixture
def claude(tmp_path):
    return partial(configured, tmp_path)


@dataclass(frozen=True)
class Exchange:
    """The answer of Claude Code to "hello", with the gateway's record and sessions, and the simulated provider that got
    the request.
    """

    session: str
    answer: str
    record: dict[str, Any]
    sessions: list[dict[str, Any]]
    simulated: BedrockSim


@pytest.fixture(scope="module")
def hello(tmp_path_factory):
    """Return a function that starts Claude Code in the mode `mode`, and returns its first call as an `Exchange`.

    A start takes a second, so Claude Code runs only once in each mode, and all tests share the result.
    """
    exchanges = {}

    async def in_mode(mode):
        if mode not in exchanges:
            folder, session = tmp_path_factory.mktemp("hello"), str(uuid4())
            async with (
                BedrockSim(keys={KEY}) as simulated,
                gate(folder / "state", {"bedrock": bedrock(simulated.url)}) as gw,
            ):
                simulated.script(PLAIN)
                answer = await configured(folder, mode, gw.url).answer("hello", "--session-id", session)
                (record,) = await gw.calls()
                exchanges[mode] = Exchange(session, answer, record, await gw.sessions(), simulated)
        return exchanges[mode]

    return in_mode


@pytest.mark.parametrize("mode", MODES | MANTLE)
async def test_a_prompt_is_answered_recorded_and_charged(hello, mode):
    exchange = await hello(mode)
    assert exchange.answer == SAID
    record = exchange.record
    assert (record["session_id"], record["agent"], record["outcome"]) == (exchange.session, "claude-cli", "ok")
    assert (record["tokens"]["input"], record["tokens"]["output"]) == (12, 7)
    assert record["cost_usd"] == pytest.approx(12 * 3.3e-6 + 7 * 16.5e-6)
    assert [entry["id"] for entry in exchange.sessions] == [exchange.session]
    check_upstream(exchange.simulated)


@modes
async def test_what_reaches_bedrock_is_what_bedrock_takes(hello, mode):
    (seen,) = (await hello(mode)).simulated.requests
    assert (seen.path, seen.query) == (PATH, "")
    body = seen.json
    assert body["anthropic_version"] == "bedrock-2023-05-31"
    assert {"model", "stream"} & body.keys() == set()
    betas = [beta for beta in body["anthropic_beta"] if beta != "interleaved-thinking-2025-05-14"]
    dropped = []
    assert messages_betas.select_betas(betas, "invoke", {}, dropped.append) == betas
    assert dropped == []
    assert b'"scope"' not in seen.body
    assert {name for name in seen.headers if name.startswith(("x-", "anthropic-"))} == set()
    assert "claude-cli" not in seen.headers["user-agent"]


async def test_bedrock_mode_drops_nothing_and_keeps_header_betas(hello):
    """Check that in Bedrock mode nothing is dropped, and that a beta that Claude Code names only in a header is not
    added to the body.
    """
    exchange = await hello("bedrock")
    # sent in the header only; in the body it would be an "invalid beta flag"
    assert "claude-code-20250219" not in exchange.simulated.requests[0].json["anthropic_beta"]
    assert exchange.record["dropped"] == []


async def test_in_native_mode_what_bedrock_lacks_is_named(hello):
    assert "/anthropic-beta/claude-code-20250219" in (await hello("native")).record["dropped"]


def two_files(folder):
    """Create two files, and return the tool calls with which Claude Code reads them."""
    files = {"colour.txt": "turquoise\n", "shape.txt": "hexagon\n"}
    for name, text in files.items():
        (folder / name).write_text(text)
    return tuple(Tool("Read", {"file_path": str(folder / name)}) for name in files)


@modes
async def test_two_tools_are_run_and_their_results_come_back(claude, gw, bedrock_sim, mode):
    code = claude(mode, gw.url)
    bedrock_sim.script(scenarios.tools(*two_files(code.folder)))
    answer = await code.answer("What do the two files say?", "--allowedTools", "Read", "--settings", NO_THINKING)
    assert "turquoise" in answer
    assert "hexagon" in answer
    first, second = await gw.calls(2)
    assert (first["tools"], second["tools"]) == (["Read", "Read"], [])
    assert first["session_id"] == second["session_id"]
    assert (await gw.sessions())[0]["calls"] == 2
    check_upstream(bedrock_sim)


async def test_in_native_mode_thinking_comes_back_with_the_results(claude, gw, bedrock_sim):
    """Check that in native mode, Claude Code sends a reply's thinking back together with the results of the tools.

    Claude Code 2.1.197 keeps thinking only if the reply names the requested model. In Bedrock mode, it loses the
    thinking even without a gateway, because Bedrock's replies name the model without prefix and version.
    """
    code = claude("native", gw.url)
    bedrock_sim.script(scenarios.thinking("I should look.", "Let me look.", calls=two_files(code.folder)))
    assert "turquoise" in await code.answer("What do the two files say?", "--allowedTools", "Read")
    question, answered, _ = bedrock_sim.requests[1].json["messages"]
    assert (question["role"], answered["role"]) == ("user", "assistant")
    assert [block["type"] for block in answered["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    check_upstream(bedrock_sim)


@modes
async def test_a_throttled_call_is_tried_again(claude, gw, bedrock_sim, mode):
    bedrock_sim.script(scenarios.NAMED["throttle"], PLAIN)
    assert await claude(mode, gw.url).answer("hello") == SAID
    assert [record["status"] for record in await gw.calls(2)] == [429, 200]


@modes
@pytest.mark.parametrize("fault", ["an exception", "cut off"])
async def test_a_broken_stream_is_not_taken_for_an_answer(claude, gw, bedrock_sim, mode, fault):
    faults = {"an exception": scenarios.NAMED["error_in_stream"], "cut off": scenarios.cut(900)}
    bedrock_sim.script(faults[fault], PLAIN)
    assert await claude(mode, gw.url).answer("hello") == SAID
    assert [record["outcome"] for record in await gw.calls(2)] == ["failed", "ok"]


@modes
async def test_a_model_that_is_not_granted_is_named_to_the_user(claude, tmp_path, bedrock_sim, mode):
    async with gate(tmp_path / "other", {"bedrock": bedrock(bedrock_sim.url, models=[HAIKU])}) as gw:
        status, output = await claude(mode, gw.url).run("hello")
        assert status != 0
        assert SONNET in output
        assert {record["status"] for record in await gw.calls()} == {404}
        assert bedrock_sim.requests == []
