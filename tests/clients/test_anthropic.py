"""Tests of version 2 of Anthropic's SDK with the settings of `deploy/clients.md`. The SDK's standard client and its
Bedrock client call Claude on InvokeModel.
"""

import asyncio
from dataclasses import replace

import anthropic
import pytest

from gateway.testkit import scenarios
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
    check_upstream,
)
from tests.helpers.gateway import HAIKU, KEY, NOVA, SONNET, gate

HELLO = [{"role": "user", "content": "hello"}]
ASK = {"model": HAIKU, "max_tokens": 50, "messages": HELLO}
TOOL_PARAMS = [
    {"name": name, "description": description, "input_schema": CITIES} for name, description in TOOLS.items()
]
OPTIONS = {"max_retries": 0}

CLIENTS = {
    "native": lambda url: anthropic.AsyncAnthropic(base_url=url, api_key="-", **OPTIONS),
    "native with a token": lambda url: anthropic.AsyncAnthropic(base_url=url, auth_token="-", **OPTIONS),
    "mantle": lambda url: anthropic.AsyncAnthropicBedrockMantle(
        base_url=url + "/anthropic", api_key="-", aws_region="us-east-1", **OPTIONS
    ),
    "bedrock": lambda url: anthropic.AsyncAnthropicBedrock(
        base_url=url + "/bedrock", api_key="-", aws_region="us-east-1", **OPTIONS
    ),
    "bedrock with a signature": lambda url: anthropic.AsyncAnthropicBedrock(
        base_url=url + "/bedrock", aws_access_key="-", aws_secret_key="-", aws_region="us-east-1", **OPTIONS
    ),
}


@pytest.fixture(params=["native", "bedrock"])
async def client(request, gw):
    async with CLIENTS[request.param](gw.url) as made:
        yield made


@pytest.fixture
async def native(gw):
    async with CLIENTS["native"](gw.url) as made:
        yield made


async def answer(client, *, streamed, **given):
    """Return the message of a reply. If it is streamed, the SDK assembles the message."""
    if not streamed:
        return await client.messages.create(**{**ASK, **given})
    async with client.messages.stream(**{**ASK, **given}) as stream:
        return await stream.get_final_message()


either_way = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest.mark.parametrize("kind", CLIENTS)
@either_way
async def test_a_message_is_answered_over_invoke_model(gw, bedrock_sim, kind, streamed):
    bedrock_sim.script(PLAIN)
    async with CLIENTS[kind](gw.url) as client:
        message = await answer(client, streamed=streamed)
    assert (message.content[0].text, message.stop_reason) == (SAID, "end_turn")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (12, 7)
    (seen,) = bedrock_sim.requests
    operation = "invoke-with-response-stream" if streamed else "invoke"
    assert seen.path == f"/model/{HAIKU.replace(':', '%3A')}/{operation}"
    assert seen.json == {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": HELLO}
    (record,) = await gw.calls()
    assert (record["agent"], record["outcome"]) == ("Anthropic/Python", "ok")
    assert record["cost_usd"] == pytest.approx(12 * 1.1e-6 + 7 * 5.5e-6)
    check_upstream(bedrock_sim)


async def test_the_clients_without_async_work_too(gw, bedrock_sim):
    made = (
        anthropic.Anthropic(base_url=gw.url, api_key="-"),
        anthropic.AnthropicBedrock(base_url=gw.url + "/bedrock", api_key="-", aws_region="us-east-1"),
    )
    for client in made:
        bedrock_sim.script(PLAIN)
        with client:
            message = await asyncio.to_thread(client.messages.create, **ASK)
            assert message.content[0].text == SAID


async def test_a_stream_comes_in_its_deltas(client, bedrock_sim):
    bedrock_sim.script(PLAIN)
    async with client.messages.stream(**ASK) as stream:
        assert [text async for text in stream.text_stream] == ["Hello", " from", " a simulated", " model."]


@either_way
async def test_two_tools_at_once_are_called_and_their_results_arrive(client, gw, bedrock_sim, streamed):
    bedrock_sim.script(TWO_CALLS)
    message = await answer(client, streamed=streamed, tools=TOOL_PARAMS)
    calls = [block for block in message.content if block.type == "tool_use"]
    assert message.stop_reason == "tool_use"
    assert [(call.name, call.input) for call in calls] == [
        ("get_weather", {"city": "Zürich"}),
        ("get_time", {"city": "Tokyo"}),
    ]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": RESULTS[call.name]} for call in calls]
    history = [*HELLO, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    message = await answer(client, streamed=streamed, tools=TOOL_PARAMS, messages=history)
    assert (message.content[0].text, message.stop_reason) == (SAID_OF_THE_RESULTS, "end_turn")
    assert (await gw.calls(2))[0]["tools"] == ["get_weather", "get_time"]
    check_upstream(bedrock_sim)


@either_way
async def test_thinking_is_taken_back_in_the_next_turn(client, bedrock_sim, streamed):
    bedrock_sim.script(THINKING)
    given = {"tools": TOOL_PARAMS, "thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
    message = await answer(client, streamed=streamed, **given)
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.content[0].thinking == THOUGHT
    result = {"type": "tool_result", "tool_use_id": message.content[-1].id, "content": "09:41"}
    history = [*HELLO, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    message = await answer(client, streamed=streamed, messages=history, **given)
    assert message.content[0].text == "The tool said: 09:41"
    check_upstream(bedrock_sim)


async def test_an_image_arrives_as_it_is(client, bedrock_sim):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG_BASE64}}
    content = [image, {"type": "text", "text": "What is this?"}]
    await answer(client, streamed=False, messages=[{"role": "user", "content": content}])
    assert bedrock_sim.requests[0].json["messages"][0]["content"] == content
    check_upstream(bedrock_sim)


@either_way
async def test_cached_tokens_are_told_and_counted(client, gw, bedrock_sim, streamed):
    bedrock_sim.script(CACHED)
    system = [{"type": "text", "text": "long " * 2000, "cache_control": {"type": "ephemeral"}}]
    usage = (await answer(client, streamed=streamed, system=system)).usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (3, 1000, 250)
    assert usage.cache_creation.ephemeral_1h_input_tokens == 50
    tokens = (await gw.calls())[0]["tokens"]
    assert (tokens["cache_read"], tokens["cache_write_5m"], tokens["cache_write_1h"]) == (1000, 200, 50)
    assert bedrock_sim.requests[0].json["system"] == system
    check_upstream(bedrock_sim)


async def test_a_beta_that_bedrock_has_not_is_kept_from_it(native, bedrock_sim):
    known, unknown = "fine-grained-tool-streaming-2025-05-14", "prompt-caching-scope-2026-01-05"
    await native.beta.messages.create(**ASK, betas=[known, unknown])
    assert bedrock_sim.requests[0].json["anthropic_beta"] == [known]
    check_upstream(bedrock_sim)


async def test_tokens_are_counted(native, bedrock_sim):
    counted = await native.messages.count_tokens(model=HAIKU, messages=HELLO, tools=TOOL_PARAMS)
    assert counted.input_tokens > 0
    check_upstream(bedrock_sim)


async def test_the_models_are_listed(native):
    assert [model.id async for model in native.models.list()] == [HAIKU, SONNET, NOVA]
    assert (await native.models.retrieve(HAIKU)).id == HAIKU


ERRORS = {
    "ThrottlingException": anthropic.RateLimitError,
    "ValidationException": anthropic.BadRequestError,
    "AccessDeniedException": anthropic.PermissionDeniedError,
    "ResourceNotFoundException": anthropic.NotFoundError,
    "InternalServerException": anthropic.InternalServerError,
}


@pytest.mark.parametrize(("name", "expected"), ERRORS.items(), ids=ERRORS)
@either_way
async def test_an_error_of_bedrock_has_its_own_class(client, bedrock_sim, name, expected, streamed):
    bedrock_sim.script(scenarios.error(name, "in AWS's own words"))
    with pytest.raises(expected, match="in AWS's own words"):
        await answer(client, streamed=streamed)


async def test_an_overloaded_bedrock_is_an_overloaded_anthropic(native, bedrock_sim):
    bedrock_sim.script(scenarios.error("ServiceUnavailableException"))
    with pytest.raises(anthropic.OverloadedError):
        await answer(native, streamed=False)


async def test_a_model_that_is_not_there_is_not_found(client):
    with pytest.raises(anthropic.NotFoundError, match="not found or not granted"):
        await answer(client, streamed=False, model="us.anthropic.claude-opus-4-6-v1")


async def test_thinking_of_somebody_else_is_a_bad_request(client):
    thought = {"type": "thinking", "thinking": "so", "signature": "made up"}
    history = [*HELLO, {"role": "assistant", "content": [thought, {"type": "text", "text": "hi"}]}, *HELLO]
    with pytest.raises(anthropic.BadRequestError, match="signature"):
        await answer(client, streamed=False, messages=history)


BROKEN = {
    "an exception": scenarios.error_in_stream("throttlingException", message="Too many tokens"),
    "cut off": scenarios.cut(1200),
    "without its end": replace(PLAIN, end_after=3),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_stream_that_breaks_is_an_error_and_no_message(client, bedrock_sim, fault):
    bedrock_sim.script(BROKEN[fault])
    with pytest.raises(anthropic.APIStatusError) as raised:
        await answer(client, streamed=True)
    assert ("Too many tokens" in str(raised.value)) == (fault == "an exception")


@either_way
async def test_a_provider_that_is_anthropic_itself_is_reached(tmp_path, anthropic_upstream, streamed):
    provider = {
        "baseurl": anthropic_upstream.url,
        "apikey": KEY,
        "authorization": "x-api-key",
        "models": ["claude-haiku-4-5"],
        "compatibility": {"anthropic_messages": True},
    }
    async with gate(tmp_path, {"anthropic": provider}) as gw, CLIENTS["native"](gw.url) as client:
        anthropic_upstream.script(PLAIN)
        message = await answer(client, streamed=streamed, model="claude-haiku-4-5")
        assert message.content[0].text == SAID
        (seen,) = anthropic_upstream.requests
        assert (seen.refused, seen.headers["x-api-key"], seen.leaked("x-api-key")) == ("", KEY, [])
