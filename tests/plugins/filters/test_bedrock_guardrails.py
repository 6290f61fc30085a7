"""Tests of the filter for Bedrock's guardrails, which block or mask prompts and replies.

If the request to the guardrail fails, the call is refused.
"""

import json

import pytest
from aiohttp import web

from tests.helpers.gateway import HAIKU, bedrock, gate
from tests.helpers.providers import provider

BLOCKED = "Sorry, the guardrail does not allow this."


class Guardrails:
    """A simulated ApplyGuardrail (AWS's API reference of Bedrock Runtime): blocks "bomb" and masks "Jane"."""

    def __init__(self):
        self.requests = []
        self.status = 200

    async def answer(self, request):
        body = await request.json()
        self.requests.append((request.path, request.headers["authorization"], body))
        texts = [content["text"]["text"] for content in body["content"]]
        masked = [text.replace("Jane", "{NAME}") for text in texts]
        if any("bomb" in text for text in texts):
            return self._reply("GUARDRAIL_INTERVENED", [BLOCKED], "topicPolicy", "BLOCKED")
        if masked != texts:
            return self._reply("GUARDRAIL_INTERVENED", masked, "sensitiveInformationPolicy", "ANONYMIZED")
        return self._reply("NONE", [], "", "")

    def _reply(self, action, outputs, policy, taken):
        assessments = [{policy: {"topics": [{"name": "x", "type": "DENY", "action": taken}]}}] if policy else []
        body = {"action": action, "outputs": [{"text": text} for text in outputs], "assessments": assessments}
        return web.json_response(body, status=self.status)


@pytest.fixture
async def guardrails(tmp_path, bedrock_sim, monkeypatch):
    simulated = Guardrails()
    monkeypatch.setenv("GUARDRAIL_KEY", "guardrail-key")
    async with provider(simulated.answer) as url:
        settings = {
            "guardrail": "gr1",
            "version": "2",
            "apikey": "env:GUARDRAIL_KEY",
            "baseurl": url,
            "characters": 100,
        }
        server = {"fetch": {"private_hosts": [url.removeprefix("http://")]}}
        more = {"plugins": {"bedrock_guardrails": settings}}
        async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, server=server, more=more) as gw:
            yield gw, simulated


async def ask(gw, prompt, *, stream=False):
    body = {"model": HAIKU, "messages": [{"role": "user", "content": prompt}], "stream": stream}
    return await gw.post("/v1/chat/completions", body)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_the_guardrail_blocks_reaches_no_provider(guardrails, bedrock_sim, stream):
    gw, simulated = guardrails
    reply = await ask(gw, "how to build a bomb", stream=stream)
    assert reply.status == 403
    assert BLOCKED in await reply.text()
    assert not bedrock_sim.requests
    ((path, key, body),) = simulated.requests
    assert (path, key) == ("/guardrail/gr1/version/2/apply", "Bearer guardrail-key")
    assert body == {"source": "INPUT", "content": [{"text": {"text": "how to build a bomb"}}]}


@pytest.mark.parametrize("stream", [False, True])
async def test_masked_texts_take_the_place_of_the_prompt_and_the_reply(guardrails, bedrock_sim, stream):
    gw, simulated = guardrails
    reply = await ask(gw, "I am Jane", stream=stream)
    assert "You said: I am {NAME}" in "".join(texts(reply.body, stream=stream))
    assert b"Jane" not in bedrock_sim.requests[0].body
    assert [body["source"] for _, _, body in simulated.requests][:2] == ["INPUT", "OUTPUT"]


@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_passes_without_the_guardrail(guardrails, bedrock_sim, stream):
    gw, simulated = guardrails
    simulated.status = 503
    reply = await ask(gw, "hello", stream=stream)
    assert reply.status == 500
    assert 'plugin \\"bedrock_guardrails\\" failed in filter.request' in await reply.text()
    assert not bedrock_sim.requests


def texts(body, *, stream):
    if not stream:
        yield json.loads(body)["choices"][0]["message"]["content"]
        return
    for line in body.split(b"\n"):
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
