"""Tests of SDKs and of curl with settings that are copied unchanged from `deploy/clients.md`."""

import asyncio
import os
from contextlib import closing

import boto3
import pytest

from tests.clients import page
from tests.clients.programs import Program
from tests.clients.samples import PLAIN, SAID, check_upstream, program
from tests.helpers.gateway import HAIKU, NOVA

HELLO = [{"role": "user", "content": "hello"}]
CONVERSE = {"modelId": NOVA, "messages": [{"role": "user", "content": [{"text": "hello"}]}]}


def made(block):
    """Run a Python code block, and return the object `client` that it creates."""
    names = {}
    exec(block, names)
    return names["client"]


async def test_boto3_as_on_the_page(gw, bedrock_sim):
    bedrock_sim.script(PLAIN)
    (block,) = page.settings("boto3", gw.url)
    with closing(made(block)) as client:
        reply = await asyncio.to_thread(client.converse, **CONVERSE)
    assert reply["output"]["message"]["content"][0]["text"] == SAID
    check_upstream(bedrock_sim)


async def test_an_aws_sdk_by_the_variables_of_the_page(gw, bedrock_sim, monkeypatch):
    bedrock_sim.script(PLAIN)
    for name, value in page.environ("AWS SDKs by environment", gw.url).items():
        monkeypatch.setenv(name, value)
    with closing(boto3.Session().client("bedrock-runtime")) as client:
        reply = await asyncio.to_thread(client.converse, **CONVERSE)
    assert reply["output"]["message"]["content"][0]["text"] == SAID
    check_upstream(bedrock_sim)


async def test_both_clients_of_anthropics_sdk_as_on_the_page(gw, bedrock_sim):
    blocks = page.settings("Anthropic SDK for Python", gw.url)
    assert len(blocks) == 2
    for block in blocks:
        bedrock_sim.script(PLAIN)
        with made(block) as client:
            given = {"model": HAIKU, "max_tokens": 50, "messages": HELLO}
            message = await asyncio.to_thread(client.messages.create, **given)
        assert message.content[0].text == SAID
    check_upstream(bedrock_sim)


async def test_openais_sdk_as_on_the_page(gw, bedrock_sim):
    (block,) = page.settings("OpenAI SDK for Python", gw.url)
    with made(block) as client:
        bedrock_sim.script(PLAIN)
        completion = await asyncio.to_thread(client.chat.completions.create, model=HAIKU, messages=HELLO)
        assert completion.choices[0].message.content == SAID
        bedrock_sim.script(PLAIN)
        response = await asyncio.to_thread(client.responses.create, model=HAIKU, input="hello", store=False)
        assert response.output_text == SAID
    check_upstream(bedrock_sim)


@pytest.mark.parametrize("number", range(5))
async def test_curl_as_on_the_page(gw, bedrock_sim, tmp_path, number):
    bedrock_sim.script(PLAIN)
    commands = page.settings("curl", gw.url)[0].strip().split("\n\n")
    assert len(commands) == 5
    shell = Program(program("sh"), tmp_path, {"PATH": os.environ["PATH"], "CURL": program("curl")})
    status, output = await shell.run("-c", commands[number].replace("curl ", '"$CURL" --silent --fail-with-body ', 1))
    assert status == 0, output
    assert SAID in output
    check_upstream(bedrock_sim)


def test_every_client_has_settings_and_none_is_a_row_of_a_table():
    headings = [line.removeprefix("## ") for line in page.PAGE.read_text().splitlines() if line.startswith("## ")]
    assert len(headings) >= 15
    for heading in headings[:-1]:
        assert page.settings(heading, "http://ai")
    assert "\n|" not in page.PAGE.read_text()
