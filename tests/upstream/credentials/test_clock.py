"""Tests of signing on a machine whose clock is wrong. The gateway learns the right time from the date in AWS's first
reply. Even the first call must succeed.
"""

import pytest

from gateway.testkit.aws import AwsSim, Role
from gateway.testkit.aws_account import AwsAccount
from gateway.upstream.credentials.clock import Clock
from tests.helpers.aws import ROLE, signed
from tests.helpers.gateway import HAIKU, gate
from tests.upstream.credentials.test_aws_credentials import CONVERSE, MESSAGES, environment, served

WAYS = {
    # way: configuration of the provider
    "signature": {},
    "API key": {"authorization": "bearer"},
    "role": {"aws": {"assume_role": {"role_arn": ROLE}}},
}
COUNT = {"model": HAIKU, "messages": MESSAGES["messages"]}
CALLS = {"call": ("/model/{}/converse", CONVERSE), "count": ("/v1/messages/count_tokens", COUNT)}


@pytest.fixture
async def aws(request):
    async with AwsSim(AwsAccount(request.param)) as sim:
        yield sim


@pytest.mark.parametrize(
    ("way", "aws"),
    [
        ("signature", 600.0), ("signature", -600.0), ("signature", 86_400.0), ("role", 960.0), ("role", -960.0),
        ("API key", -600.0), ("API key", 86_400.0),  # a key that was made ten minutes ago is valid
    ],
    indirect=["aws"],
)  # fmt: skip
@pytest.mark.parametrize("call", CALLS)
async def test_a_wrong_clock_is_told_and_corrected(tmp_path, aws, home, monkeypatch, bedrock_sim, way, call):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
    environment(aws, home, monkeypatch)
    aws.roles[ROLE] = Role()
    bedrock_sim.account = aws.account
    path, body = CALLS[call]
    async with gate(tmp_path, {"b": signed(bedrock_sim.url, models=[HAIKU], **WAYS[way])}) as gw:
        assert (await served(gw, path, body, HAIKU))[0] == 200
        (line,) = await gw.lines.until("upstream.clock_corrected")
        assert (line["provider"], abs(line["seconds"] - aws.account.offset) < 5) == ("b", True)
        sent = len(bedrock_sim.requests)
        assert (await served(gw, path, body, HAIKU))[0] == 200
        assert [seen.refused for seen in bedrock_sim.requests[sent:]] == [""]
        assert gw.lines.entries("upstream.key_refused") == []
        assert len(gw.lines.entries("upstream.clock_corrected")) == 1


@pytest.mark.parametrize("date", ["", "now", "Thu, 99 Foo 2026 00:00:00 GMT", "0"])
def test_a_date_that_is_none_corrects_nothing(date):
    corrected = []
    clock = Clock(corrected.append)
    assert (clock.learn(date), clock.offset, corrected) == (False, 0.0, [])
