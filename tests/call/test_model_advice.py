"""Tests of errors about Bedrock models. The error tells the client by which API it can call the model.

Errors of every API format are tried, for streamed and other calls.
"""

import json

import pytest

from gateway.testkit import scenarios
from gateway.testkit.bedrock import BedrockSim
from tests.helpers.gateway import CAP, HAIKU, KEY, NOVA, bedrock, gate

BASE = "anthropic.claude-haiku-4-5-20251001-v1:0"
EU = f"eu.{BASE}"
USER = [{"role": "user", "content": "hello"}]
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
INVOKE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": USER}
PARTS = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
NAME = f"us/{BASE}".replace("/", "%2F")
CLIENTS = {
    # API format: path and body of a whole reply, path and body of a stream
    "chat": ("/v1/chat/completions", {"messages": USER}, "/v1/chat/completions", {"messages": USER, "stream": True}),
    "responses": ("/v1/responses", {"input": "hello"}, "/v1/responses", {"input": "hello", "stream": True}),
    "messages": ("/v1/messages", {"max_tokens": 9, "messages": USER},
                 "/v1/messages", {"max_tokens": 9, "messages": USER, "stream": True}),
    "converse": (f"/bedrock/model/{NAME}/converse", CONVERSE, f"/bedrock/model/{NAME}/converse-stream", CONVERSE),
    "invoke": (f"/bedrock/model/{NAME}/invoke", INVOKE,
               f"/bedrock/model/{NAME}/invoke-with-response-stream", INVOKE),
    "gemini": (f"/v1beta/models/{NAME}:generateContent", PARTS,
               f"/v1beta/models/{NAME}:streamGenerateContent?alt=sse", PARTS),
}  # fmt: skip
BODIES = ("chat", "responses", "messages")
ON_DEMAND = (
    f"Invocation of model ID {BASE} with on-demand throughput isn\u2019t supported. Retry your request with the ID or ARN "
    "of an inference profile that contains this model."
)
CAUSES = {
    # exception and message of Bedrock: (status of the simulated reply, words of the advice)
    ("ValidationException", ON_DEMAND): "are called us.",
    ("ValidationException", "The provided model identifier is invalid."): "there is no model of this name in",
    ("ResourceNotFoundException", "Could not resolve the foundation model from the provided model identifier."):
        "aws bedrock list-inference-profiles",
    ("AccessDeniedException", "You don't have access to the model with the specified model ID."): "has no access to the",
}  # fmt: skip


@pytest.fixture
async def other():
    async with BedrockSim({KEY}) as simulator:
        yield simulator


def providers(upstream, other, flag):
    flags = (flag,)
    return {
        "us": bedrock(upstream.url, flags=flags, models=[BASE, HAIKU]),
        "eu": bedrock(other.url, flags=flags, models=[EU, NOVA]),
    }


async def refused(gw, client, *, stream):
    """Make a call that must be refused. Return the status, the headers and the decoded body of the reply."""
    path, body = CLIENTS[client][2:] if stream else CLIENTS[client][:2]
    reply = await gw.post(path, {**body, "model": f"us/{BASE}"} if client in BODIES else body)
    return reply.status, reply.headers, json.loads(await reply.read())


def message_of(client, body):
    if client in {"converse", "invoke"}:
        return body["message"]
    return (body[0] if isinstance(body, list) else body)["error"]["message"]


@pytest.mark.parametrize("flag", ["bedrock_converse", "bedrock_model_invoke"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("client", CLIENTS)
async def test_every_client_is_told_where_the_model_is(tmp_path, bedrock_sim, other, client, stream, flag):
    async with gate(tmp_path, providers(bedrock_sim, other, flag)) as gw:
        for (name, message), words in CAUSES.items():
            bedrock_sim.default = scenarios.error(name, message)
            status, headers, body = await refused(gw, client, stream=stream)
            told = message_of(client, body)
            assert status == bedrock_sim.failure(name, message).status, told
            assert told.startswith(f"{message} (gateway: "), told
            assert words in told
            assert f'this gateway has the model as "us/{HAIKU}", "eu/{EU}")' in told
            if client in {"converse", "invoke"}:
                assert headers["x-amzn-errortype"] == name
        records = await gw.calls(len(CAUSES))
        assert {record["error_native"] for record in records} == {name for name, _ in CAUSES}
        assert all("(gateway: " in record["error_message"] for record in records)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("client", ["messages", "chat", "responses"])
async def test_clients_of_bedrocks_own_messages_api_are_told_too(tmp_path, anthropic_upstream, client, stream):
    entry = {
        "baseurl": f"{anthropic_upstream.url}/anthropic", "models": [BASE, HAIKU], "apikey": KEY,
        "compatibility": {"anthropic_messages": True}, "options": {"anthropic_messages": {"envelope": "mantle"}},
    }  # fmt: skip
    anthropic_upstream.default = scenarios.error("ValidationException", ON_DEMAND)
    async with gate(tmp_path, {"us": entry}) as gw:
        status, _, body = await refused(gw, client, stream=stream)
        assert (status, f'as "us/{HAIKU}")' in message_of(client, body)) == (400, True)
        assert message_of(client, body).startswith(f"{ON_DEMAND} (gateway: ")


async def test_anthropics_own_api_is_not_advised(tmp_path, anthropic_upstream):
    entry = {
        "baseurl": anthropic_upstream.url, "models": [BASE], "apikey": KEY, "authorization": "x-api-key",
        "compatibility": {"anthropic_messages": True},
    }  # fmt: skip
    anthropic_upstream.default = scenarios.error("ValidationException", ON_DEMAND)
    async with gate(tmp_path, {"us": entry}) as gw:
        _, _, body = await refused(gw, "messages", stream=False)
        assert message_of("messages", body) == ON_DEMAND


async def test_only_models_that_the_caller_may_use_are_named(tmp_path, bedrock_sim, other):
    grants = [{"src": ["*"], "app": {CAP: [{"role": "user", "models": f"us/{BASE}"}]}}]
    bedrock_sim.default = scenarios.error("ValidationException", ON_DEMAND)
    async with gate(tmp_path, providers(bedrock_sim, other, "bedrock_converse"), grants=grants) as gw:
        _, _, body = await refused(gw, "chat", stream=False)
        assert "are called us." in message_of("chat", body)
        assert "this gateway has the model" not in message_of("chat", body)


async def test_another_error_reaches_a_client_of_the_same_format_as_it_is(tmp_path, bedrock_sim, other):
    bedrock_sim.default = scenarios.error("ValidationException", "messages.0: too strange")
    async with gate(tmp_path, providers(bedrock_sim, other, "bedrock_converse")) as gw:
        status, _, body = await refused(gw, "converse", stream=False)
    assert (status, body) == (400, {"message": "messages.0: too strange"})


async def test_advice_names_no_provider_that_has_refused_the_same_call(tmp_path, bedrock_sim, other):
    bedrock_sim.default = scenarios.error("AccessDeniedException", "You don't have access to the model with the id.")
    models = {"models": [HAIKU]}
    both = {"us": bedrock(bedrock_sim.url) | models, "eu": bedrock(other.url, preference=-1) | models}
    chat = {"model": HAIKU, "messages": USER}
    async with gate(tmp_path, both) as gw:
        assert (await gw.post("/v1/chat/completions", chat)).status == 200
        other.default = bedrock_sim.default
        reply = await gw.post("/v1/chat/completions", chat)
        assert reply.status == 403
        told = (await reply.json())["error"]["message"]
        assert 'the AWS account of "us" has no access' in told
        assert "this gateway has the model" not in told
