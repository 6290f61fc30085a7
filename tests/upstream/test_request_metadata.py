"""Tests that Bedrock's logs of invocations name the caller, whatever the client's format and the provider's API are."""

import json

import pytest

from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate
from tests.upstream.credentials.test_aws_credentials import CHAT, CONVERSE, MESSAGES, served

SENT = {"user": "-loopback--d649a152", "team": "research"}
INVOKE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 10, "messages": MESSAGES["messages"]}
CLIENTS = {
    # client: (path, body, entries of the client that are sent too)
    "converse": ("/model/{}/converse", CONVERSE, {}),
    "converse, streamed": ("/model/{}/converse-stream", CONVERSE, {}),
    "converse with entries": (
        "/model/{}/converse", {**CONVERSE, "requestMetadata": {"job": "7", "user": "forged"}}, {"job": "7"},
    ),
    "converse with 16 entries": (
        "/model/{}/converse", {**CONVERSE, "requestMetadata": {f"k{n}": "v" for n in range(16)}},
        {f"k{n}": "v" for n in range(14)},
    ),
    "invoke": ("/model/{}/invoke", INVOKE, {}),
    "chat": ("/v1/chat/completions", CHAT, {}),
    "messages": ("/v1/messages", MESSAGES, {}),
    "messages, streamed": ("/v1/messages", {**MESSAGES, "stream": True}, {}),
}  # fmt: skip


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("flag", ["bedrock_converse", "bedrock_model_invoke"])
async def test_the_caller_is_in_the_metadata(tmp_path, bedrock_sim, client, flag):
    path, body, others = CLIENTS[client]
    configured = {"user": "<user>", "team": "research"}
    provider = bedrock(bedrock_sim.url, flags=[flag], request_metadata=configured)
    async with gate(tmp_path, {"b": provider}) as gw:
        assert (await served(gw, path, body, HAIKU))[0] == 200
    (seen,) = bedrock_sim.requests
    header = seen.headers.get("x-amzn-bedrock-request-metadata", "null")
    assert (seen.json.get("requestMetadata"), json.loads(header)) == (
        (SENT | others, None) if flag == "bedrock_converse" else (None, SENT | others)
    )


@pytest.mark.parametrize("flag", ["bedrock_converse", "bedrock_model_invoke"])
async def test_an_invoke_clients_own_header_is_sent_too(tmp_path, bedrock_sim, flag):
    provider = bedrock(bedrock_sim.url, flags=[flag], request_metadata={"user": "<user>"})
    headers = {"x-amzn-bedrock-request-metadata": '{"user": "forged", "job": "7"}'}
    async with gate(tmp_path, {"b": provider}) as gw:
        assert (await gw.post(f"/model/{HAIKU}/invoke", INVOKE, headers=headers)).status == 200
    (seen,) = bedrock_sim.requests
    header = json.loads(seen.headers.get("x-amzn-bedrock-request-metadata", "null"))
    assert (seen.json.get("requestMetadata") or header) == {"user": SENT["user"], "job": "7"}


async def test_metadata_of_another_type_is_refused_as_before(tmp_path, bedrock_sim):
    provider = bedrock(bedrock_sim.url, flags=["bedrock_converse"], request_metadata={"user": "<user>"})
    async with gate(tmp_path, {"b": provider}) as gw:
        assert (await served(gw, "/model/{}/converse", {**CONVERSE, "requestMetadata": []}, NOVA))[0] == 400
