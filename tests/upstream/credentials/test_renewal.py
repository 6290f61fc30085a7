"""Tests of the renewal of credentials. It begins before they expire, and all calls share one renewal. A failed renewal
is reported and repeated.
"""

import asyncio
from math import inf

import pytest

from gateway.testkit.aws import Role
from gateway.upstream.credentials import renewal
from gateway.upstream.credentials.renewal import AGAIN_SECONDS, REREAD_SECONDS, CredentialFailed, Obtained, Renewed
from tests.helpers.aws import ROLE, signed
from tests.helpers.gateway import NOVA, gate
from tests.helpers.waiting import eventually
from tests.upstream.credentials.test_aws_credentials import environment, served


class Source:
    """A source of credentials, with a clock that a test sets. `asked` counts the requests for a credential."""

    def __init__(self, seconds=3600.0):
        self.now = 1000.0
        self.seconds = seconds
        self.asked = 0
        self.failure = None
        self.failures = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.renewed = Renewed(self._obtain, lambda: self.now, self.failures.append)

    async def _obtain(self):
        self.asked += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return Obtained(f"key {self.asked}", self.now + self.seconds)

    async def settled(self):
        """Wait until no renewal is in progress."""
        await eventually(lambda: self.renewed._task is None)


FAILURE = CredentialFailed("no credentials", "log in")


async def test_concurrent_calls_share_one_request():
    source = Source()
    assert await asyncio.gather(*[source.renewed.get() for _ in range(50)]) == ["key 1"] * 50
    assert source.asked == 1


@pytest.mark.parametrize(("seconds", "ahead"), [(3600.0, 600.0), (43_200.0, 600.0), (900.0, 225.0), (2.0, 0.5)])
async def test_a_renewal_begins_ahead_and_no_call_waits_for_it(seconds, ahead):
    source = Source(seconds)
    await source.renewed.get()
    source.now += seconds - ahead - 0.001
    assert (source.renewed.fresh(), source.asked) == ("key 1", 1)
    source.now += 0.002
    source.gate.clear()
    assert [source.renewed.fresh() for _ in range(3)] == ["key 1"] * 3
    await eventually(lambda: source.asked == 2)
    source.gate.set()
    await source.settled()
    assert (source.renewed.fresh(), source.asked) == ("key 2", 2)


async def test_a_failed_renewal_keeps_the_credential_until_it_expires():
    source = Source(3600)
    await source.renewed.get()
    source.failure = FAILURE
    source.now += 3100
    assert await source.renewed.get() == "key 1"
    await source.settled()
    assert await source.renewed.get() == "key 1"
    assert (source.asked, source.failures) == (2, [FAILURE])  # the next try is due in some seconds
    source.now += 500
    with pytest.raises(CredentialFailed, match="no credentials"):
        await source.renewed.get()
    with pytest.raises(CredentialFailed):
        await source.renewed.get()
    assert source.asked == 3
    source.failure = None
    source.now += AGAIN_SECONDS
    assert await source.renewed.get() == "key 4"


async def test_a_key_without_an_expiry_is_read_again_now_and_then():
    source = Source(inf)
    await source.renewed.get()
    source.now += REREAD_SECONDS + 1
    assert source.renewed.fresh() == "key 1"
    await source.settled()
    assert source.renewed.fresh() == "key 2"


async def test_a_refused_credential_is_replaced_once_for_all_calls():
    source = Source()
    await source.renewed.get()
    assert await source.renewed.other_than("key 1") is None  # it has only just been obtained
    source.now += AGAIN_SECONDS
    assert await asyncio.gather(*[source.renewed.other_than("key 1") for _ in range(5)]) == ["key 2"] * 5
    assert source.asked == 2


async def test_a_call_that_is_cancelled_does_not_stop_the_renewal():
    source = Source()
    source.gate.clear()
    waiting = [asyncio.create_task(source.renewed.get()) for _ in range(2)]
    await eventually(lambda: source.asked == 1)
    waiting[0].cancel()
    source.gate.set()
    assert await waiting[1] == "key 1"


async def test_credentials_are_renewed_under_load_without_a_failed_call(tmp_path, aws, home, monkeypatch, bedrock_sim):
    """Check that no call fails while the credentials of a role are renewed under load.

    Each session of the role is valid for four to five seconds. The calls end when three sessions have been used.
    """
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
    environment(aws, home, monkeypatch)
    aws.roles[ROLE] = Role()
    aws.seconds = 5
    bedrock_sim.account = aws.account
    statuses = []

    def sessions():
        return [key for key in aws.account.keys.values() if key.session and key.uses]

    async def calls(gw):
        while len(sessions()) < 3:
            statuses.append((await served(gw))[0])
            await asyncio.sleep(0.05)

    async with gate(tmp_path, {"b": signed(bedrock_sim.url, aws={"assume_role": {"role_arn": ROLE}})}) as gw:
        await asyncio.gather(*[calls(gw) for _ in range(4)])
        assert set(statuses) == {200}
        assert [seen.refused for seen in bedrock_sim.requests if seen.refused] == []
        assert gw.lines.entries("upstream.credentials_failed") == []


async def test_failing_credentials_are_told_and_come_back(tmp_path, aws, home, monkeypatch, bedrock_sim):
    monkeypatch.setattr(renewal, "AGAIN_SECONDS", 0.0)
    home.config(
        "[profile s]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Bedrock\n"
        "[sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = us-east-1\n"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", aws.url)
    bedrock_sim.account = aws.account
    async with gate(tmp_path, {"b": signed(bedrock_sim.url, aws={"profile": "s"})}) as gw:
        status, body = await served(gw)
        assert status == 502
        assert b"the gateway has no valid credential for b; tell an administrator of this gateway" in body
        (line,) = await gw.lines.until("upstream.credentials_failed")
        assert line["provider"] == "b"
        assert "of the profile s cannot be obtained: SSOTokenLoadError: " in line["message"]
        assert line["remedy"] == "run aws sso login as the gateway's user"
        assert (await gw.readiness())[1]["keys"] == "refused"
        (record,) = await gw.calls()
        assert (record["error"], record["attempts"], record["cost_usd"]) == ("upstream", 0, 0)
        home.sso_login("corp", aws.sso_token)
        assert (await served(gw))[0] == 200
        assert (await gw.readiness())[1]["keys"] == "accepted"
        assert len(gw.lines.entries("upstream.credentials_failed")) == 1


@pytest.mark.parametrize("is_key", [False, True], ids=["signature", "API key"])
async def test_a_rotated_key_file_is_read_when_the_old_key_is_refused(
    tmp_path, aws, home, monkeypatch, bedrock_sim, is_key
):
    monkeypatch.setattr(renewal, "AGAIN_SECONDS", 0.0)
    bedrock_sim.account = aws.account

    def rotate():
        aws.account.keys.clear()
        key = aws.account.issue()
        home.credentials(f"[default]\naws_access_key_id = {key.id}\naws_secret_access_key = {key.secret}\n")

    rotate()
    options = {"authorization": "bearer"} if is_key else {}
    async with gate(tmp_path, {"b": signed(bedrock_sim.url, models=[NOVA], **options)}) as gw:
        assert (await served(gw))[0] == 200
        rotate()
        assert (await served(gw))[0] == 200
        assert len(bedrock_sim.requests) == 3  # the second call was refused once, and sent again
        assert gw.lines.entries("upstream.key_refused") == []
        record = (await gw.calls(2))[-1]
        assert (record["attempts"], record["error"]) == (2, "")
