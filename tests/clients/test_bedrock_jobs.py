"""Tests of boto3's operations on jobs (asynchronous invocations and batches). The simulated Bedrock checks the
requests.
"""

import asyncio

import pytest
from botocore.exceptions import ClientError

from gateway.testkit.bedrock import BedrockSim
from tests.clients.aws import connect
from tests.helpers.gateway import CAP, HAIKU, KEY, NOVA, bedrock, gate

REEL = "amazon.nova-reel-v1:0"
CLAUDE = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-haiku-4-5-20251001-v1:0"
JOBS = {"options": {"bedrock_model_invoke": {"jobs": True}}}
BUCKET = {"s3OutputDataConfig": {"s3Uri": "s3://bucket/out/"}}
VIDEO = {
    "modelId": REEL,
    "modelInput": {"taskType": "TEXT_VIDEO", "textToVideoParams": {"text": "a cat"}, "seed": 12345678901234567890},
    "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://bucket/out/"}},
}
BATCH = {
    "jobName": "nightly",
    "roleArn": "arn:aws:iam::123456789012:role/batch",
    "modelId": HAIKU,
    "inputDataConfig": {"s3InputDataConfig": {"s3Uri": "s3://bucket/in.jsonl"}},
    "outputDataConfig": BUCKET,
}


def user(*models, **more):
    return [{"src": ["*"], "app": {CAP: [{"role": "user", "models": list(models), **more}]}}]


def provider(url, **more):
    return bedrock(url, models=(REEL, HAIKU, NOVA), **JOBS, **more)


@pytest.fixture(params=["/bedrock", ""], ids=["under /bedrock", "at the root"])
def prefix(request):
    return request.param


async def call(operation, **given):
    return await asyncio.to_thread(operation, **given)


async def refusal(operation, **given):
    """Return the status, the exception and the message of a refused operation."""
    with pytest.raises(ClientError) as error:
        await call(operation, **given)
    reply = error.value.response
    return reply["ResponseMetadata"]["HTTPStatusCode"], reply["Error"]["Code"], reply["Error"]["Message"]


async def test_an_asynchronous_invocation_is_started_and_read(tmp_path, bedrock_sim, prefix):
    async with gate(tmp_path, {"b": provider(bedrock_sim.url)}, grants=user("b/*")) as gw:
        runtime = connect(gw.url + prefix)
        arn = (await call(runtime.start_async_invoke, **VIDEO))["invocationArn"]
        shown = await call(runtime.get_async_invoke, invocationArn=arn)
        start, read = await gw.calls(2)
        runtime.close()
    assert (shown["invocationArn"], shown["status"]) == (arn, "InProgress")
    seen, _ = bedrock_sim.requests
    assert {**seen.json, "clientRequestToken": ""} == {**VIDEO, "clientRequestToken": ""}
    assert b"12345678901234567890" in seen.body
    assert not any(seen.refused for seen in bedrock_sim.requests)
    assert [seen.leaked("authorization") for seen in bedrock_sim.requests] == [[], []]
    assert (start["operation"], start["model"], start["cost_usd"], start["estimated"]) == (
        "start_job",
        REEL,
        None,
        True,
    )
    assert (read["operation"], read["served_model"], read["cost_usd"]) == ("read_job", REEL, 0.0)


async def test_a_batch_is_created_read_and_stopped(tmp_path, bedrock_sim, prefix):
    async with gate(tmp_path, {"b": provider(bedrock_sim.url)}, grants=user("b/*")) as gw:
        control = connect(gw.url + prefix, "bedrock")
        arn = (await call(control.create_model_invocation_job, **BATCH))["jobArn"]
        shown = await call(control.get_model_invocation_job, jobIdentifier=arn)
        assert (shown["jobName"], shown["modelId"], shown["status"]) == ("nightly", HAIKU, "InProgress")
        await call(control.stop_model_invocation_job, jobIdentifier=arn.rpartition("/")[2])
        shown = await call(control.get_model_invocation_job, jobIdentifier=arn)
        assert shown["status"] == "Stopping"
        assert (await refusal(control.stop_model_invocation_job, jobIdentifier=arn))[:2] == (409, "ConflictException")
        calls = await gw.calls(5)
        control.close()
    assert [one["operation"] for one in calls] == ["start_job", "read_job", "stop_job", "read_job", "stop_job"]
    assert [one["cost_usd"] for one in calls] == [None, 0.0, 0.0, 0.0, 0.0]
    assert bedrock_sim.requests[0].json["modelId"] == HAIKU


async def test_an_admin_lists_jobs_and_a_user_does_not(tmp_path, bedrock_sim, prefix):
    async with gate(tmp_path / "admin", {"b": provider(bedrock_sim.url)}) as gw:
        control, runtime = connect(gw.url + prefix, "bedrock"), connect(gw.url + prefix)
        await call(control.create_model_invocation_job, **BATCH)
        await call(runtime.start_async_invoke, **VIDEO)
        batches = await call(control.list_model_invocation_jobs, statusEquals="InProgress", maxResults=5)
        videos = await call(runtime.list_async_invokes, statusEquals="Completed")
        control.close()
        runtime.close()
    assert [job["jobName"] for job in batches["invocationJobSummaries"]] == ["nightly"]
    assert videos["asyncInvokeSummaries"] == []
    sent = len(bedrock_sim.requests)
    async with gate(tmp_path / "user", {"b": provider(bedrock_sim.url)}, grants=user("b/*")) as gw:
        control, runtime = connect(gw.url + prefix, "bedrock"), connect(gw.url + prefix)
        for operation in (control.list_model_invocation_jobs, runtime.list_async_invokes):
            status, name, message = await refusal(operation)
            assert (status, name) == (403, "AccessDeniedException")
            assert "only an admin may list jobs" in message
        control.close()
        runtime.close()
    assert len(bedrock_sim.requests) == sent


async def test_a_job_of_a_model_that_is_not_granted_does_not_exist(tmp_path, bedrock_sim):
    async with gate(tmp_path / "admin", {"b": provider(bedrock_sim.url)}) as gw:
        control = connect(gw.url + "/bedrock", "bedrock")
        arn = (await call(control.create_model_invocation_job, **{**BATCH, "modelId": NOVA}))["jobArn"]
        control.close()
    async with gate(tmp_path / "user", {"b": provider(bedrock_sim.url)}, grants=user(f"b/{HAIKU}")) as gw:
        control, runtime = connect(gw.url + "/bedrock", "bedrock"), connect(gw.url + "/bedrock")
        hidden = await refusal(control.get_model_invocation_job, jobIdentifier=arn)
        assert hidden[:2] == (404, "ResourceNotFoundException")
        assert "nightly" not in hidden[2]
        assert (await refusal(control.stop_model_invocation_job, jobIdentifier=arn))[0] == 404
        assert (await refusal(control.create_model_invocation_job, **{**BATCH, "modelId": NOVA}))[0] == 404
        assert (await refusal(runtime.start_async_invoke, **VIDEO))[0] == 404
        control.close()
        runtime.close()
    assert bedrock_sim.jobs.jobs[arn].status == "InProgress"
    assert [seen.method for seen in bedrock_sim.requests] == ["POST", "GET", "GET"]


async def test_a_job_is_found_at_the_provider_that_has_it(tmp_path, bedrock_sim):
    async with BedrockSim(keys={KEY}) as west:
        west.jobs.region = "us-west-2"
        providers = {"east": provider(bedrock_sim.url), "west": provider(west.url)}
        async with gate(tmp_path, providers, grants=user("**")) as gw:
            control = connect(gw.url + "/bedrock", "bedrock")
            arn = (await call(control.create_model_invocation_job, **{**BATCH, "modelId": f"west/{HAIKU}"}))["jobArn"]
            assert ":us-west-2:" in arn
            shown = await call(control.get_model_invocation_job, jobIdentifier=arn)
            assert shown["modelId"] == HAIKU
            unknown = await refusal(control.get_model_invocation_job, jobIdentifier="zzzzzzzzzzzz")
            assert unknown[:2] == (404, "ResourceNotFoundException")
            start, read, none = await gw.calls(3)
            control.close()
    assert (start["provider"], read["provider"], read["attempts"]) == ("west", "west", 2)
    assert [attempt["provider"] for attempt in none["tried"]] == ["east", "west"]
    assert west.requests[0].json["modelId"] == HAIKU


async def test_a_list_of_several_providers_is_asked_for_directly(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"one": provider(bedrock_sim.url), "two": provider(bedrock_sim.url)}) as gw:
        runtime = connect(gw.url + "/bedrock")
        status, _, message = await refusal(runtime.list_async_invokes)
        assert (status, "one, two" in message) == (400, True)
        runtime.close()
        direct = connect(gw.url + "/direct/two")
        assert (await call(direct.list_async_invokes))["asyncInvokeSummaries"] == []
        direct.close()


async def test_jobs_are_off_unless_the_provider_says_so(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, models=(REEL, HAIKU))}) as gw:
        runtime, control = connect(gw.url + "/bedrock"), connect(gw.url + "/bedrock", "bedrock")
        for answer in (
            await refusal(runtime.start_async_invoke, **VIDEO),
            await refusal(control.create_model_invocation_job, **BATCH),
            await refusal(control.get_model_invocation_job, jobIdentifier="zzzzzzzzzzzz"),
            await refusal(runtime.list_async_invokes),
        ):
            assert answer[:2] == (400, "ValidationException")
            assert '"jobs": true' in answer[2]
        runtime.close()
        control.close()
    assert bedrock_sim.requests == []


async def test_a_start_is_never_sent_twice(tmp_path, bedrock_sim):
    async with BedrockSim(keys={KEY}) as other:
        bedrock_sim.keys = {"another key"}
        providers = {"one": provider(bedrock_sim.url, preference=1), "two": provider(other.url)}
        async with gate(tmp_path, providers, grants=user("**")) as gw:
            runtime = connect(gw.url + "/bedrock")
            assert (await refusal(runtime.start_async_invoke, **VIDEO))[0] == 502
            runtime.close()
        assert other.requests == []


QUOTA = {"quotas": {"daily": {"capacity": "$1.00", "rate": "$1.00/day"}}}


async def test_a_quota_refuses_a_start_and_lets_reading_pass(tmp_path, bedrock_sim):
    grants = user("b/*", quotas=[{"bucket": "daily"}])
    async with gate(tmp_path, {"b": provider(bedrock_sim.url)}, grants=grants, more=QUOTA) as gw:
        runtime = connect(gw.url + "/bedrock")
        status, name, message = await refusal(runtime.start_async_invoke, **VIDEO)
        assert (status, name) == (429, "ThrottlingException")
        assert 'quota "daily" cannot be charged' in message
        arn = "arn:aws:bedrock:us-east-1:123456789012:async-invoke/zzzzzzzzzzzz"
        assert (await refusal(runtime.get_async_invoke, invocationArn=arn))[0] == 404
        runtime.close()
    assert [seen.method for seen in bedrock_sim.requests] == ["GET"]


async def test_a_quota_that_notifies_is_charged_nothing(tmp_path, bedrock_sim):
    grants = user("b/*", quotas=[{"bucket": "daily"}])
    more = {"quotas": {"daily": {**QUOTA["quotas"]["daily"], "on_exceed": "notify"}}}
    async with gate(tmp_path, {"b": provider(bedrock_sim.url)}, grants=grants, more=more) as gw:
        control = connect(gw.url + "/bedrock", "bedrock")
        await call(control.create_model_invocation_job, **BATCH)
        (start,) = await gw.calls()
        control.close()
    assert (start["cost_usd"], start["charges_usd"]) == (None, {})
