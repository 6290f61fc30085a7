"""Tests of a second turn over HTTP on each client route, with a provider of Chat Completions.

In the second turn, the client sends the first reply back. The provider must get the reasoning of its first reply
unchanged, including signatures and encrypted thinking.
"""

import json

import pytest

from gateway.testkit import scenarios
from tests.helpers.gateway import KEY, gate
from tests.helpers.second_turn import BASES, asked, body, sent_back

ROUTES = {
    "/v1/messages": "anthropic_messages",
    "/bedrock/model/{model}/invoke": "anthropic_messages",
    "/bedrock/model/{model}/converse": "bedrock_converse",
    "/v1/responses": "openai_responses",
    "/v1/chat/completions": "openai_chat",
}
SIGNED = {
    "id": "c1",
    "type": "function",
    "function": {"name": "f", "arguments": "{}"},
    "extra_content": {"google": {"thought_signature": "SIGNATURE_A"}},
}
DETAILS = [{"type": "reasoning.encrypted", "data": "gAAA", "format": "openai-responses-v1", "index": 0}]
PLAIN = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGES = {
    # model: the assistant's message in both turns
    "gemini-3-pro": {"role": "assistant", "content": None, "tool_calls": [SIGNED]},
    "deepseek-v4-pro": {"role": "assistant", "content": None, "reasoning_content": "plan", "tool_calls": [PLAIN]},
    "openai/gpt-5.4": {"role": "assistant", "content": None, "reasoning_details": DETAILS, "tool_calls": [PLAIN]},
    "openai.gpt-oss-120b-1:0": {
        "role": "assistant",
        "content": "<reasoning>plan</reasoning>So.",
        "tool_calls": [PLAIN],
    },
}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def request(path, model, history):
    """Return the body of a client's request for the route `path`. The body has the model's name if the path does not."""
    client = ROUTES[path]
    made = {**BASES[client], **body(client, history)}
    if "{model}" in path:
        made.pop("model", None)
    else:
        made["model"] = model
    return made | ({"anthropic_version": "bedrock-2023-05-31"} if path.endswith("/invoke") else {})


@pytest.mark.parametrize("model", MESSAGES)
@pytest.mark.parametrize("path", ROUTES)
async def test_a_provider_gets_back_what_it_made(path, model, tmp_path, openai_upstream):
    client, message = ROUTES[path], MESSAGES[model]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    reply = {"id": "c1", "object": "chat.completion", "model": model, "choices": [choice], "usage": USAGE}
    provider = {
        "baseurl": openai_upstream.url,
        "apikey": KEY,
        "models": [model],
        "compatibility": {"openai_chat": True},
    }
    async with gate(tmp_path, {"p": provider}) as gw:
        history = asked(client)
        for _ in range(2):
            openai_upstream.script(scenarios.raw(json.dumps(reply).encode()))
            answer = await gw.post(path.format(model=model), request(path, model, history))
            assert answer.status == 200, answer.body
            history += sent_back(client, await answer.json())
    sent = json.loads(openai_upstream.requests[-1].body)
    assert sent["messages"][1] == message
