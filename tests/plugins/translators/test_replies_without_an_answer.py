"""Tests of replies in which the model failed and wrote neither text nor a tool call.

Sources: BerriAI/litellm#40477 (a candidate of Gemini with a finish reason and no content), livekit/agents#4036 (no
candidates).
"""

import json

import pytest

from gateway.contract import errors
from gateway.contract.errors import UpstreamFailed
from tests.helpers.conversion import BASES, CONVERSIONS, encoded
from tests.helpers.fold import fold
from tests.helpers.gateway import bedrock, gate
from tests.helpers.scripted import scripted

CLIENTS = ("anthropic_messages", "bedrock_model_invoke", "openai_chat")
"""The clients whose APIs have no stop reason for a failure of the model."""
clients = pytest.mark.parametrize("client", CLIENTS)
upstreams = pytest.mark.parametrize("upstream", ["gemini_generate_content", "bedrock_converse"])
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
THOUGHT = {"text": "Let me look.", "thought": True}
COUNTS = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
USAGE = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}


def of_gemini(parts, reason="MALFORMED_FUNCTION_CALL"):
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": reason, "index": 0}
    body = {"candidates": [candidate], "usageMetadata": COUNTS, "modelVersion": "gemini"}
    return [("", body)], body


def of_converse(texts, reason="malformed_tool_use"):
    content = [{"text": text} for text in texts]
    body = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": reason, "usage": USAGE}
    deltas = [("contentBlockDelta", {"contentBlockIndex": 0, "delta": block}) for block in content]
    ends = [("messageStop", {"stopReason": reason}), ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}})]
    return [("messageStart", {"role": "assistant"}), *deltas, *ends], body


def reply(client, upstream, made, stream):
    """Return the reply that the client gets. `made` is the provider's reply, as (events of a stream, unstreamed body)."""
    conversion = CONVERSIONS[f"{client}__{upstream}"]
    events, body = made
    passed = conversion.call(BASES[conversion.dialect], stream=stream)
    if stream:
        return fold(conversion.dialect, passed.events(encoded(conversion.provider, upstream, events)))
    return passed.whole(body)


@both_ways
@clients
@pytest.mark.parametrize(
    ("upstream", "made"),
    [
        ("gemini_generate_content", of_gemini([])),
        ("gemini_generate_content", of_gemini([], "NO_IMAGE")),
        ("gemini_generate_content", of_gemini([THOUGHT])),
        ("bedrock_converse", of_converse([])),
        ("bedrock_converse", of_converse([], "malformed_model_output")),
    ],
    ids=["nothing", "no image", "thinking alone", "nothing of Converse", "no output of Converse"],
)
def test_a_failure_of_the_model_without_an_answer_is_an_error(client, upstream, made, stream):
    with pytest.raises(UpstreamFailed, match="neither an answer nor a call") as failed:
        reply(client, upstream, made, stream)
    assert (failed.value.problem.code, failed.value.problem.retryable) == (errors.UPSTREAM, True)


@both_ways
@clients
@pytest.mark.parametrize(
    ("upstream", "made"),
    [
        ("gemini_generate_content", of_gemini([{"text": "Moment."}])),
        ("gemini_generate_content", of_gemini([{"functionCall": {"name": "look", "args": {}}}])),
        ("gemini_generate_content", of_gemini([], "STOP")),
        ("gemini_generate_content", of_gemini([THOUGHT], "MAX_TOKENS")),
        ("bedrock_converse", of_converse(["Moment."])),
        ("bedrock_converse", of_converse([], "end_turn")),
    ],
    ids=["text", "call", "empty answer", "limit", "text of Converse", "empty answer of Converse"],
)
def test_an_answer_or_another_reason_is_no_error(client, upstream, made, stream):
    assert reply(client, upstream, made, stream)


@pytest.mark.parametrize("client", [*CLIENTS, "openai_responses", "bedrock_converse"])
def test_a_reply_of_gemini_without_candidates_is_an_error(client):
    with pytest.raises(UpstreamFailed, match="no candidates"):
        reply(client, "gemini_generate_content", ([], {"candidates": [], "usageMetadata": COUNTS}), stream=False)


async def test_a_client_of_a_stream_gets_an_error_event(tmp_path):
    """Check that a streamed reply without an answer ends with an error and not like a complete answer, and that its
    tokens are charged.
    """
    (event,), _ = of_gemini([THOUGHT])
    async with scripted() as provider:
        provider.answer(b"data: %b\n\n" % json.dumps(event[1]).encode(), "text/event-stream")
        gemini = bedrock(provider.url, flags=["gemini_generate_content"], models=["gemini-3-pro"])
        async with gate(tmp_path, {"g": gemini}) as gw:
            messages = [{"role": "user", "content": "Hi"}]
            body = {"model": "gemini-3-pro", "max_tokens": 99, "messages": messages, "stream": True}
            got = await gw.post("/v1/messages", body)
            assert b"event: error" in got.body
            assert b"neither an answer nor a call (MALFORMED_FUNCTION_CALL)" in got.body
            assert b"message_stop" not in got.body
            (record,) = await gw.calls()
    assert (record["error"], record["tokens"]["input"], record["tokens"]["output"]) == ("upstream", 3, 2)
