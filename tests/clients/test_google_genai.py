"""Tests of Google's SDK (google-genai) with the settings of `deploy/clients.md` and the simulated Gemini API."""

import asyncio
import json
from dataclasses import replace

import pytest
from google import genai
from google.genai import errors, types

from gateway.testkit import scenarios
from gateway.testkit.scenarios import NAMED, Canned, Scenario
from tests.clients import page
from tests.clients.samples import CACHED, PLAIN, PNG, RESULTS, SAID, SAID_OF_THE_RESULTS, THINKING, TOOLS, TWO_CALLS
from tests.helpers.gateway import HAIKU, KEY, bedrock, gate

MODEL = "gemini-3-flash-preview"
OTHER = "gemini-2.5-pro"
ASK = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
FUNCTIONS = [
    types.FunctionDeclaration(
        name=name,
        description=description,
        parameters=types.Schema(type="OBJECT", properties={"city": types.Schema(type="STRING")}, required=["city"]),
    )
    for name, description in TOOLS.items()
]
WITH_TOOLS = types.GenerateContentConfig(
    tools=[types.Tool(function_declarations=FUNCTIONS)],
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
)


def provider(url, **more):
    return {
        "baseurl": url,
        "apikey": KEY,
        "authorization": "x-goog-api-key",
        "models": [MODEL, OTHER],
        "compatibility": {"gemini_generate_content": True},
        **more,
    }


@pytest.fixture
async def gw(tmp_path, gemini_upstream):
    async with gate(tmp_path, {"google": provider(gemini_upstream.url)}) as running:
        yield running


@pytest.fixture(params=["v1", "v1beta"])
def client(request, gw):
    with genai.Client(
        api_key="-", http_options=types.HttpOptions(base_url=gw.url, api_version=request.param, timeout=20_000)
    ) as made:
        yield made.models


async def whole(models, contents="hello", config=None, model=MODEL):
    return await asyncio.to_thread(models.generate_content, model=model, contents=contents, config=config)


async def streamed(models, contents="hello", config=None):
    """Return the chunks of a stream."""
    asked = {"model": MODEL, "contents": contents, "config": config}
    return await asyncio.to_thread(lambda: list(models.generate_content_stream(**asked)))


def check_upstream(simulated):
    for seen in simulated.requests:
        assert seen.refused == ""
        assert seen.headers["x-goog-api-key"] == KEY
        assert seen.leaked("x-goog-api-key") == []
        assert "key=" not in seen.query


async def test_a_reply_comes_whole_and_streamed_with_its_tokens(client, gw, gemini_upstream):
    gemini_upstream.script(PLAIN, PLAIN)
    reply, chunks = await whole(client), await streamed(client)
    assert reply.text == "".join(chunk.text or "" for chunk in chunks) == SAID
    for last in (reply, chunks[-1]):
        assert (last.usage_metadata.prompt_token_count, last.usage_metadata.candidates_token_count) == (12, 7)
        assert last.candidates[0].finish_reason == types.FinishReason.STOP
        assert last.model_version == MODEL
    for record in await gw.calls(2):
        assert (record["api"], record["model"], record["status"]) == ("gemini_generate_content", MODEL, 200)
        assert (record["tokens"]["input"], record["tokens"]["output"], record["stop"]) == (12, 7, "STOP")
        assert record["cost_usd"] not in (None, "0")
    check_upstream(gemini_upstream)


async def test_the_turns_of_a_chat_are_one_session(client, gw, gemini_upstream):
    history = [types.Content(role="user", parts=[types.Part(text="hello")])]
    await whole(client, history)
    answer = types.Content(role="model", parts=[types.Part(text="Hi")])
    await whole(client, [*history, answer, types.Content(role="user", parts=[types.Part(text="more")])])
    first, second = await gw.calls(2)
    assert first["session_id"] == second["session_id"]
    assert first["session_id"].startswith("fp_")


async def test_calls_and_results_with_signatures_and_images(client, gemini_upstream):
    gemini_upstream.script(TWO_CALLS)
    image = types.Part.from_bytes(data=PNG, mime_type="image/png")
    asked = types.Content(role="user", parts=[types.Part(text="Where?"), image])
    chunks = await streamed(client, [asked], WITH_TOOLS)
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts if part.function_call]
    assert [(part.function_call.name, part.function_call.args["city"]) for part in parts] == [
        ("get_weather", "Zürich"),
        ("get_time", "Tokyo"),
    ]
    results = [
        types.Part.from_function_response(
            name=part.function_call.name, response={"result": RESULTS[part.function_call.name]}
        )
        for part in parts
    ]
    called, answered = types.Content(role="model", parts=parts), types.Content(role="user", parts=results)
    reply = await whole(client, [asked, called, answered], WITH_TOOLS)
    assert all(text in reply.text for text in RESULTS.values())
    assert SAID_OF_THE_RESULTS.startswith(reply.text[: len("The tool said:")])
    check_upstream(gemini_upstream)


async def test_thoughts_are_marked_and_cached_tokens_are_counted(client, gw, gemini_upstream):
    gemini_upstream.script(THINKING, CACHED)
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True))
    parts = (await whole(client, config=config)).candidates[0].content.parts
    assert any(part.thought for part in parts)
    reply = await whole(client)
    assert reply.usage_metadata.cached_content_token_count == 1000
    assert (await gw.calls(2))[1]["tokens"]["cache_read"] == 1000


async def test_tokens_are_counted(client, gw, gemini_upstream):
    count = await asyncio.to_thread(client.count_tokens, model=MODEL, contents="hello")
    assert count.total_tokens > 0
    (record,) = await gw.calls()
    assert record["operation"] == "count_tokens"
    check_upstream(gemini_upstream)


async def test_models_are_listed_and_looked_up(client, gw):
    listed = await asyncio.to_thread(lambda: list(client.list()))
    assert [model.name for model in listed] == [f"models/{MODEL}", f"models/{OTHER}"]
    assert listed[0].supported_actions == ["generateContent", "countTokens"]
    assert (await asyncio.to_thread(client.get, model=OTHER)).name == f"models/{OTHER}"
    with pytest.raises(errors.ClientError) as raised:
        await asyncio.to_thread(client.get, model="gemini-none")
    assert (raised.value.code, raised.value.status) == (404, "NOT_FOUND")


ERRORS = {
    "ThrottlingException": (429, "RESOURCE_EXHAUSTED"),
    "ServiceUnavailableException": (503, "UNAVAILABLE"),
    "InternalServerException": (500, "INTERNAL"),
    "ValidationException": (400, "INVALID_ARGUMENT"),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("ask", [whole, streamed])
async def test_an_error_of_the_provider_keeps_its_status(gw, gemini_upstream, name, ask):
    gemini_upstream.default = scenarios.error(name, "Just so.")
    once = types.HttpRetryOptions(attempts=1)
    options = types.HttpOptions(base_url=gw.url, retry_options=once)
    with genai.Client(api_key="-", http_options=options) as made, pytest.raises(errors.APIError) as raised:
        await ask(made.models)
    assert (raised.value.code, raised.value.status, raised.value.message) == (*ERRORS[name], "Just so.")


async def test_an_unknown_model_is_named(client):
    with pytest.raises(errors.ClientError, match="gemini-none") as raised:
        await whole(client, model="gemini-none")
    assert (raised.value.code, raised.value.status) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(scenarios.error_in_stream("ServiceUnavailableException", 2), id="an error in the stream"),
        pytest.param(replace(PLAIN, end_after=2), id="a stream without its end"),
        pytest.param(replace(PLAIN, cut_at=600), id="a connection that breaks"),
    ],
)
async def test_a_stream_that_fails_raises_after_its_chunks(client, gw, gemini_upstream, scenario):
    gemini_upstream.script(scenario)
    texts = []

    def read():
        chunks = client.generate_content_stream(model=MODEL, contents="hello")
        texts.extend(chunk.text or "" for chunk in chunks)

    with pytest.raises(errors.APIError):
        await asyncio.to_thread(read)
    assert texts[0] == "Hello"
    (record,) = await gw.calls()
    assert record["outcome"] == "failed"


async def test_a_blocked_prompt_is_a_reply_with_its_reason(client, gw, gemini_upstream):
    blocked = b'{"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}'
    gemini_upstream.script(scenarios.raw(blocked), scenarios.raw(b"data: " + blocked + b"\n\n", "text/event-stream"))
    reply, (chunk,) = await whole(client), await streamed(client)
    for one in (reply, chunk):
        assert one.prompt_feedback.block_reason == types.BlockedReason.SAFETY
    for record in await gw.calls(2):
        assert (record["outcome"], record["stop"], record["tokens"]["input"]) == ("ok", "SAFETY", 3)


async def test_a_key_that_google_refuses_with_400_is_not_the_callers_fault(tmp_path, gemini_upstream):
    async with gate(tmp_path, {"google": provider(gemini_upstream.url, apikey="wrong")}) as gw:
        reply = await gw.post(f"/v1beta/models/{MODEL}:generateContent", ASK)
        assert (reply.status, (await reply.json())["error"]["status"]) == (502, "INTERNAL")
        assert (await gw.lines.until("upstream.key_refused"))[0]["provider"] == "google"


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_an_array_reaches_the_client_byte_for_byte(gw, gemini_upstream, size):
    """Check that a stream without `alt=sse` is one JSON array, and that its bytes reach the client unchanged.

    The SDK never omits `alt=sse`, so the test sends the request itself.
    """
    gemini_upstream.script(replace(NAMED["unicode"], split=size), replace(NAMED["unicode"], split=0))
    replies = [await gw.post(f"/v1beta/models/{MODEL}:streamGenerateContent?key=-", ASK) for _ in range(2)]
    for reply in replies:
        assert reply.headers["content-type"].startswith("application/json")
        chunks = await reply.json()
        texts = [part["text"] for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
        assert "".join(texts) == NAMED["unicode"].reply.whole_text
    assert all(record["outcome"] == "ok" for record in await gw.calls(2))
    check_upstream(gemini_upstream)


@pytest.mark.parametrize("query", ["alt=sse", ""])
@pytest.mark.parametrize("place", [0, 1])
async def test_a_large_chunk_is_read_in_a_worker_process(gw, gemini_upstream, query, place):
    """Check that a chunk of several megabytes, such as an image, is passed on unchanged, and that the stream's token
    counts are recorded. A worker process reads such a chunk.

    The large chunk is the first or the last one of the stream.
    """
    data = "QUJD" * 1_000_000
    parts = [{"inlineData": {"mimeType": "image/png", "data": data}}, {"text": "x"}]
    large = {"candidates": [{"content": {"parts": parts}}], "usageMetadata": {"promptTokenCount": 5}}
    last = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"candidatesTokenCount": 9}}
    chunks = [large, last] if place == 0 else [{"candidates": [{"index": 0}]}, {**large, **last}]
    rows = [json.dumps(one).encode() for one in chunks]
    stream = b"".join(b"data: " + row + b"\n\n" for row in rows) if query else b"[" + b",".join(rows) + b"]"
    gemini_upstream.script(scenarios.raw(stream, "text/event-stream" if query else "application/json"))
    reply = await gw.post(f"/v1beta/models/{MODEL}:streamGenerateContent?{query}", ASK)
    assert (reply.status, await reply.read()) == (200, stream)
    (record,) = await gw.calls()
    assert (record["outcome"], record["stop"], record["tokens"]["output"]) == ("ok", "STOP", 9)


async def test_an_array_that_fails_is_json_all_the_same(gw, gemini_upstream):
    gemini_upstream.script(
        scenarios.error_in_stream("ServiceUnavailableException", 2),
        replace(PLAIN, end_after=2),
        replace(PLAIN, cut_at=600),
    )
    for status in ("UNAVAILABLE", "INTERNAL", "INTERNAL"):
        reply = await gw.post(
            f"/v1beta/models/{MODEL}:streamGenerateContent", {"contents": [{"parts": [{"text": "x"}]}]}
        )
        *chunks, error = await reply.json()
        assert chunks[0]["candidates"][0]["content"]["parts"] == [{"text": "Hello"}]
        assert error["error"]["status"] == status


@pytest.mark.parametrize("query", ["", "?alt=sse"])
async def test_an_error_before_an_array_is_an_array(tmp_path, gemini_upstream, bedrock_sim, query):
    """Check the form of an error before the first event of a stream. It is an array with one error object, or the
    object alone if the client asked for `alt=sse`.

    Errors of the gateway, of a Gemini provider, and of a provider whose replies are translated are tried.
    """
    providers = {"google": provider(gemini_upstream.url), "aws": bedrock(bedrock_sim.url)}
    failing = {"contents": [{"role": "user", "parts": [{"text": "[[scenario: throttle]]"}]}]}
    async with gate(tmp_path, providers) as gw:
        for model, ask, status, name in (
            ("none", ASK, 404, "NOT_FOUND"),
            (HAIKU, {**ASK, "generationConfig": {"maxOutputTokens": 1e300}}, 400, "INVALID_ARGUMENT"),
            (HAIKU, failing, 429, "RESOURCE_EXHAUSTED"),
            (MODEL, failing, 429, "RESOURCE_EXHAUSTED"),
        ):
            reply = await gw.post(f"/v1beta/models/{model}:streamGenerateContent{query}", ask)
            body = await reply.json()
            (error,) = [body] if query else body
            assert (reply.status, error["error"]["code"], error["error"]["status"]) == (status, status, name)


async def test_a_chat_of_the_page(gw, gemini_upstream):
    gemini_upstream.script(Scenario(Canned(("Hello",))))
    (block,) = page.settings("Google Gen AI SDK for Python", gw.url)
    names = {}
    exec(block, names)
    with names["client"] as client:
        assert (await whole(client.models)).text == "Hello"
