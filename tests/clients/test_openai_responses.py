"""Tests of the Responses API, as OpenAI's SDK uses it.

The providers are Bedrock (with InvokeModel or with Converse), Anthropic, a provider of Chat Completions, and OpenAI.
"""

import json
from contextlib import suppress
from dataclasses import replace

import openai
import pytest
from pydantic import BaseModel

from gateway.testkit import scenarios
from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.openai import OpenAISim
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
)
from tests.helpers.gateway import HAIKU, KEY, NOVA, bedrock, gate

FUNCTIONS = [
    {"type": "function", "name": name, "description": description, "parameters": CITIES, "strict": False}
    for name, description in TOOLS.items()
]
ANTHROPIC = {"apikey": KEY, "authorization": "x-api-key", "models": ["claude-haiku-4-5"]}
CONVERSIONS = {
    "Claude on InvokeModel alone": (BedrockSim, HAIKU, {"flags": ["bedrock_model_invoke"]}),
    "Claude on Converse alone": (BedrockSim, HAIKU, {"flags": ["bedrock_converse"]}),
    "Nova on Converse": (BedrockSim, NOVA, {"flags": ["bedrock_converse"]}),
    "Anthropic": (AnthropicSim, "claude-haiku-4-5", {**ANTHROPIC, "compatibility": {"anthropic_messages": True}}),
    "a server of Chat": (OpenAISim, "gpt-x", {"apikey": KEY, "models": ["gpt-x"]}),
    "OpenAI": (
        OpenAISim,
        "gpt-x",
        {"apikey": KEY, "models": ["gpt-x"], "compatibility": {"openai_chat": True, "openai_responses": True}},
    ),
}
conversions = pytest.mark.parametrize("conversion", CONVERSIONS)
claude_conversions = pytest.mark.parametrize(
    "conversion", [conversion for conversion in CONVERSIONS if "Claude" in conversion or conversion == "Anthropic"]
)
either_way = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


class Way:
    """OpenAI's SDK, connected to a gateway in front of one provider."""

    def __init__(self, client, simulated, gw, model):
        self.client = client
        self.simulated = simulated
        self.gw = gw
        self.model = model

    async def answer(self, *, streamed, **given):
        """Return the SDK's response object for a call. If the reply is streamed, the SDK assembles this object from the
        events.
        """
        given = {"model": self.model, "input": "hello", **given}
        if not streamed:
            return await self.client.responses.create(**given)
        async with self.client.responses.stream(**given) as stream:
            return await stream.get_final_response()

    def check(self):
        """Check that the provider accepted all requests, and that no request contained a credential of the client."""
        assert {seen.refused for seen in self.simulated.requests} == {""}
        for seen in self.simulated.requests:
            assert seen.leaked("x-api-key" if "x-api-key" in seen.headers else "authorization") == []


@pytest.fixture
async def way(tmp_path, conversion):
    kind, model, provider = CONVERSIONS[conversion]
    async with kind(keys={KEY}) as simulated:
        plain = {"baseurl": simulated.url, **provider}
        made = bedrock(simulated.url, **provider) if kind is BedrockSim else plain
        async with gate(tmp_path, {"p": made}) as gw, connect(gw) as client:
            yield Way(client, simulated, gw, model)


def connect(gw):
    return openai.AsyncOpenAI(base_url=gw.url + "/v1", api_key="-", max_retries=0)


@conversions
@either_way
async def test_a_question_is_answered(way, streamed):
    way.simulated.script(PLAIN)
    response = await way.answer(streamed=streamed)
    assert (response.output_text, response.status, response.error) == (SAID, "completed", None)
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (12, 7, 19)
    (record,) = await way.gw.calls()
    assert (record["agent"], record["outcome"], record["tokens"]["output"]) == ("OpenAI/Python", "ok", 7)
    way.check()


@conversions
async def test_a_stream_comes_in_its_deltas(way):
    way.simulated.script(PLAIN)
    events = [event async for event in await way.client.responses.create(model=way.model, input="hi", stream=True)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert deltas == ["Hello", " from", " a simulated", " model."]
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")


@conversions
@either_way
async def test_two_tools_at_once_are_called_and_their_results_arrive(way, streamed):
    way.simulated.script(TWO_CALLS)
    response = await way.answer(streamed=streamed, tools=FUNCTIONS)
    calls = [item for item in response.output if item.type == "function_call"]
    assert response.output_text == "Let me look."
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("get_weather", {"city": "Zürich"}),
        ("get_time", {"city": "Tokyo"}),
    ]
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": RESULTS[call.name]} for call in calls
    ]
    history = [{"role": "user", "content": "hello"}, *response.output, *results]
    response = await way.answer(streamed=streamed, tools=FUNCTIONS, input=history)
    assert response.output_text in (SAID_OF_THE_RESULTS, f"The tool said: {RESULTS['get_time']}")
    assert (await way.gw.calls(2))[0]["tools"] == ["get_weather", "get_time"]
    way.check()


@claude_conversions
@either_way
async def test_thinking_is_taken_back_in_the_next_turn(way, streamed):
    way.simulated.script(THINKING)
    given = {
        "tools": FUNCTIONS,
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "store": False,
    }
    response = await way.answer(streamed=streamed, **given)
    assert response.output[0].summary[0].text == THOUGHT
    call = response.output[-1]
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "09:41"}]
    history = [{"role": "user", "content": "hello"}, *response.output, *results]
    response = await way.answer(streamed=streamed, input=history, **given)
    assert response.output_text == "The tool said: 09:41"
    assert THOUGHT in way.simulated.requests[1].body.decode()
    assert "sig-sim-" in way.simulated.requests[1].body.decode()
    way.check()


@claude_conversions
@either_way
async def test_encrypted_thinking_is_taken_back_beside_the_readable(way, streamed):
    call = Tool("get_time", {"city": "Tokyo"})
    way.simulated.script(Scenario(Canned(thinking=THOUGHT, redacted="ZW5jcnlwdGVkIHRob3VnaHQ=", tools=(call,))))
    given = {"tools": FUNCTIONS, "reasoning": {"effort": "low"}}
    response = await way.answer(streamed=streamed, **given)
    assert [item.type for item in response.output] == ["reasoning", "function_call"]
    results = [{"type": "function_call_output", "call_id": response.output[-1].call_id, "output": "09:41"}]
    history = [{"role": "user", "content": "hello"}, *response.output, *results]
    await way.answer(streamed=streamed, input=history, **given)
    sent = way.simulated.requests[1].json["messages"][1]["content"]
    assert [next(iter(block)) if "type" not in block else block["type"] for block in sent] in (
        ["thinking", "redacted_thinking", "tool_use"],
        ["reasoningContent", "reasoningContent", "toolUse"],
    )
    way.check()


@pytest.mark.parametrize("conversion", ["OpenAI"])
async def test_thinking_of_another_family_is_left_out_for_openai_itself(way, tmp_path):
    async with BedrockSim(keys={KEY}) as simulated:
        simulated.script(THINKING)
        provider = bedrock(simulated.url)
        async with gate(tmp_path / "other", {"bedrock": provider}) as gw, connect(gw) as client:
            response = await client.responses.create(model=HAIKU, input="hello", tools=FUNCTIONS)
    results = [{"type": "function_call_output", "call_id": response.output[-1].call_id, "output": "09:41"}]
    history = [{"role": "user", "content": "hello"}, *response.output, *results]
    response = await way.answer(streamed=False, input=history, tools=FUNCTIONS)
    assert response.output_text == "The tool said: 09:41"
    way.check()


@conversions
async def test_an_image_arrives_as_it_is(way):
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG_BASE64}", "detail": "auto"}
    content = [{"type": "input_text", "text": "What is this?"}, image]
    await way.answer(streamed=False, input=[{"role": "user", "content": content}])
    assert PNG_BASE64 in way.simulated.requests[0].body.decode()
    way.check()


@conversions
@either_way
async def test_cached_tokens_are_told_and_counted(way, streamed):
    way.simulated.script(CACHED)
    usage = (await way.answer(streamed=streamed)).usage
    assert (usage.input_tokens, usage.input_tokens_details.cached_tokens) == (1253, 1000)
    assert (await way.gw.calls())[0]["tokens"]["cache_read"] == 1000


class Place(BaseModel):
    city: str


@claude_conversions
async def test_an_answer_by_a_schema_is_parsed_by_the_sdk(way):
    way.simulated.script(scenarios.text('{"city": "Tokyo"}'))
    response = await way.client.responses.parse(model=way.model, input="where?", text_format=Place)
    assert response.output_parsed == Place(city="Tokyo")
    way.check()


@pytest.mark.parametrize("conversion", ["Nova on Converse"])
@either_way
async def test_a_model_without_structured_output_answers_by_a_schema_too(way, streamed):
    """Check a request for structured output to a model without this feature: the gateway makes the model call a tool
    whose input has the requested schema.

    The client gets the arguments of this tool call as the text of the reply.
    """
    way.simulated.script(scenarios.tools(Tool("json_output", {"city": "Tokyo"})))
    schema = {**CITIES, "additionalProperties": False}
    form = {"type": "json_schema", "name": "place", "schema": schema, "strict": True}
    response = await way.answer(streamed=streamed, text={"format": form})
    assert json.loads(response.output_text) == {"city": "Tokyo"}
    assert [item.type for item in response.output] == ["message"]
    way.check()


@conversions
@either_way
async def test_an_answer_that_was_cut_short_says_so(way, streamed):
    way.simulated.script(scenarios.NAMED["max_tokens"])
    given = {"model": way.model, "input": "hello", "max_output_tokens": 100}
    response = await way.client.responses.create(**given, stream=streamed)
    if streamed:  # the SDK's own helper waits for a response that is completed
        last = [event async for event in response][-1]
        assert last.type == "response.incomplete"
        response = last.response
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.output_text == SAID


BROKEN = {
    "an exception": scenarios.error_in_stream("throttlingException", message="Too many tokens"),
    "cut off": scenarios.cut(900),
    "without its end": replace(PLAIN, end_after=3),
}


@conversions
@pytest.mark.parametrize("fault", BROKEN)
async def test_a_stream_that_breaks_is_an_error_and_no_completion(way, fault):
    way.simulated.script(BROKEN[fault])
    types = []
    with suppress(openai.APIError):
        async for event in await way.client.responses.create(model=way.model, input="hi", stream=True):
            types.append(event)  # noqa: PERF401 (what comes before the exception counts)
        assert types[-1].type == "response.failed"  # OpenAI's own error has a form that the SDK hands on
    assert "response.completed" not in [event.type for event in types]
    (record,) = await way.gw.calls()
    assert record["outcome"] != "ok"


@conversions
async def test_an_error_before_the_first_byte_has_its_own_class(way):
    way.simulated.script(scenarios.error("ThrottlingException", "in the provider's words"))
    with pytest.raises(openai.RateLimitError, match="in the provider's words"):
        await way.answer(streamed=True)


@pytest.mark.parametrize("conversion", ["Anthropic"])
async def test_a_field_that_cannot_be_honoured_is_a_bad_request(way):
    """Check that a request is refused if dropping one of its fields would change its meaning. The error must name the
    field.
    """
    with pytest.raises(openai.BadRequestError) as raised:
        await way.answer(streamed=False, previous_response_id="resp_1")
    assert raised.value.param == "previous_response_id"
    assert way.simulated.requests == []
