"""Tests of calls whose cost was wrong in another gateway or client, as users reported, with the correct cost of
each.
"""

import json

import pytest

from tests.helpers.gateway import KEY, gate
from tests.helpers.scripted import scripted
from tests.helpers.wires import framed

ASK = [{"role": "user", "content": "go"}]
TEXT = "hello world, a reply. "
CACHES = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}


def messages_provider(model):
    return {"models": [model], "compatibility": {"anthropic_messages": True, "openai_chat": False}}


def message(usage, model="claude", content=({"type": "text", "text": TEXT},)):
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": list(content),
        "stop_reason": "end_turn", "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def message_events(first, last, **stop):
    """Return the events of a streamed message: its beginning has the usage report `first`, and its end the report
    `last`.
    """
    start = {**message(first), "content": [], "stop_reason": None}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": last},
        {"type": "message_stop", **stop},
    ]


def chunk(delta=None, finish=None, usage=None):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    made = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5.1", "choices": choices}
    return made | ({"usage": usage} if usage else {})


def sse(*chunks):
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks) + b"data: [DONE]\n\n"


CLAUDE = {"model": "", "max_tokens": 100, "messages": ASK}
MARKED = [{"type": "text", "text": "s" * 50, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
OPUS_US = "us.anthropic.claude-opus-4-8"

# name: (provider, path, the client's body, the provider's body, cost in USD)
WHOLE = {
    # 1.1 times (1,000 x 5 + 100 x 25 + 2,000 x .5 + 300 x 6.25)
    "inside the us": (
        messages_provider("claude-opus-4-8"), "/v1/messages", CLAUDE,
        message({
            "input_tokens": 1000, "cache_creation_input_tokens": 300, "cache_read_input_tokens": 2000,
            "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 100, "service_tier": "standard", "inference_geo": "us",
        }),
        0.0114125,
    ),
    # (180,000 + 23,000) x 5 + (3,500 + 1,000) x 25
    "a compaction": (
        messages_provider("claude-opus-4-6"), "/v1/messages", CLAUDE,
        message({
            "input_tokens": 23000, **CACHES, "output_tokens": 1000, "service_tier": "standard",
            "iterations": [
                {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500, **CACHES},
                {"type": "message", "input_tokens": 23000, "output_tokens": 1000, **CACHES},
            ],
        }),
        1.1275,
    ),
    # 1,500 x 1 + 300 x 5 of Haiku, 800 x 5 + 1,600 x 25 of Opus
    "an advisor": (
        messages_provider("claude-haiku-4-5-20251001"), "/v1/messages", CLAUDE,
        message({
            "input_tokens": 1500, **CACHES, "output_tokens": 300, "service_tier": "standard",
            "iterations": [
                {"type": "message", "input_tokens": 700, "output_tokens": 100, **CACHES},
                {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 800, "output_tokens": 1600,
                 **CACHES},
                {"type": "message", "input_tokens": 800, "output_tokens": 200, **CACHES},
            ],
        }),
        0.047,
    ),
    # 1,000 x 5 + 500 x 25 of the model that answered; the one that declined without output is not billed
    "a fallback": (
        messages_provider("claude-fable-5"), "/v1/messages", {**CLAUDE, "fallbacks": [{"model": "claude-opus-4-8"}]},
        message(
            {
                "input_tokens": 1000, **CACHES, "output_tokens": 500, "service_tier": "standard",
                "iterations": [
                    {"type": "message", "model": "claude-fable-5", "input_tokens": 1000, "output_tokens": 0, **CACHES},
                    {"type": "fallback_message", "model": "claude-opus-4-8", "input_tokens": 1000,
                     "output_tokens": 500, **CACHES},
                ],
            },
            "claude-opus-4-8",
            ({"type": "fallback", "from": {"model": "claude-fable-5"}, "to": {"model": "claude-opus-4-8"}},
             {"type": "text", "text": TEXT}),
        ),
        0.0175,
    ),
    # 1,000 x 1.25 + 9,000 x .125 + 100 x 10
    "deepseek's cache": (
        {"models": ["deepseek-v4"], "model_cost_map": [{"match": "*", "as": "openai/gpt-5.1"}],
         "compatibility": {"openai_chat": True}},
        "/v1/chat/completions", {"model": "", "messages": ASK},
        {
            "id": "c", "object": "chat.completion", "created": 1, "model": "gpt",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 10000, "completion_tokens": 100, "total_tokens": 10100,
                "prompt_cache_hit_tokens": 9000, "prompt_cache_miss_tokens": 1000,
            },
        },
        0.003375,
    ),
}  # fmt: skip


async def record_of(tmp_path, provider, path, body, answer, content_type="application/json"):
    """Return the record of a call to which the provider gives this answer, and the body that the client got."""
    async with scripted() as upstream:
        upstream.answer(answer, content_type)
        settings = {"baseurl": upstream.url, "apikey": KEY, "authorization": "bearer", **provider}
        async with gate(tmp_path, {"p": settings}) as gw:
            (model,) = provider["models"]
            reply = await gw.post(path, {**body, "model": model} if "model" in body else body)
            assert reply.status == 200, reply.body
            (record,) = await gw.calls()
    return record, reply.body


@pytest.mark.parametrize("name", WHOLE)
async def test_a_whole_reply_costs_what_its_provider_bills(tmp_path, name):
    provider, path, body, answer, cost = WHOLE[name]
    record, seen = await record_of(tmp_path, provider, path, body, json.dumps(answer).encode())
    assert (record["cost_usd"], record["estimated"]) == (cost, False)
    assert json.loads(seen)["usage"] == answer["usage"]


CLAUDE_WHOLE = [name for name in WHOLE if name != "deepseek's cache"]


@pytest.mark.parametrize("name", CLAUDE_WHOLE)
async def test_its_stream_costs_the_same(tmp_path, name):
    provider, path, body, answer, cost = WHOLE[name]
    first = {"input_tokens": answer["usage"]["input_tokens"], "output_tokens": 1, **CACHES}
    events = message_events(first, answer["usage"])
    events[0]["message"]["model"] = provider["models"][0]
    stream, content_type = framed("anthropic_messages", [("", event) for event in events])
    record, _ = await record_of(tmp_path, provider, path, {**body, "stream": True}, stream, content_type)
    assert (record["cost_usd"], record["estimated"]) == (cost, False)


WRITTEN_METRICS = {
    "inputTokenCount": 10, "outputTokenCount": 40, "cacheReadInputTokenCount": 0, "cacheWriteInputTokenCount": 10000,
    "invocationLatency": 1, "firstByteLatency": 1,
}  # fmt: skip
GUESS = {"input_tokens": 59136, **CACHES, "output_tokens": 0}
KIMI = {
    "input_tokens": 64, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 59072, "output_tokens": 80,
    "prompt_tokens": 59136,
}  # fmt: skip
FEW = {"prompt_tokens": 35227, "completion_tokens": 100, "total_tokens": 35327}
CACHED = {**FEW, "prompt_tokens_details": {"cached_tokens": 32512}}
INVOKED = message_events({"input_tokens": 10, "output_tokens": 1}, {"output_tokens": 40})
INVOKED[-1]["amazon-bedrock-invocationMetrics"] = WRITTEN_METRICS

# name: (provider, path, the client's body, the stream and its type, cost in USD)
STREAMED = {
    # 10 x 5.5 + 40 x 27.5 + 10,000 x 11, as every mark of the request says an hour
    "an hour's writes as a sum": (
        {"models": [OPUS_US], "cost_basis": "bedrock",
         "compatibility": {"bedrock_model_invoke": True, "bedrock_converse": True}},
        f"/bedrock/model/{OPUS_US}/invoke-with-response-stream",
        {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "system": MARKED, "messages": ASK},
        framed("bedrock_model_invoke", [("chunk", event) for event in INVOKED]),
        0.111155,
    ),
    # 2,715 x 1.25 + 32,512 x .125 + 100 x 10
    "two reports of vllm": (
        {"models": ["gpt-5.1"], "compatibility": {"openai_chat": True}}, "/v1/chat/completions",
        {"model": "", "messages": ASK, "stream": True},
        (sse(chunk({"role": "assistant", "content": TEXT}), chunk({}, "stop", FEW), chunk(usage=CACHED)),
         "text/event-stream"),
        0.00845775,
    ),
    # 64 x 2 + 59,072 x .2 + 80 x 10
    "a guess and the last word of kimi": (
        messages_provider("claude-sonnet-5"), "/v1/messages", {**CLAUDE, "stream": True},
        framed("anthropic_messages", [("", event) for event in message_events(GUESS, KIMI)]),
        0.0127424,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMED)
async def test_a_stream_costs_what_its_last_reports_say(tmp_path, name):
    provider, path, body, (stream, content_type), cost = STREAMED[name]
    record, _ = await record_of(tmp_path, provider, path, body, stream, content_type)
    assert (record["cost_usd"], record["estimated"]) == (cost, False)
