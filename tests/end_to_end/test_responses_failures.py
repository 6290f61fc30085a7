"""Tests of a Responses stream that fails after its beginning. It comes from a provider of Responses, or is translated.

The last events must continue the sequence numbers and have valid types.
"""

import json

import pytest
from aiohttp import web
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.contract.framing import sse
from gateway.testkit import scenarios
from tests.end_to_end.test_defences import provider
from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate
from tests.helpers.open_responses import conforms
from tests.plugins.translators.test_halves_of_characters import chat_events

ADAPTER = TypeAdapter(ResponseStreamEvent)
BODY = {"input": "Hi", "stream": True, "temperature": 0.5}
CREATED = {
    "id": "resp_abc", "object": "response", "created_at": 1, "model": "m", "output": [], "status": "in_progress",
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
}  # fmt: skip


def native_stream(last):
    """Return a provider's Responses events with the sequence numbers from 3 to `last`. A stream usually begins at 0."""
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    delta = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": "x", "logprobs": []}
    events = [
        {"type": "response.created", "sequence_number": 3, "response": CREATED},
        {"type": "response.output_item.added", "sequence_number": 4, "output_index": 0, "item": item},
        *[{"type": "response.output_text.delta", "sequence_number": number, **delta} for number in range(5, last + 1)],
    ]
    return b"".join(sse.encode(json.dumps(event).encode(), event["type"]) for event in events)


def datas(body):
    return [json.loads(frame.payload) for frame in sse.Decoder().feed(body) if frame.payload]


def check_end(events):
    """Check the two events that report a failure, and the sequence numbers of all events."""
    numbers = [event["sequence_number"] for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(events)))
    error, failed = events[-2:]
    assert (error["type"], failed["type"]) == ("error", "response.failed")
    for event in (error, failed):
        ADAPTER.validate_json(json.dumps(event), strict=True)
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["message"]
    return failed["response"]


@pytest.mark.parametrize("last", [5, 40, 700])
@pytest.mark.parametrize("ending", [b"", b"data: {cut", b'event: response.output_text.delta\ndata: {"type": "resp'])
async def test_a_native_stream_that_is_cut_goes_on_with_its_numbers(tmp_path, last, ending):
    async def answering(request):
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(native_stream(last) + ending)
        return response

    async with (
        provider(answering) as url,
        gate(tmp_path, {"b": bedrock(url, flags=["openai_responses"], models=["m"])}) as gw,
    ):
        events = datas((await gw.post("/v1/responses", {"model": "m", **BODY})).body)
    response = check_end(events)
    assert [event["sequence_number"] for event in events] == list(range(3, last + 3))
    assert response["id"] == "resp_abc"


@pytest.mark.parametrize("model", [HAIKU, NOVA])
@pytest.mark.parametrize("after", [1, 3])
async def test_a_translated_stream_that_fails_goes_on_with_its_numbers(tmp_path, bedrock_sim, model, after):
    bedrock_sim.script(scenarios.error_in_stream("internalServerException", after=after))
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        events = datas((await gw.post("/v1/responses", {"model": model, **BODY})).body)
    conforms(check_end(events))


async def test_a_translated_chat_stream_that_is_cut_goes_on_with_its_numbers(tmp_path):
    async def answering(request):
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"".join(sse.encode(json.dumps(chunk).encode()) for _, chunk in chat_events("a", "b")[:2]))
        return response

    async with (
        provider(answering) as url,
        gate(tmp_path, {"b": bedrock(url, flags=["openai_chat"], models=["m"])}) as gw,
    ):
        events = datas((await gw.post("/v1/responses", {"model": "m", **BODY})).body)
    response = check_end(events)
    conforms(response)
    assert response["temperature"] == 0.5
