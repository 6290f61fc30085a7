"""Tests of boto3 with the settings of `deploy/clients.md` (plain HTTP, dummy keys).

Every operation of the service `bedrock-runtime` is called.
"""

import asyncio
import json
from dataclasses import replace
from functools import partial

import pytest
from botocore.exceptions import ClientError, EventStreamError

from gateway.testkit import scenarios
from tests.clients.aws import (
    CLAUDE,
    HELLO,
    TOOL_CONFIG,
    answer,
    connect,
    converse,
    converse_stream,
    invoke,
    invoke_stream,
    message_of,
)
from tests.clients.samples import (
    CACHED,
    PLAIN,
    PNG,
    RESULTS,
    SAID,
    SAID_OF_THE_RESULTS,
    THINKING,
    THOUGHT,
    TWO_CALLS,
    check_upstream,
)
from tests.helpers.gateway import HAIKU, NOVA, SONNET, bedrock, gate

ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/mi1dadi0g15f"
OPAQUE_ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/aaaaaaaaaaaa"
SYSTEM_ARN = "arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:inference-profile/us-gov.amazon.nova-lite-v1:0"


@pytest.fixture(params=["/bedrock", ""], ids=["under /bedrock", "at the root"])
def client(request, gw):
    made = connect(gw.url + request.param)
    yield made
    made.close()


@pytest.fixture
def runtime(gw):
    made = connect(gw.url + "/bedrock")
    yield made
    made.close()


@pytest.mark.parametrize("model", [NOVA, HAIKU])
async def test_converse_answers(client, gw, bedrock_sim, model):
    bedrock_sim.script(PLAIN)
    reply = await converse(client, modelId=model)
    assert reply["output"]["message"] == {"role": "assistant", "content": [{"text": SAID}]}
    assert (reply["usage"]["inputTokens"], reply["usage"]["outputTokens"]) == (12, 7)
    assert reply["ResponseMetadata"]["HTTPHeaders"]["x-request-id"] == (await gw.calls())[0]["id"]
    assert bedrock_sim.requests[0].path == f"/model/{model.replace(':', '%3A')}/converse"
    check_upstream(bedrock_sim)


async def test_converse_stream_answers_in_deltas(client, bedrock_sim):
    bedrock_sim.script(PLAIN)
    events = await converse_stream(client)
    assert [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event] == [
        "Hello", " from", " a simulated", " model.",
    ]  # fmt: skip
    message, stop, usage = message_of(events)
    assert (message["content"], stop, usage["totalTokens"]) == ([{"text": SAID}], "end_turn", 19)
    check_upstream(bedrock_sim)


async def test_invoke_model_answers(client, bedrock_sim):
    bedrock_sim.script(PLAIN)
    reply = await invoke(client, CLAUDE)
    assert (reply["content"], reply["stop_reason"]) == ([{"type": "text", "text": SAID}], "end_turn")
    assert bedrock_sim.requests[0].json == CLAUDE
    check_upstream(bedrock_sim)


async def test_invoke_model_with_response_stream_answers_in_chunks(client, bedrock_sim):
    bedrock_sim.script(PLAIN)
    chunks = await invoke_stream(client, CLAUDE)
    assert "".join(chunk["delta"].get("text", "") for chunk in chunks if "delta" in chunk) == SAID
    assert chunks[-1]["amazon-bedrock-invocationMetrics"]["outputTokenCount"] == 7
    check_upstream(bedrock_sim)


async def test_a_body_of_another_family_passes_invoke_model(client, gw, bedrock_sim):
    body = {"schemaVersion": "messages-v1", "messages": HELLO}
    bedrock_sim.script(PLAIN, PLAIN)
    assert (await invoke(client, body, NOVA))["output"]["message"]["content"] == [{"text": SAID}]
    assert (await invoke_stream(client, body, NOVA))[-1]["amazon-bedrock-invocationMetrics"]["inputTokenCount"] == 12
    assert [record["tokens"]["output"] for record in await gw.calls(2)] == [7, 7]
    check_upstream(bedrock_sim)


async def test_the_project_of_a_call_goes_along_as_it_came(client, bedrock_sim):
    project = "arn:aws:bedrock:us-east-1:123456789012:project/p"
    await asyncio.to_thread(client.converse, modelId=HAIKU, messages=HELLO, projectIdentifier=project)
    assert bedrock_sim.requests[0].json["projectIdentifier"] == project
    await asyncio.to_thread(client.invoke_model, modelId=HAIKU, body=json.dumps(CLAUDE), projectIdentifier=project)
    assert bedrock_sim.requests[1].headers["x-amzn-bedrock-projectidentifier"] == project
    check_upstream(bedrock_sim)


async def test_count_tokens_counts(client, bedrock_sim):
    model = HAIKU
    for counted in ({"converse": {"messages": HELLO}}, {"invokeModel": {"body": json.dumps(CLAUDE)}}):
        reply = await asyncio.to_thread(client.count_tokens, modelId=model, input=counted)
        assert reply["inputTokens"] > 0
    check_upstream(bedrock_sim)


async def test_an_arn_is_taken_for_a_model(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"bedrock": bedrock(bedrock_sim.url, models=[ARN])}) as gw:
        client = connect(gw.url + "/bedrock")
        assert (await converse(client, modelId=ARN))["stopReason"] == "end_turn"
        assert message_of(await converse_stream(client, modelId=ARN))[1] == "end_turn"
        client.close()
        quoted = ARN.replace(":", "%3A").replace("/", "%2F")
        assert [seen.path for seen in bedrock_sim.requests] == [
            f"/model/{quoted}/converse",
            f"/model/{quoted}/converse-stream",
        ]


async def test_the_granted_models_are_listed_as_inference_profiles(gw):
    client = connect(gw.url + "/bedrock", "bedrock")
    listed = await asyncio.to_thread(client.list_inference_profiles, typeEquals="SYSTEM_DEFINED")
    one = await asyncio.to_thread(client.get_inference_profile, inferenceProfileIdentifier=HAIKU)
    client.close()
    profiles = [profile["inferenceProfileId"] for profile in listed["inferenceProfileSummaries"]]
    assert profiles == [HAIKU, SONNET, NOVA]
    assert (one["inferenceProfileId"], one["status"]) == (HAIKU, "ACTIVE")
    assert all(reply["ResponseMetadata"]["RequestId"] for reply in (listed, one))


async def test_a_profile_tells_its_model(tmp_path, bedrock_sim):
    """Check the fields of an inference profile from which LangChain and Claude Code learn the profile's model."""
    entry = bedrock(bedrock_sim.url, models=[HAIKU, ARN, SYSTEM_ARN, OPAQUE_ARN], base_models={ARN: SONNET})
    async with gate(tmp_path, {"bedrock": entry}) as gw:
        client = connect(gw.url + "/bedrock", "bedrock")
        read = partial(asyncio.to_thread, client.get_inference_profile)
        profiles = [await read(inferenceProfileIdentifier=name) for name in (HAIKU, ARN, SYSTEM_ARN, OPAQUE_ARN)]
        kinds = ("SYSTEM_DEFINED", "APPLICATION")
        of_kind = [await asyncio.to_thread(client.list_inference_profiles, typeEquals=kind) for kind in kinds]
        client.close()
    names = ("inferenceProfileId", "inferenceProfileArn", "type")
    assert [tuple(profile[name] for name in names) for profile in profiles] == [
        (HAIKU, f"arn:aws:bedrock:::inference-profile/{HAIKU}", "SYSTEM_DEFINED"),
        ("mi1dadi0g15f", ARN, "APPLICATION"),
        ("us-gov.amazon.nova-lite-v1:0", SYSTEM_ARN, "SYSTEM_DEFINED"),
        ("aaaaaaaaaaaa", OPAQUE_ARN, "APPLICATION"),
    ]
    assert [[model["modelArn"] for model in profile["models"]] for profile in profiles] == [
        ["arn:aws:bedrock:::foundation-model/anthropic.claude-haiku-4-5-20251001-v1:0"],
        ["arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-sonnet-4-5-20250929-v1:0"],
        ["arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/amazon.nova-lite-v1:0"],
        [],
    ]
    listed = [[one["inferenceProfileArn"] for one in page["inferenceProfileSummaries"]] for page in of_kind]
    assert listed == [[f"arn:aws:bedrock:::inference-profile/{HAIKU}", SYSTEM_ARN], [ARN, OPAQUE_ARN]]


async def test_the_arn_of_a_listed_profile_is_taken_for_its_model(gw, bedrock_sim):
    control, client = connect(gw.url + "/bedrock", "bedrock"), connect(gw.url + "/bedrock")
    listed = await asyncio.to_thread(control.list_inference_profiles)
    arn = listed["inferenceProfileSummaries"][-1]["inferenceProfileArn"]
    one = await asyncio.to_thread(control.get_inference_profile, inferenceProfileIdentifier=arn)
    reply = await converse(client, modelId=arn)
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="not found or not granted"):
        await converse(client, modelId=arn.replace(":::", ":us-east-1:123456789012:"))
    control.close()
    client.close()
    assert (one["inferenceProfileId"], reply["stopReason"]) == (NOVA, "end_turn")
    assert [seen.path for seen in bedrock_sim.requests] == [f"/model/{NOVA.replace(':', '%3A')}/converse"]
    assert [record["model"] for record in await gw.calls(2)] == [NOVA, arn.replace(":::", ":us-east-1:123456789012:")]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", [NOVA, HAIKU])
async def test_two_tools_at_once_are_called_and_their_results_arrive(runtime, gw, bedrock_sim, model, stream):
    bedrock_sim.script(TWO_CALLS)
    given = {"modelId": model, "toolConfig": TOOL_CONFIG}
    message, stop = await answer(runtime, stream, **given)
    calls = [block["toolUse"] for block in message["content"] if "toolUse" in block]
    assert stop == "tool_use"
    assert [(call["name"], call["input"]) for call in calls] == [
        ("get_weather", {"city": "Zürich"}),
        ("get_time", {"city": "Tokyo"}),
    ]
    results = [
        {"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": RESULTS[call["name"]]}]}} for call in calls
    ]
    history = [*HELLO, message, {"role": "user", "content": results}]
    message, stop = await answer(runtime, stream, messages=history, **given)
    assert (message["content"], stop) == ([{"text": SAID_OF_THE_RESULTS}], "end_turn")
    assert (await gw.calls(2))[0]["tools"] == ["get_weather", "get_time"]
    check_upstream(bedrock_sim)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_signed_reasoning_is_taken_back_in_the_next_turn(runtime, bedrock_sim, stream):
    bedrock_sim.script(THINKING)
    given = {
        "modelId": HAIKU,
        "toolConfig": TOOL_CONFIG,
        "inferenceConfig": {"maxTokens": 2000},
        "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    }
    message, _ = await answer(runtime, stream, **given)
    assert message["content"][0]["reasoningContent"]["reasoningText"]["text"] == THOUGHT
    (call,) = (block["toolUse"] for block in message["content"] if "toolUse" in block)
    result = {"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": "09:41"}]}}
    history = [*HELLO, message, {"role": "user", "content": [result]}]
    message, _ = await answer(runtime, stream, messages=history, **given)
    assert message["content"] == [{"text": "The tool said: 09:41"}]
    check_upstream(bedrock_sim)


async def test_an_image_arrives_as_it_is(runtime, bedrock_sim):
    content = [{"image": {"format": "png", "source": {"bytes": PNG}}}, {"text": "What is this?"}]
    await converse(runtime, messages=[{"role": "user", "content": content}])
    check_upstream(bedrock_sim)


async def test_cached_tokens_are_told_and_counted(runtime, gw, bedrock_sim):
    bedrock_sim.script(CACHED)
    system = [{"text": "long " * 2000}, {"cachePoint": {"type": "default"}}]
    usage = (await converse(runtime, modelId=HAIKU, system=system))["usage"]
    assert (usage["cacheReadInputTokens"], usage["cacheWriteInputTokens"]) == (1000, 250)
    tokens = (await gw.calls())[0]["tokens"]
    assert (tokens["cache_read"], tokens["cache_write_5m"], tokens["cache_write_1h"]) == (1000, 200, 50)
    check_upstream(bedrock_sim)


ERRORS = {
    "ThrottlingException": 429,
    "ValidationException": 400,
    "AccessDeniedException": 403,
    "ResourceNotFoundException": 404,
    "InternalServerException": 500,
}


@pytest.mark.parametrize(("name", "status"), ERRORS.items())
async def test_an_error_of_bedrock_has_its_own_class(runtime, bedrock_sim, name, status):
    calls = (
        lambda: converse(runtime),
        lambda: converse_stream(runtime),
        lambda: invoke(runtime, CLAUDE),
        lambda: invoke_stream(runtime, CLAUDE),
    )
    for call in calls:
        bedrock_sim.script(scenarios.error(name, "in AWS's own words"))
        with pytest.raises(getattr(runtime.exceptions, name), match="in AWS's own words") as raised:
            await call()
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


async def test_a_model_that_is_not_there_is_not_found(client):
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="not found or not granted"):
        await converse(client, modelId="us.amazon.nova-pro-v1:0")


async def test_a_caller_without_a_role_is_denied_access(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"bedrock": bedrock(bedrock_sim.url)}, grants=[]) as gw:
        client = connect(gw.url + "/bedrock")
        with pytest.raises(client.exceptions.AccessDeniedException, match="no role granted"):
            await converse(client)
        client.close()


async def test_what_the_service_does_not_take_is_a_validation_error(runtime, bedrock_sim):
    unsigned = {"reasoningContent": {"reasoningText": {"text": "so", "signature": "made up"}}}
    history = [*HELLO, {"role": "assistant", "content": [unsigned, {"text": "hi"}]}, *HELLO]
    with pytest.raises(runtime.exceptions.ValidationException, match="signature"):
        await converse(runtime, modelId=HAIKU, messages=history)


@pytest.mark.parametrize("operation", ["converse", "invoke"])
async def test_an_error_in_mid_stream_is_an_event_stream_error(runtime, bedrock_sim, operation):
    bedrock_sim.script(scenarios.error_in_stream("throttlingException", message="Too many tokens"))
    with pytest.raises(EventStreamError, match=r"throttlingException.*Too many tokens"):
        await (converse_stream(runtime) if operation == "converse" else invoke_stream(runtime, CLAUDE))


@pytest.mark.parametrize("fault", ["cut off", "without its end"])
@pytest.mark.parametrize("operation", ["converse", "invoke"])
async def test_a_broken_stream_is_an_event_stream_error(runtime, bedrock_sim, operation, fault):
    broken = {"cut off": scenarios.cut(700), "without its end": replace(PLAIN, end_after=3)}
    bedrock_sim.script(broken[fault])
    with pytest.raises(EventStreamError):
        await (converse_stream(runtime) if operation == "converse" else invoke_stream(runtime, CLAUDE))


async def test_an_operation_that_is_not_built_is_an_error_and_reaches_nobody(runtime, bedrock_sim):
    given = {
        "guardrailIdentifier": "abcdefgh",
        "guardrailVersion": "1",
        "source": "INPUT",
        "content": [{"text": {"text": "hello"}}],
    }
    with pytest.raises(ClientError) as raised:
        await asyncio.to_thread(runtime.apply_guardrail, **given)
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert bedrock_sim.requests == []
