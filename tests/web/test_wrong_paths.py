"""Tests of a wrong base URL: the error in the client's SDK says which path was called and which base URL to set."""

import asyncio
import json
from contextlib import closing

import anthropic
import boto3
import openai
import pytest
from botocore.exceptions import ClientError

from tests.helpers.gateway import HAIKU, bedrock, gate

BODY = {"model": HAIKU, "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
CLAUDES = {"anthropic-version": "2023-06-01"}


@pytest.fixture
async def gw(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as running:
        yield running


def boto(url):
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
    return boto3.client("bedrock-runtime", endpoint_url=url, **keys)


async def test_boto3_is_told_the_endpoint_to_set(gw):
    def call():
        client = boto(f"{gw.url}/v1")
        with closing(client), pytest.raises(ClientError) as raised:
            client.converse(modelId="m", messages=[{"role": "user", "content": [{"text": "x"}]}])
        return raised.value.response

    response = await asyncio.to_thread(call)
    assert response["Error"]["Code"] == "UnknownOperationException"
    assert "POST /v1/model/m/converse is no path" in response["Error"]["Message"]
    assert response["Error"]["Message"].endswith(f" to {gw.url}/bedrock")
    assert response["ResponseMetadata"]["RequestId"].startswith("req_")


@pytest.mark.parametrize("operation", ["list_imported_models", "list_prompt_routers", "list_foundation_models"])
async def test_boto3_with_the_right_endpoint_learns_which_routes_exist(gw, operation):
    def call():
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
        client = boto3.client("bedrock", endpoint_url=f"{gw.url}/bedrock", **keys)
        with closing(client), pytest.raises(ClientError) as raised:
            getattr(client, operation)()
        return raised.value.response["Error"]["Message"]

    message = await asyncio.to_thread(call)
    assert " is not served by this gateway; it serves POST /bedrock/model/MODEL/converse," in message


async def test_openais_sdk_is_told_the_base_url_to_set(gw):
    async with openai.AsyncOpenAI(base_url=f"{gw.url}/bedrock/v1", api_key="-", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError) as raised:
            await client.chat.completions.create(model=HAIKU, messages=BODY["messages"])
    assert "POST /bedrock/v1/chat/completions is no path" in raised.value.body["message"]
    assert raised.value.body["message"].endswith(f" to {gw.url}/v1")
    assert raised.value.code is None


async def test_openais_sdk_learns_which_routes_exist_instead(gw):
    """Check that OpenAI's SDK gets an error that says that there are no embeddings, and that names the existing
    routes.
    """
    async with openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key="-", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError) as raised:
            await client.embeddings.create(model=HAIKU, input="x")
    message = raised.value.body["message"]
    assert message.startswith("POST /v1/embeddings is not served by this gateway; it serves ")
    assert message.endswith("POST /v1/chat/completions, POST /v1/responses")


@pytest.mark.parametrize("base", ["/v1", "/openai"])
async def test_anthropics_sdk_is_told_the_base_url_to_set(gw, base):
    async with anthropic.AsyncAnthropic(base_url=f"{gw.url}{base}", api_key="-", max_retries=0) as client:
        with pytest.raises(anthropic.NotFoundError) as raised:
            await client.messages.create(**BODY)
    error = raised.value.body["error"]
    assert error["type"] == "not_found_error"
    assert f"POST {base}/v1/messages is no path" in error["message"]
    assert error["message"].endswith(f" to {gw.url}")


async def test_a_base_url_that_was_told_works(gw):
    """Check that a call succeeds with the base URL that the error message names."""
    for path in ("/x/v1/chat/completions", "/x/v1/messages", "/messages"):
        message = (await (await gw.post(path, BODY)).json())["error"]["message"]
        base = message.rpartition(" to ")[2].removeprefix(gw.url)
        tail = {"/x/v1/chat/completions": "/chat/completions", "/x/v1/messages": "/v1/messages"}.get(path, path)
        assert (await gw.post(base + tail, BODY)).status == 200


@pytest.mark.parametrize(
    ("path", "headers", "kind"),
    [
        ("/v1/models/nope", {}, ("error", "type")),
        ("/v1/models/nope", CLAUDES, ("type",)),
        ("/anthropic/v1/models/nope", CLAUDES, ("type",)),
        ("/v1/messages/batches", {}, ("type",)),
        ("/v1/chat/completions", {}, ("error", "type")),
        ("/anything", CLAUDES, ("type",)),
    ],
)
async def test_a_get_that_fails_is_said_in_the_dialect_that_it_looks_like(gw, path, headers, kind):
    answer = await gw.get(path, headers=headers)
    body = await answer.json()
    assert answer.status in {404, 405}
    if kind == ("type",):
        assert body["type"] == "error"
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (answer.status == 405) == ("allow" in {name.lower() for name in answer.headers})


async def test_a_model_of_the_list_that_is_nearly_right_is_suggested(gw):
    body = await (await gw.get("/v1/models/claude-haiku-4-5")).json()
    assert body["error"]["code"] == "model_not_found"
    assert f"did you mean {HAIKU}" in body["error"]["message"]


async def test_anthropics_sdk_lists_models_under_its_prefix(gw):
    async with anthropic.AsyncAnthropic(base_url=f"{gw.url}/anthropic", api_key="-", max_retries=0) as client:
        assert HAIKU in [model.id async for model in client.models.list()]
        assert (await client.models.retrieve(HAIKU)).id == HAIKU


async def test_a_path_of_no_api_stays_a_plain_error(gw):
    answer = await gw.get("/nope")
    assert (answer.status, list(json.loads(answer.body))) == (404, ["error"])
    assert isinstance(json.loads(answer.body)["error"], str)


async def test_an_endless_path_is_repeated_in_part(gw):
    message = (await (await gw.post(f"/{'x' * 5000}/v1/messages", BODY)).json())["error"]["message"]
    assert len(message) < 500


@pytest.mark.parametrize("path", ["/bedrock/v1/chat/completions", "/nothing/here"])
async def test_a_wrong_path_is_a_line_of_the_log(gw, path):
    """Check that a request to a wrong path is logged with the path, the caller and the request id. The store has no
    record of it.
    """
    async with gw.session.get(gw.url + path) as reply:
        assert reply.status == 404
        request_id = reply.headers["x-request-id"]
    await gw.log_is_written()
    (line,) = gw.lines.entries("request.no_route")
    assert (line["path"], line["method"], line["status"]) == (path, "GET", 404)
    assert (line["identity"], line["request_id"]) == ("(loopback)", request_id)
