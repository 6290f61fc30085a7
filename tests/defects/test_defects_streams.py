"""Tests of defects 37 to 39 and 58 of other gateways, about broken streams, statuses and keys.

Each defect is tested on every conversion, over sockets. The number of a defect is in the names of its tests:
`defect_NN`.
"""

import json
from dataclasses import replace

import pytest

from gateway.testkit import scenarios
from tests.defects.conversions import OPENAIS
from tests.helpers.fold import read_stream
from tests.helpers.wires import WIRES, line, wires

WORDS = "in the provider's own words"
FAILED = scenarios.error_in_stream("ThrottlingException", message=WORDS, after=4)
CUT = replace(scenarios.NAMED["no_end"], end_after=4)
"""A stream that breaks after its first text. With an earlier break, Gemini's clients would get no event before the
error."""
DONE = {
    # how a reply ends that is complete
    "openai_chat": b"[DONE]",
    "openai_responses": b'"type":"response.completed"',
    "anthropic_messages": b"message_stop",
    "bedrock_model_invoke": b"bWVzc2FnZV9zdG9w",  # message_stop in base64, at the place where it stands in a chunk
    "bedrock_converse": b"messageStop",
    "gemini_generate_content": b"finishReason",
}
ERRORS = {
    "openai_chat": ("",),
    "openai_responses": ("error", "response.failed"),
    "anthropic_messages": ("error",),
    "bedrock_model_invoke": ("throttlingException", "modelStreamErrorException", "internalServerException"),
    "bedrock_converse": ("throttlingException", "modelStreamErrorException", "internalServerException"),
    "gemini_generate_content": ("",),
}
NATIVE = [wire for wire in WIRES if wire.client == wire.provider]
natives = pytest.mark.parametrize("wire", NATIVE, ids=[wire.provider for wire in NATIVE])


def hello(wire):
    return wire.say.body(wire.say.user(wire.say.text("Hi")))


async def broken(wire, state, scenario):
    """Return the last event of a stream that breaks. Check that no event says that the reply is complete."""
    async with line(wire, state) as opened:
        opened.simulated.script(scenario)
        reply = await opened.post(hello(wire), stream=True)
    assert reply.status == 200, reply.body
    assert DONE[wire.client] not in reply.body
    events = read_stream(reply.body, reply.headers["content-type"])
    assert events[-1][0] in ERRORS[wire.client]
    reasons = [choice["finish_reason"] for _, data in events for choice in (data or {}).get("choices", ())]
    assert not any(reasons)
    return events


@wires()
async def test_defect_37_an_error_ends_the_clients_stream(wire, tmp_path):
    """Check that after an error inside a stream, the client gets no further event."""
    events = await broken(wire, tmp_path, FAILED)
    assert WORDS in json.dumps(events)


@wires()
async def test_defect_38_a_stream_that_stops_without_its_end_is_an_error(wire, tmp_path):
    await broken(wire, tmp_path, CUT)


@wires()
async def test_defect_39_an_exception_at_the_start_keeps_its_status(wire, tmp_path):
    """Check that an exception at the beginning of a stream keeps its own status instead of 400."""
    async with line(wire, tmp_path) as opened:
        opened.simulated.script(replace(FAILED, fail_after=0))
        reply = await opened.post(hello(wire), stream=True)
    expected = 500 if wire.provider in OPENAIS else 429  # OpenAI's own streams say no status
    assert (reply.status, WORDS in reply.body.decode()) == (expected, True)


@natives
@pytest.mark.parametrize("scheme", ["bearer", "x-api-key"])
async def test_defect_58_a_provider_without_a_key_gets_none(wire, tmp_path, scheme):
    """Check that a provider without a configured key gets no key at all, not even the client's placeholder."""
    async with line(wire, tmp_path, apikey="", authorization=scheme) as opened:
        opened.simulated.keys = None
        reply = await opened.gw.post(
            wire.say.path(wire.model, stream=False),
            {**hello(wire), "model": wire.model} if "model" in hello(wire) else hello(wire),
            headers={"authorization": "Bearer placeholder", "x-api-key": "placeholder"},
        )
        assert reply.status == 200
        (seen,) = opened.simulated.requests
    assert {"authorization", "x-api-key"}.isdisjoint(seen.headers)


@natives
async def test_defect_58_a_bearer_key_is_all_that_a_provider_needs(wire, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    async with line(wire, tmp_path, authorization="bearer") as opened:
        reply = await opened.post(hello(wire), stream=False)
        (seen,) = opened.simulated.requests
    assert reply.status == 200
    assert seen.headers["authorization"].startswith("Bearer ")
    assert "x-amz-date" not in seen.headers
