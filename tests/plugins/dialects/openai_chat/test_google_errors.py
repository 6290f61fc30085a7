"""Tests of the errors of Google's OpenAI-compatible endpoint, which have their details only in the body.

Source: the Gemini API's documentation (OpenAI compatibility), google.rpc.RetryInfo, google.api.ErrorReason.
"""

import json

import pytest

from gateway.contract import errors
from gateway.contract.errors import UpstreamFailed
from gateway.contract.flag import Head
from tests.helpers.conversion import BASES, CONVERSIONS
from tests.helpers.gateway import bedrock, gate
from tests.helpers.scripted import scripted

FLAG = CONVERSIONS["anthropic_messages__openai_chat"].provider
TYPES = "type.googleapis.com/google.rpc."
RETRY = {"@type": f"{TYPES}RetryInfo", "retryDelay": "17.5s"}
KEY = {"@type": f"{TYPES}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}


def error(code, status, *details):
    return {"error": {"code": code, "message": "No.", "status": status, "details": list(details)}}


def read(status, value, **headers):
    return FLAG.problem(Head(status, headers), json.dumps(value).encode())


@pytest.mark.parametrize("listed", [False, True])
def test_the_wait_in_the_details_counts_without_a_header(listed):
    value = error(429, "RESOURCE_EXHAUSTED", RETRY)
    problem = read(429, [value] if listed else value)
    assert (problem.code, problem.message, problem.retry_after) == (errors.RATE_LIMIT, "No.", 17.5)
    assert read(429, value, **{"retry-after": "3"}).retry_after == 3


@pytest.mark.parametrize("listed", [False, True])
def test_a_refused_key_with_400_is_no_wrong_request(listed):
    value = error(400, "INVALID_ARGUMENT", KEY)
    problem = read(400, [value] if listed else value)
    assert (problem.code, problem.key_refused, problem.retryable) == (errors.PERMISSION, True, False)


@pytest.mark.parametrize(
    "value", [{"error": {"message": "No."}}, {"details": 1}, ["details"], {"error": {"details": 1}}]
)
def test_an_error_without_such_details_stays(value):
    problem = read(400, value)
    assert (problem.code, problem.retry_after, problem.key_refused) == (errors.INVALID_REQUEST, None, False)


def test_the_wait_of_an_error_within_a_stream_counts():
    data = b"data: %b\n\n" % json.dumps(error(429, "RESOURCE_EXHAUSTED", RETRY)).encode()
    with pytest.raises(UpstreamFailed) as failed:
        CONVERSIONS["anthropic_messages__openai_chat"].call(BASES["anthropic_messages"], stream=True).streamed(data)
    assert failed.value.problem.retry_after == 17.5


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_a_client_of_another_format_learns_the_wait(tmp_path, path):
    async with scripted() as provider:
        provider.answer(json.dumps([error(429, "RESOURCE_EXHAUSTED", RETRY)]).encode(), status=429)
        google = bedrock(provider.url, flags=["openai_chat"], models=["gemini-3-pro"])
        async with gate(tmp_path, {"g": google}) as gw:
            body = {"model": "gemini-3-pro", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
            reply = await gw.post(path, body if path == "/v1/messages" else {"model": "gemini-3-pro", "input": "Hi"})
            assert (reply.status, reply.headers["retry-after"]) == (429, "18")
