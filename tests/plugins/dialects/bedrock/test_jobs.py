"""Tests of requests for Bedrock's jobs: what Bedrock gets, and which host gets it."""

import json

import pytest

from gateway.contract.capabilities import Caps
from gateway.contract.errors import Refused
from gateway.contract.flag import LIST_JOBS, OPAQUE, READ_JOB, START_JOB, STOP_JOB, HttpRequest, Target
from gateway.contract.route_paths import route_match
from gateway_plugins.dialects.bedrock import jobs
from tests.helpers.echo_provider import echo_provider, whole
from tests.helpers.gateway import bedrock, gate

ID = "abcdef123456"
ASYNC_ARN = f"arn:aws:bedrock:us-east-1:123456789012:async-invoke/{ID}"
BATCH_ARN = f"arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:model-invocation-job/{ID}"
RUNTIME = "bedrock-runtime.us-east-1.amazonaws.com"


def asked(method, path, body=b"", query=""):
    for route in jobs.ROUTES:
        if route.method == method and (
            match := route_match(route.path).fullmatch(path.replace("%3A", ":").replace("%2F", "/"))
        ):
            return jobs.parse("bedrock_model_invoke", HttpRequest(route, path, query, {}, match.groupdict(), body))
    raise AssertionError(path)


def target(host="127.0.0.1", *, model="m", on=True):
    return Target("p", "bedrock_model_invoke", model, OPAQUE, Caps(), jobs.Options(jobs=on), host=host)


@pytest.mark.parametrize("prefix", ["", "/bedrock"])
@pytest.mark.parametrize(
    ("method", "path", "operation", "sent"),
    [
        ("POST", "/async-invoke", START_JOB, ("POST", "/async-invoke", "")),
        ("GET", "/async-invoke", LIST_JOBS, ("GET", "/async-invoke", "")),
        ("GET", f"/async-invoke/{ASYNC_ARN}", READ_JOB, ("GET", f"/async-invoke/{ASYNC_ARN.replace(':', '%3A').replace('/', '%2F')}", "")),
        ("POST", "/model-invocation-job", START_JOB, ("POST", "/model-invocation-job", "bedrock")),
        ("GET", "/model-invocation-jobs", LIST_JOBS, ("GET", "/model-invocation-jobs", "bedrock")),
        ("GET", f"/model-invocation-job/{ID}", READ_JOB, ("GET", f"/model-invocation-job/{ID}", "bedrock")),
        ("POST", f"/model-invocation-job/{ID}/stop", STOP_JOB, ("POST", f"/model-invocation-job/{ID}/stop", "bedrock")),
    ],
)  # fmt: skip
def test_each_operation_goes_to_its_path_and_host(prefix, method, path, operation, sent):
    body = b'{"modelId": "given", "n": 1.0}' if operation == START_JOB else b""
    request = asked(method, prefix + path, body)
    assert (request.operation, request.model) == (operation, "given" if operation == START_JOB else "")
    built = jobs.build(request, target(RUNTIME))
    assert (built.method, built.path, built.subdomain) == sent
    assert built.body == (b'{"modelId": "m", "n": 1.0}' if operation == START_JOB else b"")


def test_the_encoded_arn_of_a_client_names_the_same_job():
    quoted = ASYNC_ARN.replace(":", "%3A").replace("/", "%2F")
    for path in (f"/bedrock/async-invoke/{quoted}", f"/bedrock/async-invoke/{ASYNC_ARN}"):
        assert jobs.build(asked("GET", path), target()).path == f"/async-invoke/{quoted}"


@pytest.mark.parametrize(
    "job", ["x", f"{ID}/..", f"{ID}x", ASYNC_ARN.upper(), "../../model/x", f"{ASYNC_ARN}/y", f"{ID}\n"]
)
def test_what_is_no_job_is_refused(job):
    route = next(route for route in jobs.ROUTES if route.operation == READ_JOB)
    with pytest.raises(Refused) as refusal:
        jobs.parse("f", HttpRequest(route, "/async-invoke/x", "", {}, {"job": job}, b""))
    assert refusal.value.problem.param == "job"


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b"", b'{"modelId": 7}', b'{"modelid": "m", "modelId": "n"}', b'{"modelId": "a", "modelId": "b"}'],
)
def test_a_start_without_one_clear_model_is_refused(body):
    with pytest.raises(Refused):
        asked("POST", "/async-invoke", body)


def test_a_list_has_its_parameters_and_no_credential():
    query = "statusEquals=Failed&key=secret&nextToken=t%2B1&X-Amz-Signature=secret&maxResults=5"
    built = jobs.build(asked("GET", "/async-invoke", query=query), target())
    assert built.query == "statusEquals=Failed&nextToken=t%2B1&maxResults=5"


def test_a_job_of_another_region_is_not_asked_for():
    request = asked("GET", f"/model-invocation-job/{BATCH_ARN}")
    assert jobs.build(request, target("bedrock-runtime-fips.us-gov-west-1.amazonaws.com")).subdomain == "bedrock-fips"
    assert jobs.build(request, target("proxy.example.com")).subdomain == ""
    with pytest.raises(Refused) as refusal:
        jobs.build(request, target(RUNTIME))
    assert refusal.value.problem.code == "not_found"


def test_without_the_option_there_are_no_jobs():
    with pytest.raises(Refused, match='"jobs": true'):
        jobs.build(asked("POST", "/async-invoke", b'{"modelId": "m"}'), target(on=False))


@pytest.mark.parametrize(
    ("body", "model"),
    [
        ({"modelArn": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-reel-v1:0"}, "amazon.nova-reel-v1:0"),
        ({"modelId": "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0"}, "us.amazon.nova-lite-v1:0"),
        ({"modelId": "amazon.nova-lite-v1:0"}, "amazon.nova-lite-v1:0"),
        ({"modelId": "arn:aws:bedrock:us-east-1:1:application-inference-profile/x"}, "arn:aws:bedrock:us-east-1:1:application-inference-profile/x"),
        ({"modelId": 7}, ""),
        ([], ""),
    ],
)  # fmt: skip
def test_the_model_of_a_job_is_read(body, model):
    meter = jobs.JobMeter()
    meter.whole(json.dumps(body).encode())
    assert (meter.facts().model, meter.facts().reported) == (model, False)


async def test_batches_go_to_the_control_plane_of_the_region(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "")
    async with echo_provider() as aws:
        aws.reply = whole(b'{"jobArn": "a", "invocationArn": "a"}', "Content-Type: application/json")
        monkeypatch.setenv("http_proxy", aws.url)
        provider = bedrock(f"http://{RUNTIME}", models=["m"], options={"bedrock_model_invoke": {"jobs": True}})
        async with gate(tmp_path, {"b": provider}) as gw:
            for path in ("/bedrock/async-invoke", "/bedrock/model-invocation-job"):
                assert (await gw.post(path, {"modelId": "m"})).status == 200
    assert [(seen.line, seen["host"]) for seen in aws.seen] == [
        (f"POST http://{RUNTIME}/async-invoke HTTP/1.1", RUNTIME),
        (
            "POST http://bedrock.us-east-1.amazonaws.com/model-invocation-job HTTP/1.1",
            "bedrock.us-east-1.amazonaws.com",
        ),
    ]
