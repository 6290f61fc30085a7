"""Tests of token counting (count_tokens) by every client with every provider.

The count is exact if the provider can count tokens. If it cannot, the count is an estimate, and is marked as one.
"""

import base64
import json

import pytest

from gateway.testkit import scenarios
from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.openai import OpenAISim
from tests.helpers.gateway import HAIKU, KEY, NOVA, SONNET, bedrock, gate

CLAUDE, GPT = "claude-sonnet-4-5", "gpt-4o"
MESSAGES = [{"role": "user", "content": "hello there"}]
INNER = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5, "messages": MESSAGES}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello there"}]}]}
CLIENTS = {
    "messages": ("/v1/messages/count_tokens", lambda model: {"model": model, "messages": MESSAGES}, "input_tokens"),
    "messages on bedrock's path": (
        "/anthropic/v1/messages/count_tokens", lambda model: {"model": model, "messages": MESSAGES}, "input_tokens",
    ),
    "converse": ("/bedrock/model/{}/count-tokens", lambda _: {"input": {"converse": CONVERSE}}, "inputTokens"),
    "invoke": (
        "/model/{}/count-tokens",
        lambda _: {"input": {"invokeModel": {"body": base64.b64encode(json.dumps(INNER).encode()).decode()}}},
        "inputTokens",
    ),
}  # fmt: skip
UNCOUNTED = scenarios.error("ValidationException", "The provided model doesn't support counting tokens.")


@pytest.fixture
async def gw(tmp_path, bedrock_sim):
    async with AnthropicSim(keys={KEY}) as anthropic, OpenAISim(keys={KEY}) as openai:
        own = {"apikey": KEY, "authorization": "x-api-key", "compatibility": {"anthropic_messages": True}}
        providers = {
            "invoke": bedrock(bedrock_sim.url, flags=["bedrock_model_invoke"], models=[HAIKU]),
            "converse": bedrock(bedrock_sim.url, flags=["bedrock_converse"], models=[SONNET, NOVA]),
            "anthropic": {"baseurl": f"{anthropic.url}/anthropic", "models": [CLAUDE], **own},
            "openai": {"baseurl": f"{openai.url}/v1", "apikey": KEY, "models": [GPT]},
        }
        async with gate(tmp_path, providers) as running:
            running.anthropic, running.openai = anthropic, openai
            yield running


async def counted(gw, client, model):
    path, body, member = CLIENTS[client]
    reply = await gw.post(path.format(model), body(model))
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"].startswith("application/json")
    return json.loads(reply.body)[member], reply.headers.get("x-irisgate-estimated")


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("model", "estimated"), [(HAIKU, None), (SONNET, None), (CLAUDE, None), (GPT, "true")])
async def test_tokens_are_counted_on_every_conversion(gw, client, model, estimated):
    tokens, marked = await counted(gw, client, model)
    assert tokens > 5
    assert marked == estimated
    (record,) = await gw.calls()
    assert (record["operation"], record["outcome"], record["cost_usd"]) == ("count_tokens", "ok", 0)
    assert len(gw.lines.entries("tokens.estimated")) == (estimated is not None)
    assert gw.openai.requests == []


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_model_that_bedrock_cannot_count_is_estimated_last(gw, bedrock_sim, client):
    """Check that the gateway estimates the tokens if Bedrock cannot count them for a model. Before that, it must have
    tried all of Bedrock's counting operations.
    """
    bedrock_sim.script(UNCOUNTED)
    tokens, marked = await counted(gw, client, HAIKU)
    assert (tokens > 5, marked) == (True, "true")
    paths = [seen.path for seen in bedrock_sim.requests]
    assert paths[0] == "/model/anthropic.claude-haiku-4-5-20251001-v1%3A0/count-tokens"
    assert paths[1:] == ([] if client == "converse" else ["/anthropic/v1/messages/count_tokens"])
    await gw.calls()
    (entry,) = gw.lines.entries("tokens.estimated")
    assert (entry["provider"], entry["model"]) == ("invoke", HAIKU)


@pytest.mark.parametrize("model", [HAIKU, SONNET])
async def test_defect_56_an_error_of_counting_comes_in_the_clients_own_shape(gw, bedrock_sim, model):
    bedrock_sim.script(*[scenarios.error("ThrottlingException", "Too many requests")] * 2)
    reply = await gw.post("/v1/messages/count_tokens", {"model": model, "messages": MESSAGES})
    assert (reply.status, json.loads(reply.body)) == (
        429, {"type": "error", "error": {"type": "rate_limit_error", "message": "Too many requests"}},
    )  # fmt: skip
    reply = await gw.post(f"/model/{model}/count-tokens", {"input": {"converse": CONVERSE}})
    assert (reply.status, json.loads(reply.body)) == (429, {"message": "Too many requests"})
    assert reply.headers["x-amzn-errortype"].startswith("ThrottlingException")


async def test_anthropics_counting_error_becomes_bedrocks(gw):
    """Check that a Bedrock client gets an error of Anthropic's count_tokens in Bedrock's format."""
    body = {"input": {"converse": {"messages": [{"role": "user", "content": [{"nothing": 1}]}]}}}
    reply = await gw.post(f"/model/{CLAUDE}/count-tokens", body)
    assert (reply.status, reply.headers["x-amzn-errortype"]) == (400, "ValidationException")


@pytest.mark.parametrize("client", ["messages", "invoke"])
async def test_a_key_in_a_refusal_to_count_reaches_no_client(gw, bedrock_sim, client):
    """Check that the gateway's key is removed if a provider repeats it in its refusal to count tokens."""
    bedrock_sim.default = scenarios.error("AccessDeniedException", f"the key {KEY} may not count")
    path, body, _ = CLIENTS[client]
    reply = await gw.post(path.format(HAIKU), body(HAIKU))
    assert reply.status == 403
    assert KEY not in reply.body.decode()
    assert "the key [redacted] may not count" in reply.body.decode()


@pytest.mark.parametrize(("model", "attempts"), [(HAIKU, 1), (SONNET, 1), (CLAUDE, 1), (GPT, 0)])
async def test_the_record_of_a_count_has_the_requests_that_were_sent(gw, model, attempts):
    await counted(gw, "messages", model)
    (record,) = await gw.calls()
    assert record["attempts"] == attempts


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"inputTokens"', b"<html><title>Sign in</title></html>"])
async def test_a_count_that_is_none_is_an_error(gw, bedrock_sim, client, body):
    """Check that a reply of CountTokens that has no count is an error of the provider, and not a count of 0."""
    for model in (HAIKU, SONNET):
        bedrock_sim.script(scenarios.raw(body))
        path, request, _ = CLIENTS[client]
        reply = await gw.post(path.format(model), request(model))
        assert (reply.status, b"Sign in" in reply.body) == (502, b"Sign in" in body), reply.body
