"""Tests of version 2 of Anthropic's SDK with a provider that has only Converse or only Chat Completions."""

import base64
import json
from contextlib import asynccontextmanager

import anthropic
import pytest

from gateway.testkit import scenarios
from gateway.testkit.scenarios import Tool
from gateway_plugins.dialects.bedrock.runtime_api import message as frame
from tests.clients.samples import (
    CACHED,
    CITIES,
    PLAIN,
    PNG_BASE64,
    RESULTS,
    SAID,
    THINKING,
    THOUGHT,
    TOOLS,
    TWO_CALLS,
    check_upstream,
)
from tests.helpers.gateway import HAIKU, KEY, bedrock, gate

GPT = "gpt-4o"
HELLO = [{"role": "user", "content": "hello"}]
TOOL_PARAMS = [
    {"name": name, "description": description, "input_schema": CITIES} for name, description in TOOLS.items()
]
PDF_BASE64 = base64.b64encode(b"%PDF-1.4 of nothing").decode()
DROPPED = "x-irisgate-dropped"


class Side:
    """A client, the gateway, and the provider behind the gateway."""

    def __init__(self, gw, simulated, client, model):
        self.gw = gw
        self.simulated = simulated
        self.client = client
        self.model = model

    async def answer(self, *, streamed, **given):
        """Return the message of a reply. If it is streamed, the SDK assembles the message."""
        request = {"model": self.model, "max_tokens": 2000, "messages": HELLO, **given}
        if not streamed:
            message = await self.client.messages.create(**request)
        else:
            async with self.client.messages.stream(**request) as stream:
                message = await stream.get_final_message()
        check_upstream(self.simulated)
        return message

    @property
    def sent(self):
        """The JSON of the last request that the provider got."""
        return self.simulated.requests[-1].json


@asynccontextmanager
async def side(state, simulated, model, provider):
    async with (
        gate(state, {"p": provider}) as gw,
        anthropic.AsyncAnthropic(base_url=gw.url, api_key="-", max_retries=0) as client,
    ):
        yield Side(gw, simulated, client, model)


@pytest.fixture
async def converse(tmp_path, bedrock_sim):
    async with side(
        tmp_path / "converse", bedrock_sim, HAIKU, bedrock(bedrock_sim.url, flags=["bedrock_converse"])
    ) as made:
        yield made


@pytest.fixture
async def chat(tmp_path, openai_upstream):
    provider = {
        "baseurl": openai_upstream.url,
        "apikey": KEY,
        "models": [GPT],
        "compatibility": {"openai_chat": True},
    }
    async with side(tmp_path / "chat", openai_upstream, GPT, provider) as made:
        yield made


@pytest.fixture(params=["converse", "chat"])
def either(request):
    return request.getfixturevalue(request.param)


either_way = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@either_way
async def test_a_message_is_answered_and_counted(either, streamed):
    either.simulated.script(PLAIN)
    message = await either.answer(streamed=streamed)
    assert (message.content[0].text, message.stop_reason, message.model) == (SAID, "end_turn", either.model)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (12, 7)
    (record,) = await either.gw.calls()
    assert (record["outcome"], record["tokens"]["input"], record["dropped"]) == ("ok", 12, [])


async def test_a_stream_comes_in_its_deltas(either):
    either.simulated.script(PLAIN)
    async with either.client.messages.stream(model=either.model, max_tokens=50, messages=HELLO) as stream:
        assert [text async for text in stream.text_stream] == ["Hello", " from", " a simulated", " model."]


@either_way
async def test_two_tools_at_once_are_called_and_their_results_arrive(either, streamed):
    either.simulated.script(TWO_CALLS)
    message = await either.answer(streamed=streamed, tools=TOOL_PARAMS)
    calls = [block for block in message.content if block.type == "tool_use"]
    assert message.stop_reason == "tool_use"
    assert [(call.name, call.input) for call in calls] == [
        ("get_weather", {"city": "Zürich"}),
        ("get_time", {"city": "Tokyo"}),
    ]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": RESULTS[call.name]} for call in calls]
    history = [*HELLO, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    message = await either.answer(streamed=streamed, tools=TOOL_PARAMS, messages=history)
    assert RESULTS["get_time"] in message.content[0].text
    assert message.stop_reason == "end_turn"
    assert (await either.gw.calls(2))[0]["tools"] == ["get_weather", "get_time"]


@either_way
async def test_a_tool_without_arguments_gets_an_empty_object(either, streamed):
    either.simulated.script(scenarios.tools(Tool("now")))
    message = await either.answer(streamed=streamed, tools=[{"name": "now", "input_schema": {"type": "object"}}])
    assert message.content[0].input == {}


@either_way
async def test_a_long_tool_name_comes_back_as_it_was(either, streamed):
    name = "mcp__" + "very_" * 20 + "long"
    tools = [{"name": name, "input_schema": {"type": "object"}}]
    message = await either.answer(
        streamed=streamed, tools=tools, messages=[{"role": "user", "content": "[[scenario: tools]]"}]
    )
    assert message.content[1].name == name


@either_way
async def test_thinking_is_taken_back_in_the_next_turn(converse, streamed):
    converse.simulated.script(THINKING)
    given = {"tools": TOOL_PARAMS, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    message = await converse.answer(streamed=streamed, **given)
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.content[0].thinking == THOUGHT
    result = {"type": "tool_result", "tool_use_id": message.content[-1].id, "content": "09:41"}
    history = [*HELLO, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    message = await converse.answer(streamed=streamed, messages=history, **given)
    assert message.content[0].text == "The tool said: 09:41"
    assert "reasoningContent" in converse.sent["messages"][1]["content"][0]


@either_way
async def test_redacted_thinking_is_taken_back_too(converse, streamed):
    converse.simulated.script(scenarios.NAMED["redacted"])
    message = await converse.answer(streamed=streamed)
    assert [block.type for block in message.content] == ["redacted_thinking", "text"]
    history = [*HELLO, {"role": "assistant", "content": message.content}, *HELLO]
    await converse.answer(streamed=streamed, messages=history)
    (thought, _) = converse.sent["messages"][1]["content"]
    hidden = base64.b64decode(thought["reasoningContent"]["redactedContent"]).decode()
    assert hidden == "ZW5jcnlwdGVkIHRob3VnaHQ="


async def test_an_image_and_a_document_arrive(either):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG_BASE64}}
    document = {
        "type": "document",
        "title": "of nothing",
        "source": {"type": "base64", "media_type": "application/pdf", "data": PDF_BASE64},
    }
    content = [image, document, {"type": "text", "text": "What is this?"}]
    await either.answer(streamed=False, messages=[{"role": "user", "content": content}])
    (message,) = either.sent["messages"]
    assert PNG_BASE64 in str(message["content"][0])
    assert PDF_BASE64 in str(message["content"][1])
    assert (await either.gw.calls())[0]["dropped"] == []


async def test_citations_are_asked_for_with_the_document(converse):
    document = {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "The grass is green."},
        "citations": {"enabled": True},
    }
    content = [document, {"type": "text", "text": "What colour?"}]
    await converse.answer(streamed=False, messages=[{"role": "user", "content": content}])
    assert converse.sent["messages"][0]["content"][0]["document"]["citations"] == {"enabled": True}


SOURCE = {
    "title": "Lawns",
    "sourceContent": [{"text": "The grass is green."}],
    "location": {"documentChar": {"documentIndex": 0, "start": 0, "end": 19}},
}
CITED = {"citationsContent": {"content": [{"text": "Green."}], "citations": [SOURCE]}}
USAGE = {"inputTokens": 9, "outputTokens": 2, "totalTokens": 11}
CITED_WHOLE = {
    "output": {"message": {"role": "assistant", "content": [CITED]}},
    "stopReason": "end_turn",
    "usage": USAGE,
    "metrics": {"latencyMs": 1},
}
CITED_EVENTS = {
    "messageStart": [{"role": "assistant"}],
    "contentBlockDelta": [
        {"contentBlockIndex": 0, "delta": {"text": "Green."}},
        {"contentBlockIndex": 0, "delta": {"citation": SOURCE}},
    ],
    "contentBlockStop": [{"contentBlockIndex": 0}],
    "messageStop": [{"stopReason": "end_turn"}],
    "metadata": [{"usage": USAGE, "metrics": {"latencyMs": 1}}],
}


def cited(*, streamed):
    """Return a reply of Converse that cites a document."""
    if not streamed:
        return scenarios.raw(json.dumps(CITED_WHOLE).encode())
    frames = [frame(kind, json.dumps(data).encode()) for kind, all_ in CITED_EVENTS.items() for data in all_]
    return scenarios.raw(b"".join(frames), "application/vnd.amazon.eventstream")


@either_way
async def test_citations_of_a_reply_come_back_in_the_next_turn(converse, streamed):
    converse.simulated.script(cited(streamed=streamed))
    message = await converse.answer(streamed=streamed)
    (citation,) = message.content[0].citations
    assert (citation.type, citation.cited_text, citation.end_char_index) == ("char_location", "The grass is green.", 19)
    history = [*HELLO, {"role": "assistant", "content": message.content}, *HELLO]
    await converse.answer(streamed=streamed, messages=history)
    assert converse.sent["messages"][1]["content"] == [CITED]


@either_way
async def test_cached_tokens_are_told_and_counted(converse, streamed):
    converse.simulated.script(CACHED)
    system = [{"type": "text", "text": "long " * 2000, "cache_control": {"type": "ephemeral"}}]
    usage = (await converse.answer(streamed=streamed, system=system)).usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (3, 1000, 250)
    assert streamed or usage.cache_creation.ephemeral_1h_input_tokens == 50  # the SDK takes sums from a stream
    tokens = (await converse.gw.calls())[0]["tokens"]
    assert (tokens["cache_read"], tokens["cache_write_5m"], tokens["cache_write_1h"]) == (1000, 200, 50)
    assert converse.sent["system"][1] == {"cachePoint": {"type": "default"}}


@either_way
async def test_what_openai_read_from_its_cache_is_told_apart(chat, streamed):
    chat.simulated.script(CACHED)
    usage = (await chat.answer(streamed=streamed)).usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (253, 1000, 7)


async def test_cache_marks_that_chat_has_no_word_for_are_named_in_the_reply(chat):
    system = [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}]
    raw = await chat.client.messages.with_raw_response.create(model=GPT, max_tokens=50, messages=HELLO, system=system)
    assert raw.headers[DROPPED] == "/system/0/cache_control"


@either_way
async def test_a_stop_at_the_limit_is_told(either, streamed):
    either.simulated.script(scenarios.NAMED["max_tokens"])
    assert (await either.answer(streamed=streamed)).stop_reason == "max_tokens"


async def test_a_tool_that_anthropic_runs_is_a_bad_request_that_names_it(either):
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    with pytest.raises(anthropic.BadRequestError, match='tools\\[0\\]: the tool "web_search"'):
        await either.answer(streamed=False, tools=tools)
    assert either.simulated.requests == []


@either_way
async def test_an_error_of_the_provider_has_its_own_class(either, streamed):
    either.simulated.script(scenarios.error("ThrottlingException", "in its own words"))
    with pytest.raises(anthropic.RateLimitError, match="in its own words"):
        await either.answer(streamed=streamed)


BROKEN = {
    "an error": scenarios.error_in_stream("throttlingException", message="Too many tokens"),
    "cut off": scenarios.cut(700),
    "without its end": scenarios.NAMED["no_end"],
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_stream_that_breaks_is_an_error_and_no_message(either, fault):
    either.simulated.script(BROKEN[fault])
    with pytest.raises(anthropic.APIStatusError):
        await either.answer(streamed=True)


@either_way
async def test_the_bedrock_client_reaches_them_too(either, streamed):
    either.simulated.script(PLAIN)
    url = f"{either.gw.url}/bedrock"
    async with anthropic.AsyncAnthropicBedrock(base_url=url, api_key="-", aws_region="us-east-1") as client:
        message = await Side(either.gw, either.simulated, client, either.model).answer(streamed=streamed)
    assert (message.content[0].text, message.stop_reason) == (SAID, "end_turn")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (12, 7)


@either_way
async def test_a_document_of_megabytes_arrives(either, streamed):
    data = base64.b64encode(b"%PDF-1.4 " + bytes(1_500_000)).decode()
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}
    message = await either.answer(streamed=streamed, messages=[{"role": "user", "content": [document]}])
    assert message.stop_reason == "end_turn"
    assert data.encode() in either.simulated.requests[0].body
