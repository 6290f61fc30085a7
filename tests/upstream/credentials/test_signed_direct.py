"""Tests of direct requests and of requests about jobs, which are signed with AWS credentials. The simulated AWS
verifies the signatures.
"""

import orjson
import pytest
from yarl import URL

from gateway.testkit.aws import REGION, Role
from gateway.testkit.simulator import Seen
from tests.helpers.aws import ROLE, signed
from tests.helpers.echo_provider import echo_provider, whole
from tests.helpers.gateway import HAIKU, gate
from tests.upstream.credentials.test_aws_credentials import environment

CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
OTHERS = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=AKIAOTHER/20261130/us-east-1/bedrock/aws4_request, SignedHeaders=host, "
    "Signature=0",
    "X-Amz-Date": "20200101T000000Z",
    "X-Amz-Security-Token": "of-the-client",
    "X-Amz-Content-Sha256": "0",
    "X-Amz-Custom": "signed too",
}
PATHS = [
    f"/model/{HAIKU}/converse",
    f"/model/{HAIKU.replace(':', '%3A')}/converse",
    f"/model/{HAIKU}/converse?b=2&a=%2F%20x&a=1&flag",
]


@pytest.mark.parametrize("authorization", ["sigv4", "bearer"])
async def test_requests_are_signed_as_they_are_sent(tmp_path, bedrock_sim, aws, home, monkeypatch, authorization):
    environment(aws, home, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
    aws.roles[ROLE] = Role()
    bedrock_sim.account = aws.account
    provider = signed(bedrock_sim.url, aws={"assume_role": {"role_arn": ROLE}}, authorization=authorization)
    async with gate(tmp_path, {"b": provider}) as gw:
        for path in PATHS:
            url = URL(f"{gw.url}/direct/b{path}", encoded=True)
            async with gw.session.post(url, data=orjson.dumps(CONVERSE), headers=OTHERS) as reply:
                assert reply.status == 200, await reply.text()
        calls = await gw.calls(len(PATHS))
    assert [(call["model"], call["upstream_api"]) for call in calls] == [(HAIKU, "bedrock_converse")] * len(PATHS)
    assert all(call["reported"] and call["cost_usd"] for call in calls)
    assert [seen.headers["x-amz-custom"] for seen in bedrock_sim.requests] == ["signed too"] * len(PATHS)
    assert not any(seen.refused for seen in bedrock_sim.requests)


async def test_batches_are_signed_for_the_host_of_the_control_plane(tmp_path, aws, home, monkeypatch):
    environment(aws, home, monkeypatch)
    monkeypatch.setenv("no_proxy", "")
    async with echo_provider() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        proxy.reply = whole(b'{"jobArn": "a"}', "Content-Type: application/json")
        provider = signed(
            "http://bedrock-runtime.us-east-1.amazonaws.com", options={"bedrock_model_invoke": {"jobs": True}}
        )
        async with gate(tmp_path, {"b": provider}) as gw:
            assert (await gw.post("/bedrock/model-invocation-job", {"modelId": HAIKU})).status == 200
    (seen,) = proxy.seen
    method, url, _ = seen.line.split()
    assert url == "http://bedrock.us-east-1.amazonaws.com/model-invocation-job"
    aws.account.judge(Seen(method, URL(url).path, "", dict(seen.headers), seen.body), "bedrock", REGION)
