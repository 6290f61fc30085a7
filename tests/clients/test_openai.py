"""Tests of OpenAI's SDK with the settings of `deploy/clients.md`. With one base URL, the SDK reaches models on
Bedrock's InvokeModel, on Bedrock's Converse, and at OpenAI.
"""

import asyncio
import json
from dataclasses import replace

import openai
import pytest
from pydantic import BaseModel

from gateway.testkit import scenarios
from gateway.testkit.prompt_cache import PromptCache
from gateway.testkit.scenarios import Canned, Scenario, Tool
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
from tests.helpers.gateway import HAIKU, KEY, NOVA, SONNET, bedrock, gate

HELLO = [{"role": "user", "content": "hello"}]
FUNCTIONS = [
    {"type": "function", "function": {"name": name, "description": description, "parameters": CITIES}}
    for name, description in TOOLS.items()
]
CONVERSIONS = {
    "Claude over InvokeModel": (HAIKU, "invoke", "invoke-with-response-stream"),
    "Claude over Converse": (f"converse/{HAIKU}", "converse", "converse-stream"),
    "Nova over Converse": (NOVA, "converse", "converse-stream"),
}
conversions = pytest.mark.parametrize("conversion", CONVERSIONS)
claude_conversions = pytest.mark.parametrize("conversion", list(CONVERSIONS)[:2])
either_way = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest.fixture
async def gw(tmp_path, bedrock_sim):
    providers = {
        "bedrock": bedrock(bedrock_sim.url, preference=1),
        "converse": bedrock(bedrock_sim.url, flags=["bedrock_converse"]),
    }
    # both providers are one simulator, and the errors of the first are what the tests look at
    async with gate(tmp_path, providers, more={"resilience": {"failover": False}}) as running:
        yield running


@pytest.fixture
async def client(gw):
    async with connect(gw) as made:
        yield made


def connect(gw):
    return openai.AsyncOpenAI(base_url=gw.url + "/v1", api_key="-", max_retries=0)


async def answer(client, conversion, *, streamed, **given):
    """Return the completion of a reply. If it is streamed, the SDK assembles the completion."""
    given = {"model": CONVERSIONS[conversion][0], "messages": HELLO, **given}
    if not streamed:
        return await client.chat.completions.create(**given)
    async with client.chat.completions.stream(**given, stream_options={"include_usage": True}) as stream:
        return await stream.get_final_completion()


@conversions
@either_way
async def test_a_chat_is_answered(client, gw, bedrock_sim, conversion, streamed):
    bedrock_sim.script(PLAIN)
    completion = await answer(client, conversion, streamed=streamed)
    choice = completion.choices[0]
    assert (choice.message.content, choice.finish_reason) == (SAID, "stop")
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (12, 7)
    (seen,) = bedrock_sim.requests
    model, *operations = CONVERSIONS[conversion]
    assert seen.path == f"/model/{model.removeprefix('converse/').replace(':', '%3A')}/{operations[streamed]}"
    (record,) = await gw.calls()
    assert (record["agent"], record["outcome"], record["tokens"]["output"]) == ("OpenAI/Python", "ok", 7)
    check_upstream(bedrock_sim)


async def test_the_client_without_async_works_too(gw, bedrock_sim):
    bedrock_sim.script(PLAIN)
    with openai.OpenAI(base_url=gw.url + "/v1", api_key="-") as client:
        given = {"model": HAIKU, "messages": HELLO}
        completion = await asyncio.to_thread(client.chat.completions.create, **given)
    assert completion.choices[0].message.content == SAID


@conversions
async def test_a_stream_comes_in_its_deltas_and_without_usage_unless_asked(client, bedrock_sim, conversion):
    bedrock_sim.script(PLAIN)
    given = {"model": CONVERSIONS[conversion][0], "messages": HELLO, "stream": True}
    chunks = [chunk async for chunk in await client.chat.completions.create(**given)]
    texts = [chunk.choices[0].delta.content for chunk in chunks]
    assert [text for text in texts if text] == ["Hello", " from", " a simulated", " model."]
    assert all(chunk.usage is None for chunk in chunks)


@conversions
@either_way
async def test_two_tools_at_once_are_called_and_their_results_arrive(client, gw, bedrock_sim, conversion, streamed):
    bedrock_sim.script(TWO_CALLS)
    choice = (await answer(client, conversion, streamed=streamed, tools=FUNCTIONS)).choices[0]
    calls = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me look.")
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("get_weather", {"city": "Zürich"}),
        ("get_time", {"city": "Tokyo"}),
    ]
    results = [{"role": "tool", "tool_call_id": call.id, "content": RESULTS[call.function.name]} for call in calls]
    history = [*HELLO, choice.message, *results]
    choice = (await answer(client, conversion, streamed=streamed, tools=FUNCTIONS, messages=history)).choices[0]
    assert (choice.message.content, choice.finish_reason) == (SAID_OF_THE_RESULTS, "stop")
    assert (await gw.calls(2))[0]["tools"] == ["get_weather", "get_time"]
    check_upstream(bedrock_sim)


@conversions
@either_way
async def test_a_tool_without_arguments_is_called_with_an_empty_object(client, bedrock_sim, conversion, streamed):
    bedrock_sim.script(scenarios.tools(Tool("now"), Tool("now")))
    now = {"type": "function", "function": {"name": "now"}}
    calls = (await answer(client, conversion, streamed=streamed, tools=[now])).choices[0].message.tool_calls
    assert [call.function.arguments for call in calls] == ["{}", "{}"]
    check_upstream(bedrock_sim)


@claude_conversions
@either_way
async def test_thinking_is_taken_back_in_the_next_turn(client, bedrock_sim, conversion, streamed):
    bedrock_sim.script(THINKING)
    given = {"tools": FUNCTIONS, "reasoning_effort": "low"}
    message = (await answer(client, conversion, streamed=streamed, **given)).choices[0].message
    assert message.reasoning_content == THOUGHT
    history = [*HELLO, message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "09:41"}]
    message = (await answer(client, conversion, streamed=streamed, messages=history, **given)).choices[0].message
    assert message.content == "The tool said: 09:41"
    assert THOUGHT in bedrock_sim.requests[1].body.decode()
    assert "sig-sim-" in bedrock_sim.requests[1].body.decode()
    check_upstream(bedrock_sim)


@claude_conversions
@either_way
async def test_encrypted_thinking_is_taken_back_beside_the_readable(client, bedrock_sim, conversion, streamed):
    call = Tool("get_time", {"city": "Tokyo"})
    bedrock_sim.script(Scenario(Canned(thinking=THOUGHT, redacted="ZW5jcnlwdGVkIHRob3VnaHQ=", tools=(call,))))
    given = {"tools": FUNCTIONS, "reasoning_effort": "low"}
    message = (await answer(client, conversion, streamed=streamed, **given)).choices[0].message
    history = [*HELLO, message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "09:41"}]
    await answer(client, conversion, streamed=streamed, messages=history, **given)
    sent = bedrock_sim.requests[1].json["messages"][1]["content"]
    assert [next(iter(block)) if "type" not in block else block["type"] for block in sent] in (
        ["thinking", "redacted_thinking", "tool_use"],
        ["reasoningContent", "reasoningContent", "toolUse"],
    )
    check_upstream(bedrock_sim)


@conversions
async def test_an_image_arrives_as_it_is(client, bedrock_sim, conversion):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_BASE64}"}}
    content = [{"type": "text", "text": "What is this?"}, image]
    await answer(client, conversion, streamed=False, messages=[{"role": "user", "content": content}])
    sent = bedrock_sim.requests[0].json["messages"][0]["content"]
    assert sent[1] in (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG_BASE64}},
        {"image": {"format": "png", "source": {"bytes": PNG_BASE64}}},
    )
    check_upstream(bedrock_sim)


@claude_conversions
@either_way
async def test_cached_tokens_are_told_and_counted(client, gw, bedrock_sim, conversion, streamed):
    bedrock_sim.script(CACHED)
    marked = [{"type": "text", "text": "long " * 2000, "cache_control": {"type": "ephemeral"}}]
    history = [{"role": "system", "content": marked}, *HELLO]
    usage = (await answer(client, conversion, streamed=streamed, messages=history)).usage
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (1253, 1000)
    tokens = (await gw.calls())[0]["tokens"]
    assert (tokens["cache_read"], tokens["cache_write_5m"], tokens["cache_write_1h"]) == (1000, 200, 50)
    assert {"ephemeral", "cachePoint"} & set(bedrock_sim.requests[0].body.decode().split('"'))
    check_upstream(bedrock_sim)


class Place(BaseModel):
    city: str


@claude_conversions
async def test_an_answer_by_a_schema_is_parsed_by_the_sdk(client, bedrock_sim, conversion):
    bedrock_sim.script(scenarios.text('{"city": "Tokyo"}'))
    given = {"model": CONVERSIONS[conversion][0], "messages": HELLO, "response_format": Place}
    completion = await client.chat.completions.parse(**given)
    assert completion.choices[0].message.parsed == Place(city="Tokyo")
    check_upstream(bedrock_sim)


@either_way
async def test_a_model_without_structured_output_answers_by_a_schema_too(client, bedrock_sim, streamed):
    """Check a request for structured output to a model without this feature: the gateway makes the model call a tool
    whose input has the requested schema.

    The client gets the arguments of this tool call as the text of the reply.
    """
    bedrock_sim.script(scenarios.tools(Tool("json_output", {"city": "Tokyo"})))
    schema = {**CITIES, "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    choice = (await answer(client, "Nova over Converse", streamed=streamed, response_format=form)).choices[0]
    assert json.loads(choice.message.content) == {"city": "Tokyo"}
    assert (choice.message.tool_calls, choice.finish_reason) == (None, "stop")
    check_upstream(bedrock_sim)


async def test_the_models_are_listed(client):
    assert [model.id async for model in client.models.list()] == [HAIKU, SONNET, NOVA]
    assert (await client.models.retrieve(HAIKU)).owned_by


ERRORS = {
    "ThrottlingException": openai.RateLimitError,
    "ValidationException": openai.BadRequestError,
    "AccessDeniedException": openai.PermissionDeniedError,
    "ResourceNotFoundException": openai.NotFoundError,
    "InternalServerException": openai.InternalServerError,
}


@pytest.mark.parametrize(("name", "expected"), ERRORS.items(), ids=ERRORS)
@conversions
@either_way
async def test_an_error_of_bedrock_has_its_own_class(client, bedrock_sim, conversion, name, expected, streamed):
    bedrock_sim.script(scenarios.error(name, "in AWS's own words"))
    with pytest.raises(expected, match="in AWS's own words"):
        await answer(client, conversion, streamed=streamed)


async def test_a_model_that_is_not_there_is_not_found(client):
    with pytest.raises(openai.NotFoundError, match="not found or not granted") as raised:
        await client.chat.completions.create(model="gpt-unknown", messages=HELLO)
    assert raised.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-unknown")


async def test_a_field_that_cannot_be_honoured_is_a_bad_request(client, bedrock_sim):
    """Check that a request is refused if dropping one of its fields would change its meaning. The error must name the
    field.
    """
    with pytest.raises(openai.BadRequestError) as raised:
        await client.chat.completions.create(model=HAIKU, messages=HELLO, n=2)
    assert raised.value.param == "n"
    assert bedrock_sim.requests == []


BROKEN = {
    "an exception": scenarios.error_in_stream("throttlingException", message="Too many tokens"),
    "cut off": scenarios.cut(900),
    "without its end": replace(PLAIN, end_after=3),
}


@conversions
@pytest.mark.parametrize("fault", BROKEN)
async def test_a_stream_that_breaks_is_an_error_and_no_completion(client, bedrock_sim, conversion, fault):
    bedrock_sim.script(BROKEN[fault])
    with pytest.raises(openai.APIError) as raised:
        await answer(client, conversion, streamed=True)
    assert ("Too many tokens" in str(raised.value)) == (fault == "an exception")


@either_way
async def test_a_provider_that_is_openai_itself_is_reached(tmp_path, openai_upstream, streamed):
    provider = {"baseurl": openai_upstream.url, "apikey": KEY, "models": ["gpt-x"]}
    async with gate(tmp_path, {"openai": provider}) as gw, connect(gw) as client:
        openai_upstream.script(PLAIN, TWO_CALLS)
        conversion = {"model": "gpt-x"}
        completion = await answer(client, "Nova over Converse", streamed=streamed, **conversion)
        assert (completion.choices[0].message.content, completion.usage.prompt_tokens) == (SAID, 12)
        completion = await answer(client, "Nova over Converse", streamed=streamed, tools=FUNCTIONS, **conversion)
        assert len(completion.choices[0].message.tool_calls) == 2
        assert {seen.headers["authorization"] for seen in openai_upstream.requests} == {f"Bearer {KEY}"}
        assert {(seen.refused, *seen.leaked("authorization")) for seen in openai_upstream.requests} == {("",)}


@either_way
async def test_a_conversation_is_cached_although_the_sdk_cannot_ask(tmp_path, bedrock_sim, streamed):
    bedrock_sim.prompt_cache = PromptCache()
    messages = [{"role": "system", "content": "Be brief. " * 2000}, {"role": "user", "content": "hello"}]
    asking = {"model": SONNET, "stream_options": {"include_usage": True}} if streamed else {"model": SONNET}
    read = []
    own = bedrock(bedrock_sim.url, flags=["bedrock_converse"], auto_cache=True)
    async with gate(tmp_path, {"converse": own}) as running, connect(running) as client:
        for _ in range(3):
            if streamed:
                async with client.chat.completions.stream(messages=messages, **asking) as stream:
                    completion = await stream.get_final_completion()
            else:
                completion = await client.chat.completions.create(messages=messages, **asking)
            read.append(completion.usage.prompt_tokens_details.cached_tokens)
            messages += [completion.choices[0].message.to_dict(), {"role": "user", "content": "and now?"}]
        records = await running.calls(3)
    assert read[:2] == [0, 0]
    assert read[2] > 4000
    assert [record["auto_cached"] for record in records] == [False, True, True]
