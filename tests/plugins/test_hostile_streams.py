"""Tests of broken streams and broken response headers, read by the clients' own libraries through a real gateway."""

import asyncio
import json
from dataclasses import replace

import anthropic
import openai
import pytest
from botocore.exceptions import ClientError

from gateway.testkit import scenarios
from gateway.testkit.openai import OpenAISim
from tests.clients.aws import CLAUDE, HELLO, connect, converse_stream, message_of, provider
from tests.helpers.gateway import KEY, gate

GPT = "gpt-4o"
HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
async def chat(tmp_path):
    """Yield a gateway, and the simulated Chat provider behind it."""
    async with (
        OpenAISim(keys={KEY}) as sim,
        gate(tmp_path, {"p": provider(sim.url, GPT, "openai_chat", "bearer")}) as gw,
    ):
        yield gw, sim


def sse(*chunks):
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)


def chunk(reason=None, **delta):
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }


def stream(data, *, cut=False):
    reply = scenarios.raw(data, "text/event-stream")
    return replace(reply, cut_at=len(data)) if cut else reply


FINISHED = sse(chunk(role="assistant", content=""), chunk(content="Hi"), chunk("stop"))


async def test_a_connection_closed_after_the_reason_is_a_whole_reply(chat):
    """Check that a reply is complete if the server closes the connection cleanly after the stop reason."""
    gw, sim = chat
    sim.script(*[stream(FINISHED)] * 3)
    client = connect(gw.url + "/bedrock")
    events = await converse_stream(client, modelId=GPT)
    client.close()
    assert message_of(events)[:2] == ({"role": "assistant", "content": [{"text": "Hi"}]}, "end_turn")
    async with anthropic.AsyncAnthropic(base_url=gw.url, api_key="-", max_retries=0) as client:
        async with client.messages.stream(model=GPT, max_tokens=9, messages=HI) as reply:
            message = await reply.get_final_message()
        assert (message.content[0].text, message.stop_reason) == ("Hi", "end_turn")
    async with openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key="-", max_retries=0) as client:
        kinds = [event.type async for event in await client.responses.create(model=GPT, input="Hi", stream=True)]
    assert kinds[-1] == "response.completed"
    assert [call["outcome"] for call in await gw.calls(3)] == ["ok"] * 3


@pytest.mark.parametrize("data", [sse(chunk(role="assistant", content=""), chunk(content="Hi")), FINISHED])
async def test_a_connection_that_breaks_before_done_is_an_error(chat, data):
    gw, sim = chat
    sim.script(stream(data, cut=True))
    async with anthropic.AsyncAnthropic(base_url=gw.url, api_key="-", max_retries=0) as client:
        reply = await client.messages.create(model=GPT, max_tokens=9, messages=HI, stream=True)
        with pytest.raises(anthropic.APIStatusError, match="broke off"):
            await anext(event async for event in reply if event.type == "message_stop")
    assert [call["outcome"] for call in await gw.calls()] == ["failed"]


async def test_what_came_in_one_read_with_a_fault_goes_out_before_it(chat):
    gw, sim = chat
    begun = sse(chunk(role="assistant", content=""), chunk(content="Hello"))
    sim.script(stream(begun + b'data: {"broken\n\n'))
    texts = []

    async def read(client):
        async with client.messages.stream(model=GPT, max_tokens=9, messages=HI) as reply:
            async for text in reply.text_stream:
                texts.append(text)  # noqa: PERF401 (what comes before the exception counts)

    async with anthropic.AsyncAnthropic(base_url=gw.url, api_key="-", max_retries=0) as client:
        with pytest.raises(anthropic.APIStatusError, match="not JSON"):
            await read(client)
    assert "".join(texts) == "Hello"


async def test_every_client_finds_the_id_of_its_request_where_it_looks(chat):
    gw, _ = chat
    client = connect(gw.url + "/bedrock")
    reply = await asyncio.to_thread(client.converse, modelId=GPT, messages=HELLO)
    streamed = await asyncio.to_thread(client.converse_stream, modelId=GPT, messages=HELLO)
    streamed["stream"].close()
    with pytest.raises(ClientError) as refused:
        await asyncio.to_thread(client.converse, modelId="no-such-model", messages=HELLO)
    client.close()
    ids = [reply["ResponseMetadata"]["RequestId"], streamed["ResponseMetadata"]["RequestId"]]
    ids.append(refused.value.response["ResponseMetadata"]["RequestId"])
    async with anthropic.AsyncAnthropic(base_url=gw.url, api_key="-", max_retries=0) as client:
        ids.append((await client.messages.create(model=GPT, max_tokens=9, messages=HI))._request_id)
        with pytest.raises(anthropic.NotFoundError) as refused:
            await client.messages.create(model="no-such-model", max_tokens=9, messages=HI)
        ids.append(refused.value.request_id)
    assert sorted(ids) == sorted(call["id"] for call in await gw.calls(5))


async def test_an_invoke_model_that_is_translated_tells_its_tokens_in_the_head(chat):
    gw, _ = chat
    client = connect(gw.url + "/bedrock")
    reply = await asyncio.to_thread(client.invoke_model, modelId=GPT, body=json.dumps(CLAUDE))
    client.close()
    usage = json.loads(reply["body"].read())["usage"]
    headers = reply["ResponseMetadata"]["HTTPHeaders"]
    assert usage["output_tokens"] > 0
    assert headers["x-amzn-bedrock-input-token-count"] == str(usage["input_tokens"])
    assert headers["x-amzn-bedrock-output-token-count"] == str(usage["output_tokens"])
