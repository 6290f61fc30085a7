"""Gemini CLI with the settings of `deploy/clients.md`: at a Gemini provider, and by conversion at Bedrock."""

import json

import pytest

from gateway.testkit import scenarios
from gateway.testkit.scenarios import Tool
from tests.clients import page, programs
from tests.clients.samples import PLAIN, SAID
from tests.clients.test_google_genai import MODEL, provider
from tests.helpers.gateway import gate

ECHO = Tool("run_shell_command", {"command": "printf tur%dquoise 7", "description": "prints a word"})
PRINTED = "tur7quoise"
"""A text that no prompt contains. It appears only if a shell has really run the command."""


@pytest.fixture
async def gw(tmp_path, gemini_upstream):
    async with gate(tmp_path / "state", {"google": provider(gemini_upstream.url)}) as running:
        yield running


@pytest.fixture
def gemini(tmp_path, gw):
    environ, settings = page.environ("Gemini CLI", gw.url), page.settings("Gemini CLI", gw.url, "json")[0]
    program = programs.npm("gemini", tmp_path, **{**environ, "GEMINI_MODEL": MODEL})
    folder = tmp_path / "home" / ".gemini"
    folder.mkdir()
    (folder / "settings.json").write_text(settings)
    return program


async def test_an_answer_is_printed_and_the_call_is_recorded(gemini, gw, gemini_upstream):
    gemini_upstream.default = PLAIN
    status, output = await gemini.run("-p", "What is there?")
    assert (status, SAID in output) == (0, True), output
    records = await gw.calls()
    assert {(record["agent"], record["api"]) for record in records} == {("gemini-cli", "gemini_generate_content")}
    assert all(record["outcome"] == "ok" and record["tokens"]["output"] == 7 for record in records)
    assert all(seen.refused == "" for seen in gemini_upstream.requests)


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
    assert all(seen.refused == "" for seen in gemini_upstream.requests)
