"""Tests of requests that a provider accepts but strict parsers refuse.

Such requests are passed on unchanged if they are not translated.
"""

import re

import pytest
from aiohttp import web

from tests.end_to_end.test_defences import provider
from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate

CLAUDE_REPLY = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "ok"}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 2},
}  # fmt: skip
REPLIES = {
    "openai_chat": {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    },
    "openai_responses": {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": [],
        "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
    },
    "anthropic_messages": CLAUDE_REPLY,
    "bedrock_model_invoke": CLAUDE_REPLY,
    "bedrock_converse": {
        "output": {"message": {"role": "assistant", "content": [{"text": "ok"}]}}, "stopReason": "end_turn",
        "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}, "metrics": {"latencyMs": 3},
    },
}  # fmt: skip
CLAUDES = {"anthropic_messages", "bedrock_model_invoke"}
HALF = re.compile(rb"((?<!\\)(?:\\\\)*)\\u[dD][0-9a-fA-F]{3}")
MESSAGES = {"model": HAIKU, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
INVOKE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": MESSAGES["messages"]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
NATIVE = {
    "openai_chat": ("/v1/chat/completions", b'{"model":"m","messages":[{"role":"user","content":"%b"}]}'),
    "openai_responses": ("/v1/responses", b'{"model":"m","input":[{"role":"user","content":"%b"}]}'),
    "anthropic_messages": (
        "/v1/messages",
        b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"%b"}]}]}',
    ),
    "bedrock_converse": (f"/model/{NOVA}/converse", b'{"messages":[{"role":"user","content":[{"text":"%b"}]}]}'),
    "bedrock_model_invoke": (
        f"/model/{HAIKU}/invoke",
        b'{"anthropic_version":"bedrock-2023-05-31","max_tokens":9,"messages":[{"role":"user","content":"%b"}]}',
    ),
}


@pytest.mark.parametrize("size", [0, 1_200_000])
@pytest.mark.parametrize("flag", NATIVE)
async def test_a_half_of_a_character_reaches_the_provider_as_it_came(tmp_path, flag, size):
    """Check that a request is accepted if its text has half of a surrogate pair. Clients send it if they cut a text
    within a character (anomalyco/opencode#17758).

    The half is passed on unchanged. Only for Claude it is replaced by U+FFFD, because Claude's API refuses it
    (anthropics/claude-code#60394).
    """
    bodies = []

    async def answering(request):
        bodies.append(await request.read())
        return web.json_response(REPLIES[flag])

    path, body = NATIVE[flag]
    async with (
        provider(answering) as url,
        gate(tmp_path, {"b": bedrock(url, flags=[flag], models=["m", NOVA, HAIKU])}) as gw,
    ):
        for text in (rb"cut \ud83d here", rb"cut \ud83d", rb"\ude00", b"x" * size + rb"\uD83D\\ud83d"):
            sent = body % text
            reply = await gw.post(path, sent)
            assert reply.status == 200, await reply.text()
            assert bodies[-1] == (HALF.sub(rb"\1\\ufffd", sent) if flag in CLAUDES else sent)
        assert {record["session_id"][:3] for record in await gw.calls(4)} == {"fp_"}


@pytest.mark.parametrize("flags", [["bedrock_model_invoke"], ["bedrock_converse"]])
async def test_messages_below_bedrock_are_served(tmp_path, bedrock_sim, flags):
    """Check that a Messages request whose path begins with /bedrock is served. Anthropic's Go SDK sends such requests
    in Bedrock mode, if its base URL ends with /bedrock.
    """
    body = {**MESSAGES, "anthropic_version": "bedrock-2023-05-31"}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, flags=flags)}) as gw:
        reply = await gw.post("/bedrock/v1/messages", body)
        assert (reply.status, (await reply.json())["type"]) == (200, "message")
        streamed = await gw.post("/bedrock/v1/messages", {**body, "stream": True})
        assert b"event: message_stop" in streamed.body


@pytest.mark.parametrize(
    "path", ["/bedrock//inference-profiles", "//inference-profiles", "/bedrock/inference-profiles"]
)
async def test_a_base_url_that_ends_with_a_slash_finds_the_profiles(tmp_path, bedrock_sim, path):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, models=[HAIKU])}) as gw:
        listed = await (await gw.get(f"{path}?type=SYSTEM_DEFINED")).json()
        assert [entry["inferenceProfileId"] for entry in listed["inferenceProfileSummaries"]] == [HAIKU]
        one = await gw.get(f"{path}/{HAIKU}")
        assert (one.status, (await one.json())["inferenceProfileId"]) == (200, HAIKU)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("//model/{}/converse", CONVERSE), ("/bedrock//model/{}/converse", CONVERSE),
        ("/bedrock//model/{}/invoke", INVOKE), ("//v1/messages", MESSAGES), ("/v1//chat/completions", MESSAGES),
    ],
)  # fmt: skip
async def test_a_base_url_that_ends_with_a_slash_reaches_the_model(tmp_path, bedrock_sim, path, body):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, models=[HAIKU])}) as gw:
        reply = await gw.post(path.format(HAIKU), body)
        assert (reply.status, len(bedrock_sim.requests)) == (200, 1)


async def test_a_base_url_that_ends_with_a_slash_reaches_a_job(tmp_path, bedrock_sim):
    entry = bedrock(bedrock_sim.url, models=[HAIKU], options={"bedrock_model_invoke": {"jobs": True}})
    async with gate(tmp_path, {"b": entry}) as gw:
        reply = await gw.get("/bedrock//async-invoke/abcdefghijkl")
        assert (reply.status, bedrock_sim.requests[0].path) == (404, "/async-invoke/abcdefghijkl")


@pytest.mark.parametrize("flags", [["bedrock_converse"], ["bedrock_model_invoke"]])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/model/{}/converse", CONVERSE), ("/model/{}/invoke", INVOKE), ("/v1/messages", MESSAGES),
        ("/v1/chat/completions", MESSAGES),
    ],
)  # fmt: skip
async def test_only_invoke_model_passes_on_the_accepted_type(tmp_path, bedrock_sim, path, body, flags):
    """Check that the client's header `Accept` reaches Bedrock only if an InvokeModel request is passed on unchanged.

    In other API formats, the header describes the gateway's reply, and not Bedrock's.
    """
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, models=[HAIKU], flags=flags)}) as gw:
        reply = await gw.post(path.format(HAIKU), body, headers={"accept": "text/event-stream"})
        own = path.endswith("/invoke") and flags == ["bedrock_model_invoke"]
        sent = bedrock_sim.requests[0].headers["accept"]
        assert (reply.status, sent) == (200, "text/event-stream" if own else "application/json")


TRANSLATED = [
    ("/v1/chat/completions", b'{"model":"%b","messages":[{"role":"user","content":"%b"}]}'),
    ("/v1/responses", b'{"model":"%b","input":"%b"}'),
    ("/v1/messages", b'{"model":"%b","max_tokens":9,"messages":[{"role":"user","content":"%b"}]}'),
]


@pytest.mark.parametrize("size", [0, 1_200_000])
@pytest.mark.parametrize("model", [HAIKU, NOVA])
@pytest.mark.parametrize(("path", "body"), TRANSLATED)
async def test_a_half_of_a_character_is_translated_in_bodies_of_any_size(
    tmp_path, bedrock_sim, path, body, model, size
):
    """Check that in a translated body, half of a surrogate pair becomes U+FFFD. Large bodies are translated in a worker
    process.
    """
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        reply = await gw.post(path, body % (model.encode(), b"x" * size + rb"cut \ud83d here"))
        assert reply.status == 200, await reply.text()
        sent = bedrock_sim.requests[-1].body
        assert "cut \ufffd here".encode() in sent or rb"cut \ufffd here" in sent
