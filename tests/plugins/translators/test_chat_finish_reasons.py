"""Tests of the finish reasons that some Chat servers have and OpenAI does not, on every conversion.

Sources: the API references of OpenRouter (`error` of a choice), DeepSeek (`insufficient_system_resource`), Z.ai
(`sensitive`, `network_error`, `model_context_window_exceeded`) and Mistral (`model_length`), and vLLM's source
(`abort`).
"""

import pytest

from gateway.contract import errors
from gateway.contract.errors import UpstreamFailed
from tests.helpers.conversion import ALL_CONVERSIONS, BASES, CONVERSIONS, encoded
from tests.helpers.fold import fold

OF_CHAT = [conversion for conversion in CONVERSIONS.values() if conversion.upstream == "openai_chat"]
each_conversion = pytest.mark.parametrize("conversion", OF_CHAT, ids=lambda conversion: conversion.client.name)
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
CHUNK = "chat.completion.chunk"
SAID = {"role": "assistant", "content": "So"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
LIMIT, CONTEXT, REFUSED, END = (
    ("max_tokens", "max_tokens", "MAX_TOKENS", "max_output_tokens"),
    ("model_context_window_exceeded", "model_context_window_exceeded", "MAX_TOKENS", "max_output_tokens"),
    ("refusal", "content_filtered", "SAFETY", "content_filter"),
    ("end_turn", "end_turn", "STOP", None),
)
"""Each is one reason for the end of a reply, in the words of four APIs: Messages, Converse, Gemini, and Responses
(`incomplete_details.reason`)."""
STOPS = {
    "max_tokens": LIMIT,
    "model_length": CONTEXT,
    "model_context_window_exceeded": CONTEXT,
    "sensitive": REFUSED,
    "SAFETY": REFUSED,
    "content_filter: RECITATION": REFUSED,
    "eos": END,
}
FAILURES = ("error", "network_error", "insufficient_system_resource", "abort")
ERROR = {"code": 502, "message": "the model's host went away"}


def chunk(**choice):
    return CHUNK, {"id": "c", "choices": [{"index": 0, "finish_reason": None, **choice}]}


def chunks(conversion, **choice):
    """Return the bytes of a Chat stream. `choice` are fields of the choice in its last chunk."""
    usage = CHUNK, {"id": "c", "choices": [], "usage": USAGE}
    return encoded(conversion.provider, "openai_chat", [chunk(delta=SAID), chunk(delta={}, **choice), usage])


def reply(conversion, stream, **choice):
    """Return the client's reply if the provider sends a Chat reply with the fields `choice` in its choice."""
    passed = conversion.call(BASES[conversion.dialect], stream=stream)
    if stream:
        return fold(conversion.dialect, passed.events(chunks(conversion, **choice)))
    return passed.whole({"id": "c", "choices": [{"index": 0, "message": SAID, **choice}], "usage": USAGE})


def stop_of(body):
    """Return the stop reason of a reply in any client's dialect."""
    if "candidates" in body:
        return body["candidates"][0]["finishReason"]
    if "output" in body and "status" in body:
        return (body["incomplete_details"] or {}).get("reason")
    return body.get("stop_reason") or body["stopReason"]


@both_ways
@each_conversion
@pytest.mark.parametrize("reason", STOPS)
def test_a_servers_own_finish_reason_has_its_meaning(conversion, reason, stream):
    dialects = ("anthropic_messages", "bedrock_converse", "gemini_generate_content", "openai_responses")
    expected = STOPS[reason][dialects.index(conversion.dialect)]
    assert stop_of(reply(conversion, stream, finish_reason=reason)) == expected


@both_ways
@each_conversion
@pytest.mark.parametrize("reason", FAILURES)
def test_a_reply_that_the_server_broke_off_is_an_error(conversion, reason, stream):
    """Check that the client gets an error if the server breaks off its reply because of a failure.

    The received part of the reply must not look like a whole answer.
    """
    with pytest.raises(UpstreamFailed, match=f'broke off its reply .finish reason "{reason}"') as failed:
        reply(conversion, stream, finish_reason=reason)
    assert (failed.value.problem.code, failed.value.problem.retryable) == (errors.UPSTREAM, True)


@both_ways
@each_conversion
@pytest.mark.parametrize("reason", ["error", None])
def test_the_error_of_a_choice_reaches_the_client(conversion, reason, stream):
    with pytest.raises(UpstreamFailed, match="the model's host went away") as failed:
        reply(conversion, stream, finish_reason=reason, error=ERROR)
    assert failed.value.problem.code == errors.UNAVAILABLE


@each_conversion
def test_an_error_beside_a_part_of_the_answer_reaches_the_client(conversion):
    choice = {"index": 0, "message": SAID, "finish_reason": "error"}
    with pytest.raises(UpstreamFailed, match="the model's host went away"):
        conversion.call(BASES[conversion.dialect]).whole({"id": "c", "choices": [choice], "error": ERROR})


def test_the_error_of_a_choice_fails_a_native_stream():
    conversion = ALL_CONVERSIONS["openai_chat__openai_chat"]
    data = chunks(conversion, finish_reason="error", error=ERROR)
    with pytest.raises(UpstreamFailed, match="the model's host went away") as failed:
        conversion.call(BASES["openai_chat"], stream=True).streamed(data)
    assert failed.value.raw in data
    assert b"went away" in failed.value.raw
