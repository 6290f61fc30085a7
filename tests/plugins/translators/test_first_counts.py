"""Tests of the input tokens in `message_start`, from which Claude Code shows how full the context is
(router-for-me/CLIProxyAPI#1700).
"""

import json

import pytest

from gateway.contract.framing import sse
from tests.helpers.clients import CLIENTS
from tests.helpers.conversion import CONVERSIONS
from tests.helpers.fold import fold, read_stream
from tests.helpers.wires import framed

TEXT = "word " * 300
LATE = [
    each
    for each in CONVERSIONS.values()
    if each.dialect == "anthropic_messages" and each.upstream in {"openai_chat", "bedrock_converse"}
]
late = pytest.mark.parametrize("conversion", LATE, ids=lambda conversion: conversion.name)


def chat(usage):
    chunks = [{"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}]
    chunks += [{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}] if usage else []
    return b"".join(sse.encode(json.dumps(chunk).encode()) for chunk in chunks) + sse.encode(b"[DONE]")


def converse(usage):
    events = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": {"inputTokens": 7, "outputTokens": 5, "totalTokens": 12}} if usage else {}),
    ]
    return framed("bedrock_converse", events)[0]


def told(conversion, *, usage):
    say = CLIENTS[conversion.client.name]
    body = say.body(say.user(say.text(TEXT)), limit=99)
    data = (chat if conversion.upstream == "openai_chat" else converse)(usage)
    call = conversion.call(body, stream=True)
    return read_stream(call.streamed(data), conversion.client.stream_type(call.client_request))


@late
def test_counts_that_come_late_are_an_estimate_first(conversion):
    """Check that the input tokens in `message_start` are an estimate if the provider reports its count only later.

    At the end of the stream, the client gets the provider's count.
    """
    events = told(conversion, usage=True)
    assert events[0][0] == "message_start"
    first = events[0][1]["message"]["usage"]["input_tokens"]
    assert len(TEXT) // 6 < first < len(TEXT)
    reply = CLIENTS[conversion.client.name].read_reply(fold("anthropic_messages", events))
    assert (reply.input, reply.output) == (7, 5)
    metrics = events[-1][1].get("amazon-bedrock-invocationMetrics", {"inputTokenCount": 7})
    assert metrics["inputTokenCount"] == 7


@late
def test_without_a_report_the_estimate_stands(conversion):
    events = told(conversion, usage=False)
    (delta,) = (data for kind, data in events if kind == "message_delta")
    assert delta["usage"] == {"output_tokens": 0}


def test_there_are_conversions_whose_counts_come_late():
    assert {(each.client.name, each.upstream) for each in LATE} == {
        ("anthropic_messages", "openai_chat"),
        ("anthropic_messages", "bedrock_converse"),
        ("bedrock_model_invoke", "openai_chat"),
        ("bedrock_model_invoke", "bedrock_converse"),
    }
