"""Tests of boto3's operation Converse with providers that do not have Converse: Anthropic, OpenAI, and a Bedrock on
which only InvokeModel is enabled.
"""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from botocore.exceptions import EventStreamError

from gateway.testkit import scenarios
from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.openai import OpenAISim
from gateway.testkit.scenarios import Tool
from tests.clients.aws import HELLO, TOOL_CONFIG, answer, connect, converse, converse_stream, message_of, provider
from tests.clients.samples import (
    CACHED,
    PLAIN,
    PNG,
    PNG_BASE64,
    RESULTS,
    SAID,
    SAID_OF_THE_RESULTS,
    THINKING,
    THOUGHT,
    TWO_CALLS,
)
from tests.helpers.gateway import HAIKU, KEY, bedrock, gate

CLAUDE = "claude-haiku-4-5"
GPT = "gpt-4o"
PDF = b"%PDF-1.4 simulated"
either_way = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


CONVERSIONS = {
    "anthropic": (AnthropicSim, CLAUDE, lambda url: provider(url, CLAUDE, "anthropic_messages", "x-api-key")),
    "openai": (OpenAISim, GPT, lambda url: provider(url, GPT, "openai_chat", "bearer")),
    "invoke model": (BedrockSim, HAIKU, lambda url: bedrock(url, flags=("bedrock_model_invoke",))),
}
CLAUDES = ["anthropic", "invoke model"]


@pytest.fixture(params=CONVERSIONS)
async def conversion(request, tmp_path):
    """Yield a boto3 client, the model that it calls, the provider, and the gateway.

    At the end, check that the provider accepted all requests, except those for which a test scripted an error.
    """
    simulator, model, entry = CONVERSIONS[request.param]
    async with simulator(keys={KEY}) as upstream, gate(tmp_path, {"provider": entry(upstream.url)}) as gw:
        client = connect(gw.url + "/bedrock")
        yield SimpleNamespace(client=client, model=model, upstream=upstream, gw=gw, name=request.param)
        client.close()
        assert [seen.refused for seen in upstream.requests if seen.refused and "AWS" not in seen.refused] == []


def on(*names):
    return pytest.mark.parametrize("conversion", names, indirect=True)


@either_way
async def test_converse_answers(conversion, stream):
    conversion.upstream.script(PLAIN)
    message, stop = await answer(conversion.client, stream, modelId=conversion.model)
    assert (message, stop) == ({"role": "assistant", "content": [{"text": SAID}]}, "end_turn")


async def test_a_stream_comes_in_deltas_and_ends_with_the_usage(conversion):
    conversion.upstream.script(PLAIN)
    events = await converse_stream(conversion.client, modelId=conversion.model)
    assert [next(iter(event)) for event in events] == [
        "messageStart",
        *["contentBlockDelta"] * 4,
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    _, _, usage = message_of(events)
    assert (usage["inputTokens"], usage["outputTokens"], usage["totalTokens"]) == (12, 7, 19)
    assert events[-1]["metadata"]["metrics"]["latencyMs"] >= 0


@either_way
async def test_two_tools_at_once_are_called_and_their_results_arrive(conversion, stream):
    conversion.upstream.script(TWO_CALLS)
    given = {"modelId": conversion.model, "toolConfig": TOOL_CONFIG}
    message, stop = await answer(conversion.client, stream, **given)
    calls = [block["toolUse"] for block in message["content"] if "toolUse" in block]
    assert stop == "tool_use"
    assert [(call["name"], call["input"]) for call in calls] == [
        ("get_weather", {"city": "Zürich"}),
        ("get_time", {"city": "Tokyo"}),
    ]
    results = [
        {"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": RESULTS[call["name"]]}]}} for call in calls
    ]
    history = [*HELLO, message, {"role": "user", "content": results}]
    message, stop = await answer(conversion.client, stream, messages=history, **given)
    assert stop == "end_turn"
    if conversion.name == "openai":  # there each result is a message, and the simulated model repeats the last one
        sent = conversion.upstream.requests[1].json["messages"][2:]
        assert [(one["role"], one["content"]) for one in sent] == [("tool", text) for text in RESULTS.values()]
    else:
        assert message["content"] == [{"text": SAID_OF_THE_RESULTS}]


@either_way
async def test_a_tool_without_arguments_has_an_empty_input(conversion, stream):
    conversion.upstream.script(scenarios.tools(Tool("get_time")))
    message, _ = await answer(conversion.client, stream, modelId=conversion.model, toolConfig=TOOL_CONFIG)
    assert message["content"][0]["toolUse"]["input"] == {}


@either_way
@on(*CLAUDES)
async def test_signed_reasoning_is_taken_back_in_the_next_turn(conversion, stream):
    conversion.upstream.script(THINKING)
    given = {
        "modelId": conversion.model,
        "toolConfig": TOOL_CONFIG,
        "inferenceConfig": {"maxTokens": 2000},
        "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    }
    message, _ = await answer(conversion.client, stream, **given)
    reasoning = message["content"][0]["reasoningContent"]["reasoningText"]
    assert reasoning["text"] == THOUGHT
    assert reasoning["signature"].startswith(scenarios.SIGNATURE)
    (call,) = (block["toolUse"] for block in message["content"] if "toolUse" in block)
    result = {"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": "09:41"}]}}
    history = [*HELLO, message, {"role": "user", "content": [result]}]
    message, _ = await answer(conversion.client, stream, messages=history, **given)
    assert message["content"] == [{"text": "The tool said: 09:41"}]
    assert conversion.upstream.requests[1].json["messages"][1]["content"][0]["type"] == "thinking"


@on(*CLAUDES)
async def test_redacted_reasoning_is_taken_back_in_the_next_turn(conversion):
    conversion.upstream.script(scenarios.NAMED["redacted"])
    thinks = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    given = {"modelId": conversion.model, "additionalModelRequestFields": thinks}
    message = (await converse(conversion.client, **given))["output"]["message"]
    await converse(conversion.client, messages=[*HELLO, message, *HELLO], **given)
    sent = conversion.upstream.requests[1].json["messages"][1]["content"][0]
    assert sent == {"type": "redacted_thinking", "data": "ZW5jcnlwdGVkIHRob3VnaHQ="}


async def test_images_and_documents_arrive(conversion):
    document = {"document": {"format": "pdf", "name": "paper", "source": {"bytes": PDF}}}
    image = {"image": {"format": "png", "source": {"bytes": PNG}}}
    content = [image, document, {"text": "What is this?"}]
    await converse(conversion.client, modelId=conversion.model, messages=[{"role": "user", "content": content}])
    sent = conversion.upstream.requests[0].json["messages"][0]["content"]
    kinds = ["image_url", "file", "text"] if conversion.name == "openai" else ["image", "document", "text"]
    assert [part["type"] for part in sent] == kinds
    assert PNG_BASE64 in str(sent[0])


@on(*CLAUDES)
async def test_cache_points_mark_what_stands_before_them(conversion):
    conversion.upstream.script(CACHED)
    point = {"cachePoint": {"type": "default", "ttl": "1h"}}
    given = {
        "system": [{"text": "long " * 2000}, point],
        "toolConfig": {"tools": [*TOOL_CONFIG["tools"], point]},
        "messages": [{"role": "user", "content": [{"text": "hello"}, point]}],
    }
    usage = (await converse(conversion.client, modelId=conversion.model, **given))["usage"]
    assert (usage["cacheReadInputTokens"], usage["cacheWriteInputTokens"], usage["totalTokens"]) == (1000, 250, 1260)
    assert usage["cacheDetails"] == [{"ttl": "5m", "inputTokens": 200}, {"ttl": "1h", "inputTokens": 50}]
    sent = conversion.upstream.requests[0].json
    mark = {"type": "ephemeral", "ttl": "1h"}
    assert sent["system"][-1]["cache_control"] == mark
    assert sent["tools"][-1]["cache_control"] == mark
    assert sent["messages"][0]["content"][-1]["cache_control"] == mark
    tokens = (await conversion.gw.calls())[0]["tokens"]
    assert (tokens["cache_read"], tokens["cache_write_5m"], tokens["cache_write_1h"]) == (1000, 200, 50)


@on("openai")
async def test_cache_points_that_are_not_carried_are_named(conversion):
    content = [{"text": "hello"}, {"cachePoint": {"type": "default"}}]
    reply = await converse(conversion.client, modelId=conversion.model, messages=[{"role": "user", "content": content}])
    dropped = reply["ResponseMetadata"]["HTTPHeaders"]["x-irisgate-dropped"]
    assert dropped == "/messages/0/content/1/cachePoint"


@either_way
async def test_a_reply_that_met_its_limit_says_so(conversion, stream):
    conversion.upstream.script(scenarios.NAMED["max_tokens"])
    _, stop = await answer(conversion.client, stream, modelId=conversion.model, inferenceConfig={"maxTokens": 20})
    assert stop == "max_tokens"


ERRORS = {
    "ThrottlingException": 429,
    "ValidationException": 400,
    "AccessDeniedException": 403,
    "InternalServerException": 500,
    "ServiceUnavailableException": 503,
}


@pytest.mark.parametrize(("name", "status"), ERRORS.items())
async def test_a_providers_error_has_its_own_class(conversion, name, status):
    for call in (converse, converse_stream):
        conversion.upstream.script(scenarios.error(name, "in words like AWS's own"))
        with pytest.raises(getattr(conversion.client.exceptions, name), match="in words like AWS's own") as raised:
            await call(conversion.client, modelId=conversion.model)
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


async def test_an_error_in_mid_stream_is_an_event_stream_error(conversion):
    conversion.upstream.script(scenarios.error_in_stream("ThrottlingException", message="Too many tokens"))
    # OpenAI's errors in a stream have no status, and its simulator tells all as errors of the server
    expected = "internalServerException" if conversion.name == "openai" else "throttlingException"
    with pytest.raises(EventStreamError, match=rf"{expected}.*Too many tokens"):
        await converse_stream(conversion.client, modelId=conversion.model)


@pytest.mark.parametrize("fault", ["cut off", "without its end"])
async def test_a_broken_stream_is_an_event_stream_error(conversion, fault):
    broken = {"cut off": scenarios.cut(1100), "without its end": replace(PLAIN, end_after=3)}
    conversion.upstream.script(broken[fault])
    with pytest.raises(EventStreamError):
        await converse_stream(conversion.client, modelId=conversion.model)


async def test_what_lies_in_a_bucket_is_refused_in_words(conversion):
    image = {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/cat.png"}}}}
    with pytest.raises(conversion.client.exceptions.ValidationException, match=r"s3Location.*source\.bytes"):
        await converse(conversion.client, modelId=conversion.model, messages=[{"role": "user", "content": [image]}])
    assert conversion.upstream.requests == []


GUARDRAIL = {"guardrailIdentifier": "abcdefgh", "guardrailVersion": "1", "trace": "enabled"}


@on("anthropic", "openai")
async def test_a_guardrail_that_the_provider_has_not_is_refused(conversion):
    with pytest.raises(conversion.client.exceptions.ValidationException, match="no guardrails"):
        await converse(conversion.client, modelId=conversion.model, guardrailConfig=GUARDRAIL)
    assert conversion.upstream.requests == []


@on("invoke model")
async def test_bedrocks_options_go_along_as_headers(conversion):
    given = {
        "guardrailConfig": GUARDRAIL,
        "requestMetadata": {"team": "a"},
        "serviceTier": {"type": "flex"},
        "performanceConfig": {"latency": "optimized"},
        "projectIdentifier": "proj_1",
    }
    await converse(conversion.client, modelId=conversion.model, **given)
    (seen,) = conversion.upstream.requests
    sent = {name: value for name, value in seen.headers.items() if name.startswith("x-amzn-bedrock-")}
    assert sent == {
        "x-amzn-bedrock-guardrailidentifier": "abcdefgh",
        "x-amzn-bedrock-guardrailversion": "1",
        "x-amzn-bedrock-trace": "ENABLED",
        "x-amzn-bedrock-request-metadata": '{"team":"a"}',
        "x-amzn-bedrock-service-tier": "flex",
        "x-amzn-bedrock-performanceconfig-latency": "optimized",
        "x-amzn-bedrock-projectidentifier": "proj_1",
    }


@on("anthropic", "openai")
async def test_nothing_of_the_clients_signature_reaches_the_provider(conversion):
    await asyncio.gather(*(converse(conversion.client, modelId=conversion.model) for _ in range(2)))
    assert len(conversion.upstream.requests) == 2
    for seen in conversion.upstream.requests:
        assert seen.leaked("x-api-key" if conversion.name == "anthropic" else "authorization") == []
