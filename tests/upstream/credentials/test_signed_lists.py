"""Tests of requests for lists of models. The requests are signed with AWS credentials, and the simulated AWS verifies
the signatures.
"""

import pytest

from gateway.testkit.aws import Role
from tests.helpers.aws import ROLE, signed
from tests.helpers.gateway import gate
from tests.helpers.waiting import eventually
from tests.upstream.credentials.test_aws_credentials import environment

LITE = "amazon.nova-lite-v1:0"
BY_CALLER = {
    "role_arn": ROLE, "session_name": "<user>", "source_identity": "<user>", "session_tags": {"user": "<user>"},
}  # fmt: skip


@pytest.mark.parametrize("authorization", ["sigv4", "bearer"])
@pytest.mark.parametrize("role", [None, {"role_arn": ROLE}, BY_CALLER])
async def test_lists_are_asked_for_with_the_providers_credentials(
    tmp_path, bedrock_sim, aws, home, monkeypatch, authorization, role
):
    environment(aws, home, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
    aws.roles[ROLE] = Role()
    bedrock_sim.account = aws.account
    bedrock_sim.listing.add_model(LITE)
    bedrock_sim.listing.add_profile(f"us.{LITE}", [])
    settings = {} if role is None else {"assume_role": role}
    provider = signed(bedrock_sim.url, aws=settings, authorization=authorization)
    async with gate(tmp_path, {"b": {**provider, "models": "discover"}}) as gateway:
        await eventually(lambda: gateway.running.gateway.runtime.catalog.find(LITE))
    assert not any(seen.refused for seen in bedrock_sim.requests)


async def test_credentials_that_cannot_be_had_are_the_reason(tmp_path, bedrock_sim, home):
    provider = signed(bedrock_sim.url)
    async with gate(tmp_path, {"b": {**provider, "models": "discover"}}) as gateway:
        [failure] = await gateway.lines.until("models.list_failed")
    assert failure["reason"].startswith("there is no valid credential: ")
    assert bedrock_sim.requests == []
