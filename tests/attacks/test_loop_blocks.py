"""Tests that a hostile request of the maximum size does not block the event loop much longer than a harmless one.

- The harmless request has one long text, which the gateway only scans and copies. Its CPU time is measured first. The
  limit for a hostile request is a multiple of this time.
- Every operation is tried with every conversion: native, in another envelope, and each translation.
- Code that loops over a hostile body would take 20 to 100 times as long as the harmless request. Code that only scans
  the body takes up to 4 times as long.
"""

import asyncio
import json
import os
from urllib.parse import quote

import pytest
from aiohttp import web

from tests.helpers.blocking_http import post
from tests.helpers.gateway import bedrock, gate
from tests.helpers.loop_monitor import longest_block
from tests.helpers.providers import provider_in_a_thread

LIMIT = 1_300_000
"""Number of bytes of a body. The body is large enough to be read in a worker process, and small enough for many
runs.
"""
RATIO = 4
PLAIN_UNITS = 3
"""Minimum of the time that `allowed` multiplies to get the limit for hostile requests, in units of `cpu_time`.

Without a minimum, a very fast harmless request would lead to a limit without room for other work of the event loop."""
WAYS = ("bedrock_converse", "bedrock_model_invoke", "anthropic_messages", "openai_chat", "openai_responses")
MODEL = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
TAG = "irisgate1:claude:abc"
ROUTES = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
    "bedrock_converse": "/model/{}/converse",
    "bedrock_model_invoke": "/model/{}/invoke",
    "count of messages": "/v1/messages/count_tokens",
    "count of Converse": "/model/{}/count-tokens",
}
REPLIES = {
    "chat/completions": {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    },
    "responses": {
        "id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed",
        "output": [
            {
                "type": "message", "id": "m", "status": "completed", "role": "assistant",
                "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
            }
        ],
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    },
    "converse": {
        "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}}, "stopReason": "end_turn",
        "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}, "metrics": {"latencyMs": 1},
    },
    "count": {"inputTokens": 5, "input_tokens": 5},
    "": {
        "id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "stop_sequence": None, "content": [{"type": "text", "text": "Hi"}],
        "usage": {"input_tokens": 1, "output_tokens": 2},
    },
}  # fmt: skip
MEMBERS = {
    "openai_chat": "n max_tokens stream stream_options metadata prompt_cache_key tool_choice stop service_tier user",
    "openai_responses": "include reasoning text metadata conversation store max_output_tokens instructions session_id",
    "anthropic_messages": "metadata thinking stop_sequences service_tier anthropic_beta stream max_tokens system",
    "bedrock_converse": "inferenceConfig additionalModelRequestFields requestMetadata performanceConfig system",
    "bedrock_model_invoke": "metadata anthropic_beta anthropic_version max_tokens service_tier context_management",
}
"""Fields that the gateway itself reads. In each hostile request, one of these fields is a long list of numbers."""


async def answer(request):
    await request.read()
    return web.json_response(next(reply for part, reply in REPLIES.items() if part in request.path))


def many(item):
    data = item if isinstance(item, bytes) else json.dumps(item, separators=(",", ":")).encode()
    return b"[" + b",".join([data] * ((LIMIT - 1_000) // (len(data) + 1))) + b"]"


def turn(content):
    return b'[{"role":"user","content":' + content + b"}]"


def dialect_of(route):
    return {"count of messages": "anthropic_messages", "count of Converse": "bedrock_converse"}.get(route, route)


PARTS = {
    "openai_chat": {"type": "image_url", "image_url": {"url": "http://x/1"}},
    "openai_responses": {"type": "input_image", "image_url": "http://x/1"},
    "anthropic_messages": {"type": "image", "source": {"type": "url", "url": "http://x/1"}},
    "bedrock_model_invoke": {"type": "image", "source": {"type": "url", "url": "http://x/1"}},
    "bedrock_converse": {"image": {"format": "png", "source": {"s3Location": {"uri": "http://x/1"}}}},
}
THINKING = {"type": "thinking", "thinking": "x", "signature": TAG}
TAGGED = {
    "openai_chat": {"role": "assistant", "thinking_blocks": [THINKING], "content": "x"},
    "openai_responses": {"type": "reasoning", "summary": [], "encrypted_content": "irisgate1:x"},
    "anthropic_messages": {"role": "assistant", "content": [THINKING]},
    "bedrock_model_invoke": {"role": "assistant", "content": [THINKING]},
    "bedrock_converse": {
        "role": "assistant",
        "content": [{"reasoningContent": {"reasoningText": {"text": "x", "signature": TAG}}}],
    },
}
TOOLS = {
    "openai_chat": ("tools", {"type": "function", "function": {"name": "a", "parameters": {}}}),
    "openai_responses": ("tools", {"type": "function", "name": "a", "parameters": {}}),
    "anthropic_messages": ("tools", {"name": "a", "input_schema": {}}),
    "bedrock_model_invoke": ("tools", {"name": "a", "input_schema": {}}),
    "bedrock_converse": ("toolConfig", {"toolSpec": {"name": "a", "inputSchema": {"json": {}}}}),
}


def packed_text(dialect, text):
    """Return `text` as the JSON of a message's content in this dialect (API format)."""
    return json.dumps([{"text": text}] if dialect == "bedrock_converse" else text).encode()


def shapes(dialect):
    """Yield (label, JSON of `messages`, other fields of the body) for each hostile request body.

    In each body, one value is repeated very often. The label names this value.
    """
    said = packed_text(dialect, "x")
    yield "parts with URLs", turn(many(PARTS[dialect])), {}
    yield "messages", many(b'{"role":"user","content":' + said + b"}"), {}
    yield "system messages", many(b'{"role":"system","content":' + said + b"}"), {}
    yield "tagged messages", many(TAGGED[dialect]), {}
    yield "numbers", many(b"1"), {}
    yield "objects", many(b"{}"), {}
    yield "strings with URLs", many(b'"http"'), {}
    yield "numbers in a message", turn(many(b"1")), {}
    yield "base64", turn(many(b'{"data":"' + b"A" * 1200 + b'"}')), {}
    yield "numbers beside base64", turn(b'[{"data":"' + b"A" * 1200 + b'"},' + many(b"1")[1:]), {}
    name, tool = TOOLS[dialect]
    tools = many(tool)
    yield "tools", turn(said), {name: b'{"tools":' + tools + b"}" if name == "toolConfig" else tools}
    yield "members", turn(said), {f"k{number}": b"[1,1,1]" for number in range(900)}


def body_of(route, model, messages, more):
    dialect = dialect_of(route)
    members = {"input" if dialect == "openai_responses" else "messages": messages, **more}
    if dialect in {"openai_chat", "openai_responses", "anthropic_messages"}:
        members["model"] = json.dumps(model).encode()
    if dialect == "bedrock_model_invoke":
        members = {"anthropic_version": b'"bedrock-2023-05-31"', **members}
    if dialect in {"bedrock_model_invoke", "anthropic_messages"}:
        members = {"max_tokens": b"9", **members}
    body = b"{" + b",".join(json.dumps(name).encode() + b":" + value for name, value in members.items()) + b"}"
    return b'{"input":{"converse":' + body + b"}}" if route == "count of Converse" else body


async def longest(gw, route, messages, more=None, enough=0.0):
    """Measure the longest time for which a request blocks the event loop. It is CPU time, in units of `cpu_time`.

    The request is sent up to five times, until a result is below `enough`. The smallest result is returned, because
    other processes can only increase a result.
    """
    body = body_of(route, MODEL, messages, more or {})
    assert LIMIT / 2 < len(body) <= LIMIT + 1_000 or more

    async def send():
        status, reply = await asyncio.to_thread(post, gw.url, ROUTES[route].format(quote(MODEL, safe="")), body)
        assert status in {200, 400}, reply

    return await longest_block(send, 5, enough)


@pytest.fixture(scope="module")
def provider():
    with provider_in_a_thread(answer, 10 * LIMIT) as url:
        yield url


def serving(state, provider, way):
    return gate(
        state,
        {"p": bedrock(provider, flags=(way,), models=(MODEL,))},
        server={"limits": {"body_bytes": LIMIT + 2_000}},
        grants=[
            {
                "src": ["*"],
                "app": {
                    "tailscale.com/cap/aperture": [{"role": "admin"}, {"models": "**", "quotas": [{"bucket": "q"}]}]
                },
            }
        ],
        more={"quotas": {"q": {"capacity": "$100000", "rate": "$10/day"}}},
    )


async def allowed(gw, route):
    """Return the maximum CPU time for a hostile body, in units of `cpu_time`: `RATIO` times the time of one long text."""
    text = packed_text(dialect_of(route), "x" * (LIMIT - 1_000))
    return RATIO * max(await longest(gw, route, turn(text)), PLAIN_UNITS)


PAIRS = [
    (route, way)
    for row, route in enumerate(ROUTES)
    for column, way in enumerate(WAYS)
    if "IRISGATE_ALL_LOOPS" in os.environ or (row + column) % len(WAYS) == 0
]
"""Pairs of route and conversion: one fifth of all pairs, in which each route and each conversion occurs.

With IRISGATE_ALL_LOOPS=1, all pairs are tried, which takes six minutes."""


@pytest.mark.parametrize(("route", "way"), PAIRS)
async def test_no_shape_of_a_body_holds_the_loop(tmp_path, provider, route, way):
    async with serving(tmp_path, provider, way) as gw:
        enough = await allowed(gw, route)
        for shape, *members in shapes(dialect_of(route)):
            assert await longest(gw, route, *members, enough) <= enough, shape


@pytest.mark.parametrize("route", MEMBERS)
async def test_no_member_of_a_body_holds_the_loop_natively(tmp_path, provider, route):
    said = turn(packed_text(route, "x"))
    async with serving(tmp_path, provider, route) as gw:
        enough = await allowed(gw, route)
        for name in MEMBERS[route].split():
            assert await longest(gw, route, said, {name: many(b"1")}, enough) <= enough, name
