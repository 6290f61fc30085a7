"""Tests of InvokeModel requests for Claude that are translated for other providers. Each of these providers has only
Converse, only Anthropic's API, or only OpenAI's.

The clients are boto3 and Anthropic's client for Bedrock.
"""

import json
from types import SimpleNamespace

import anthropic
import pytest
from botocore.exceptions import EventStreamError

from gateway.testkit import scenarios
from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.openai import OpenAISim
from tests.clients.aws import CLAUDE, connect, invoke, invoke_stream, provider
from tests.clients.samples import (
    CACHED,
    CITIES,
    PLAIN,
    PNG_BASE64,
    RESULTS,
    SAID,
    SAID_OF_THE_RESULTS,
    THINKING,
    THOUGHT,
    TOOLS,
    TWO_CALLS,
)
from tests.helpers.gateway import HAIKU, KEY, bedrock, gate

GPT = "gpt-4o"
NATIVE = "claude-haiku-4-5"
HELLO = [{"role": "user", "content": "hello"}]
TOOL_PARAMS = [
    {"name": name, "description": description, "input_schema": CITIES} for name, description in TOOLS.items()
]
METRICS = "amazon-bedrock-invocationMetrics"
either_way = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


CONVERSIONS = {
    "converse": (BedrockSim, HAIKU, lambda url: bedrock(url, flags=("bedrock_converse",))),
    "anthropic": (AnthropicSim, NATIVE, lambda url: provider(url, NATIVE, "anthropic_messages", "x-api-key")),
    "openai": (OpenAISim, GPT, lambda url: provider(url, GPT, "openai_chat", "bearer")),
}


@pytest.fixture(params=CONVERSIONS)
async def conversion(request, tmp_path):
    """Yield two clients (boto3 as `aws`, and Anthropic's client for Bedrock as `sdk`), the model, the gateway, and the
    provider behind it.
    """
    simulator, model, entry = CONVERSIONS[request.param]
    async with simulator(keys={KEY}) as upstream, gate(tmp_path, {"provider": entry(upstream.url)}) as gw:
        url = gw.url + "/bedrock"
        aws = connect(url)
        options = {"base_url": url, "api_key": "-", "aws_region": "us-east-1", "max_retries": 0}
        async with anthropic.AsyncAnthropicBedrock(**options) as sdk:
            yield SimpleNamespace(aws=aws, sdk=sdk, model=model, upstream=upstream, gw=gw, name=request.param)
        aws.close()


def on(*names):
    return pytest.mark.parametrize("conversion", names, indirect=True)


async def message(conversion, *, streamed, **given):
    """Return the message of a reply. If it is streamed, Anthropic's client assembles the message."""
    given = {"model": conversion.model, "max_tokens": 50, "messages": HELLO, **given}
    if not streamed:
        return await conversion.sdk.messages.create(**given)
    async with conversion.sdk.messages.stream(**given) as stream:
        return await stream.get_final_message()


async def test_boto3_gets_a_whole_body(conversion):
    conversion.upstream.script(PLAIN)
    reply = await invoke(conversion.aws, CLAUDE, conversion.model)
    assert (reply["type"], reply["role"], reply["stop_reason"]) == ("message", "assistant", "end_turn")
    assert [(block["type"], block["text"]) for block in reply["content"]] == [("text", SAID)]
    assert (reply["usage"]["input_tokens"], reply["usage"]["output_tokens"]) == (12, 7)


async def test_boto3_gets_chunks_that_end_with_the_metrics(conversion):
    conversion.upstream.script(PLAIN)
    chunks = await invoke_stream(conversion.aws, CLAUDE, conversion.model)
    assert [chunk["type"] for chunk in chunks] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 4,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert "".join(chunk["delta"].get("text", "") for chunk in chunks if "delta" in chunk) == SAID
    assert chunks[-2]["usage"]["output_tokens"] == 7
    metrics = chunks[-1][METRICS]
    assert (metrics["inputTokenCount"], metrics["outputTokenCount"]) == (12, 7)
    assert not any(METRICS in chunk for chunk in chunks[:-1])


@either_way
async def test_anthropics_client_gets_a_message(conversion, streamed):
    conversion.upstream.script(PLAIN)
    reply = await message(conversion, streamed=streamed)
    assert (reply.content[0].text, reply.stop_reason) == (SAID, "end_turn")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (12, 7)


@either_way
async def test_two_tools_at_once_are_called_and_their_results_arrive(conversion, streamed):
    conversion.upstream.script(TWO_CALLS)
    reply = await message(conversion, streamed=streamed, tools=TOOL_PARAMS)
    calls = [block for block in reply.content if block.type == "tool_use"]
    assert reply.stop_reason == "tool_use"
    assert [(call.name, call.input) for call in calls] == [
        ("get_weather", {"city": "Zürich"}),
        ("get_time", {"city": "Tokyo"}),
    ]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": RESULTS[call.name]} for call in calls]
    history = [*HELLO, {"role": "assistant", "content": reply.content}, {"role": "user", "content": results}]
    reply = await message(conversion, streamed=streamed, tools=TOOL_PARAMS, messages=history)
    assert reply.stop_reason == "end_turn"
    if conversion.name != "openai":  # there each result is a message, and the simulated model repeats the last one
        assert reply.content[0].text == SAID_OF_THE_RESULTS


@either_way
@on("converse", "anthropic")
async def test_signed_thinking_is_taken_back_in_the_next_turn(conversion, streamed):
    conversion.upstream.script(THINKING)
    given = {"tools": TOOL_PARAMS, "max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    reply = await message(conversion, streamed=streamed, **given)
    assert reply.content[0].thinking == THOUGHT
    (call,) = (block for block in reply.content if block.type == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "09:41"}
    history = [*HELLO, {"role": "assistant", "content": reply.content}, {"role": "user", "content": [result]}]
    reply = await message(conversion, streamed=streamed, messages=history, **given)
    assert reply.content[0].text == "The tool said: 09:41"
    assert [seen.refused for seen in conversion.upstream.requests] == ["", ""]


async def test_images_and_documents_arrive(conversion):
    source = {"type": "base64", "media_type": "image/png", "data": PNG_BASE64}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQKJcOkw7zDtsOfCg=="}
    content = [
        {"type": "image", "source": source},
        {"type": "document", "source": pdf, "title": "paper"},
        {"type": "text", "text": "What is this?"},
    ]
    await message(conversion, streamed=False, messages=[{"role": "user", "content": content}])
    sent = conversion.upstream.requests[0].body
    assert PNG_BASE64.encode() in sent
    assert b"JVBERi0xLjQK" in sent
    assert conversion.upstream.requests[0].refused == ""


@on("converse")
async def test_cache_marks_become_cache_points_and_counts_come_back(conversion):
    conversion.upstream.script(CACHED, CACHED)
    mark = {"cache_control": {"type": "ephemeral"}}
    system = [{"type": "text", "text": "long " * 2000, **mark}]
    for streamed in (False, True):
        usage = (await message(conversion, streamed=streamed, system=system)).usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (3, 1000, 250)
    assert conversion.upstream.requests[0].json["system"][1] == {"cachePoint": {"type": "default"}}


async def test_the_metrics_hold_what_was_read_from_a_cache(conversion):
    conversion.upstream.script(CACHED)
    chunks = await invoke_stream(conversion.aws, CLAUDE, conversion.model)
    assert chunks[-1][METRICS]["cacheReadInputTokenCount"] == 1000


ERRORS = {
    "ThrottlingException": (429, anthropic.RateLimitError),
    "ValidationException": (400, anthropic.BadRequestError),
    "AccessDeniedException": (403, anthropic.PermissionDeniedError),
    "InternalServerException": (500, anthropic.InternalServerError),
}


@pytest.mark.parametrize(("name", "expected"), ERRORS.items())
async def test_a_providers_error_has_its_own_class(conversion, name, expected):
    status, of_the_sdk = expected
    for call in (invoke, invoke_stream):
        conversion.upstream.script(scenarios.error(name, "in words like AWS's own"))
        with pytest.raises(getattr(conversion.aws.exceptions, name), match="in words like AWS's own") as raised:
            await call(conversion.aws, CLAUDE, conversion.model)
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    conversion.upstream.script(scenarios.error(name, "in words like AWS's own"))
    with pytest.raises(of_the_sdk, match="in words like AWS's own"):
        await message(conversion, streamed=False)


async def test_an_error_in_mid_stream_is_an_event_stream_error(conversion):
    conversion.upstream.script(scenarios.error_in_stream("ThrottlingException", message="Too many tokens"))
    # OpenAI's errors in a stream have no status, and its simulator tells all as errors of the server
    expected = "internalServerException" if conversion.name == "openai" else "throttlingException"
    with pytest.raises(EventStreamError, match=rf"{expected}.*Too many tokens"):
        await invoke_stream(conversion.aws, CLAUDE, conversion.model)
    conversion.upstream.script(scenarios.error_in_stream("ThrottlingException", message="Too many tokens"))
    with pytest.raises(anthropic.APIStatusError, match="Too many tokens") as raised:
        await message(conversion, streamed=True)
    assert expected in json.dumps(raised.value.body)
