"""Tests of the SDKs of OpenAI and Anthropic, whose calls are translated for the simulated Gemini API.

The tests check texts, tool calls and their results, token counts, and errors.
"""

import json

import anthropic
import openai
import pytest

from gateway.testkit import scenarios
from tests.clients.samples import CITIES, PLAIN, SAID, TOOLS, TWO_CALLS
from tests.clients.test_google_genai import MODEL, check_upstream, provider
from tests.helpers.gateway import gate

HELLO = [{"role": "user", "content": "hello"}]
FUNCTIONS = [{"name": name, "description": description, "parameters": CITIES} for name, description in TOOLS.items()]


@pytest.fixture
async def gw(tmp_path, gemini_upstream):
    async with gate(tmp_path, {"google": provider(gemini_upstream.url)}) as running:
        yield running


@pytest.fixture
async def chat(gw):
    async with openai.AsyncOpenAI(base_url=gw.url + "/v1", api_key="-", max_retries=0) as made:
        yield made


@pytest.fixture
async def claude(gw):
    async with anthropic.AsyncAnthropic(base_url=gw.url, api_key="-", max_retries=0) as made:
        yield made


async def test_a_chat_calls_functions_and_gets_their_results(chat, gemini_upstream):
    gemini_upstream.script(TWO_CALLS)
    tools = [{"type": "function", "function": function} for function in FUNCTIONS]
    first = await chat.chat.completions.create(model=MODEL, messages=HELLO, tools=tools)
    message = first.choices[0].message
    assert (first.choices[0].finish_reason, len(message.tool_calls)) == ("tool_calls", 2)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "21"} for call in message.tool_calls]
    history = [*HELLO, message.model_dump(exclude_none=True), *results]
    second = await chat.chat.completions.create(model=MODEL, messages=history, tools=tools)
    assert "21" in second.choices[0].message.content
    sent = json.loads(gemini_upstream.requests[-1].body)["contents"]
    assert [len(content["parts"]) for content in sent[-2:]] == [3, 2]
    check_upstream(gemini_upstream)


async def test_a_chat_streams_a_text_with_its_tokens(chat, gemini_upstream):
    gemini_upstream.script(PLAIN)
    stream = await chat.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == SAID
    assert chunks[-1].usage.total_tokens > 0
    check_upstream(gemini_upstream)


async def test_responses_stream_a_text(chat, gemini_upstream):
    gemini_upstream.script(PLAIN)
    async with chat.responses.stream(model=MODEL, input="hello", store=False) as stream:
        reply = await stream.get_final_response()
    assert reply.output_text == SAID
    check_upstream(gemini_upstream)


async def test_messages_stream_calls_and_count_tokens(claude, gemini_upstream):
    gemini_upstream.script(TWO_CALLS)
    tools = [{"name": each["name"], "input_schema": each["parameters"]} for each in FUNCTIONS]
    asked = {"model": MODEL, "messages": HELLO, "tools": tools}
    async with claude.messages.stream(max_tokens=1000, **asked) as stream:
        reply = await stream.get_final_message()
    assert [block.name for block in reply.content if block.type == "tool_use"] == list(TOOLS)
    assert reply.stop_reason == "tool_use"
    counted = await claude.messages.count_tokens(**asked)
    assert counted.input_tokens > 0
    check_upstream(gemini_upstream)


async def test_an_error_of_gemini_is_of_the_clients_class(chat, claude, gemini_upstream):
    gemini_upstream.script(*[scenarios.error("ThrottlingException")] * 2)
    with pytest.raises(openai.RateLimitError):
        await chat.chat.completions.create(model=MODEL, messages=HELLO)
    with pytest.raises(anthropic.RateLimitError):
        await claude.messages.create(model=MODEL, messages=HELLO, max_tokens=10)
