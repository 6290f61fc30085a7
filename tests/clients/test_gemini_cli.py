"""Tests of Gemini CLI with the settings of `deploy/clients.md`: with a Gemini provider, and with Bedrock, for which the
gateway converts the calls.
"""

import json

import pytest

from gateway.testkit import scenarios
from gateway.testkit.scenarios import Tool
from tests.clients import page, programs
from tests.clients.test_google_genai import MODEL, provider
from tests.helpers.gateway import HAIKU, bedrock, gate

ECHO = Tool("run_shell_command", {"command": "printf tur%dquoise 7", "description": "prints a word"})
PRINTED = "tur7quoise"
"""The output of the command in `ECHO`. No prompt contains this text, so it appears only if a shell has really run the
command.
"""


@pytest.fixture
async def gw(tmp_path, gemini_upstream):
    async with gate(tmp_path / "state", {"google": provider(gemini_upstream.url)}) as running:
        yield running


@pytest.fixture
def gemini(tmp_path, gw):
    return installed(tmp_path, gw, MODEL)


def installed(tmp_path, gw, model):
    """Return Gemini CLI with this model and the settings of `deploy/clients.md`."""
    environ, settings = page.environ("Gemini CLI", gw.url), page.settings("Gemini CLI", gw.url, "json")[0]
    program = programs.npm("gemini", tmp_path, **{**environ, "GEMINI_MODEL": model})
    folder = tmp_path / "home" / ".gemini"
    folder.mkdir()
    (folder / "settings.json").write_text(settings)
    return program


async def test_a_command_is_run_and_what_it_printed_comes_back(gemini, gw, gemini_upstream):
    gemini_upstream.script(scenarios.tools(ECHO))
    status, output = await gemini.run("--yolo", "-p", "What does the shell say?")
    assert status == 0, output
    assert PRINTED in output.rpartition("The tool said:")[2]
    bodies = [json.loads(seen.body) for seen in gemini_upstream.requests]
    signed = [
        part.get("thoughtSignature")
        for content in bodies[-1]["contents"]
        for part in content["parts"]
        if "functionCall" in part
    ]
    assert signed == ["c2lnLXNpbS1nZW1pbmk="]
    records = await gw.calls(2)
    assert {(record["agent"], record["api"]) for record in records} == {("gemini-cli", "gemini_generate_content")}
    assert {record["outcome"] for record in records} == {"ok"}
    assert len({record["session_id"] for record in records}) == 1
    assert all(seen.refused == "" for seen in gemini_upstream.requests)


async def test_claude_on_bedrock_runs_a_command_for_it(tmp_path, bedrock_sim):
    async with gate(tmp_path / "state", {"bedrock": bedrock(bedrock_sim.url)}) as gw:
        bedrock_sim.script(scenarios.thinking("Let me think.", "Let me look.", calls=(ECHO,)))
        status, output = await installed(tmp_path, gw, HAIKU).run("--yolo", "-p", "What does the shell say?")
    assert status == 0, output
    assert PRINTED in output.rpartition("The tool said:")[2]
    assert all(seen.refused == "" for seen in bedrock_sim.requests)
