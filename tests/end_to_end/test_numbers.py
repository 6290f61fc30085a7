"""Tests of unusual numbers in requests and in a provider's counts: each call has one record, and its reservation is
released when it ends.
"""

import json

import pytest

from tests.helpers.gateway import CAP, gate
from tests.helpers.plugin_faults import WHOLE
from tests.helpers.scripted import scripted

GPT = "gpt-4o"
NUMBERS = [
    "1e300", "-1e300", "-1", "1.5", "12.0", '"12"', "9007199254740993", "18446744073709551615", "18446744073709551616",
    "1" + "0" * 30, "null",
]  # fmt: skip
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}


@pytest.fixture
async def gw(tmp_path, provider):
    buckets = {"all": {"capacity": "$100", "rate": "$1/day"}}
    charged = {"models": "**", "quotas": [{"bucket": "all"}], "rate_limits": [{"tokens": "100000000/min"}]}
    grants = [{"src": ["*"], "app": {CAP: [{"role": "admin"}, charged]}}]
    offer = {"baseurl": provider.url, "models": [GPT], "cost_basis": "openai", "compatibility": {"openai_chat": True}}
    async with gate(tmp_path, {"p": offer}, grants=grants, more={"quotas": buckets}) as gw:
        yield gw


@pytest.fixture
async def provider():
    async with scripted() as provider:
        yield provider


async def settled(gw, count):
    """Wait until `count` calls are recorded, and return their records. Check that no amount of the quota is still
    reserved.
    """
    records = await gw.calls(count)
    (bucket,) = (await (await gw.get("/api/quotas")).json())["quotas"]
    assert (len(records), bucket["reserved_usd"]) == (count, 0)
    return records


def sent(text, **more):
    """Return the bytes of a Chat request. Its `max_tokens` is `text`, which may be any JSON number."""
    body = {"model": GPT, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": "%NUMBER%", **more}
    return json.dumps(body).replace('"%NUMBER%"', text).encode()


async def post(gw, client, body):
    return await gw.post(PATHS[client], body, headers={"content-type": "application/json"})


async def test_a_native_request_reaches_the_provider_with_the_numbers_bytes(gw, provider):
    provider.answer(WHOLE)
    for text in NUMBERS:
        assert (await post(gw, "chat", sent(text))).status == 200
    assert provider.requests == [sent(text) for text in NUMBERS]
    assert {record["outcome"] for record in await settled(gw, len(NUMBERS))} == {"ok"}


async def test_a_converted_request_with_a_wrong_number_is_a_400(gw, provider):
    wrong = [text for text in NUMBERS if text not in {"12.0", "null"}]
    for text in wrong:
        reply = await post(gw, "messages", sent(text))
        error = (await reply.json())["error"]
        assert (reply.status, error["type"], "max_tokens" in error["message"]) == (400, "invalid_request_error", True)
    assert provider.requests == []
    assert {record["error"] for record in await settled(gw, len(wrong))} == {"invalid_request"}


@pytest.mark.parametrize("client", PATHS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_wrong_count_costs_no_reply_and_is_not_billed(gw, provider, client, stream):
    usage = {"prompt_tokens": 5, "completion_tokens": "%NUMBER%", "total_tokens": "%NUMBER%", "cost": "%NUMBER%"}
    choice = {"index": 0, "finish_reason": "stop"}
    kind, member = ("chat.completion.chunk", "delta") if stream else ("chat.completion", "message")
    data = {"id": "c", "object": kind, "created": 1, "model": GPT, "usage": usage}
    data |= {"choices": [{**choice, member: {"role": "assistant", "content": "Hello"}}]}
    for text in NUMBERS:
        body = json.dumps(data).replace('"%NUMBER%"', text)
        provider.answer(
            f"data: {body}\n\ndata: [DONE]\n\n".encode() if stream else body.encode(),
            "text/event-stream" if stream else "application/json",
        )
        reply = await post(gw, client, sent("100", stream=stream))
        assert (reply.status, "Hello" in await reply.text()) == (200, True)
    for text, record in zip(NUMBERS, await settled(gw, len(NUMBERS)), strict=True):
        assert record["outcome"] == "ok", text
        assert 0 <= record["cost_usd"] <= 13, text
        assert record["tokens"]["output"] < 1000, text
