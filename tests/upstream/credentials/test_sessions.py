"""Tests of providers with an AWS role. Each caller has its own session of the role, with a name, a source identity and
tags. Failures are reported.
"""

import asyncio

import pytest

from gateway.config.credentials import AssumeRole, AwsSettings
from gateway.testkit.aws import Role
from gateway.upstream.credentials import aws_access
from gateway.upstream.credentials.aws_access import AwsAccess
from gateway.upstream.credentials.clock import Clock
from gateway.upstream.subjects import Subject
from tests.helpers.aws import ROLE, signed
from tests.helpers.gateway import gate
from tests.upstream.credentials.test_aws_credentials import CONVERSE, environment, served

BY_CALLER = {
    "role_arn": ROLE, "session_name": "irisgate-<user>", "source_identity": "<user>",
    "session_tags": {"user": "<user>", "team": "research"},
}  # fmt: skip
LOGINS = {
    # login of a caller: (source identity, value of a tag)
    "ada@example.com": ("ada@example.com", "ada@example.com"),
    "bob+x@example.com": ("bob+x@example.com", "bob+x@example.com"),
    "Zoë Müller": ("Zo--M-ller-d6e575a6", "Zoë Müller"),
    "a": ("a-ca978112", "a"),
    "x" * 300: ("x" * 55 + "-0d4e2ca9", "x" * 247 + "-0d4e2ca9"),
    "u!v": ("u-v-5afe6594", "u-v-5afe6594"),
}


@pytest.fixture
async def b(aws, home, monkeypatch, bedrock_sim):
    """Return a function that makes the configuration of a provider `b`, whose credentials come from assuming a role."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
    environment(aws, home, monkeypatch)
    aws.roles[ROLE] = Role()
    bedrock_sim.account = aws.account
    return lambda **role: {"b": signed(bedrock_sim.url, aws={"assume_role": {"role_arn": ROLE, **role}})}


def listeners(logins):
    places = [(f"127.0.0.{number}:0", login) for number, login in enumerate(logins, 1)]
    return {"listeners": [{"listen": place, "identity": "static", "login": login} for place, login in places]}


async def test_each_caller_is_named_to_aws(tmp_path, aws, b, bedrock_sim):
    async with gate(tmp_path, b(**BY_CALLER), server=listeners(LOGINS)) as gw:
        for url in gw.running.urls * 2:
            async with gw.session.post(f"{url}/model/us.amazon.nova-lite-v1:0/converse", json=CONVERSE) as reply:
                assert reply.status == 200
    sessions = {key.session["SourceIdentity"]: key for key in aws.account.keys.values() if key.session}
    assert [key.uses for key in sessions.values()] == [2] * len(LOGINS)  # one session serves all calls of a caller
    for identity, value in LOGINS.values():
        session = sessions[identity].session
        pairs = [(session[f"Tags.member.{n}.Key"], session[f"Tags.member.{n}.Value"]) for n in (1, 2)]
        assert pairs == [("user", value), ("team", "research")]
        assert session["RoleSessionName"].startswith("irisgate-")


async def test_callers_share_a_session_that_does_not_name_them(tmp_path, aws, b):
    async with gate(tmp_path, b(), server=listeners(LOGINS)) as gw:
        for url in gw.running.urls:
            async with gw.session.post(f"{url}/model/us.amazon.nova-lite-v1:0/converse", json=CONVERSE) as reply:
                assert reply.status == 200
    (key,) = [key for key in aws.account.keys.values() if key.session]
    assert (key.session["RoleSessionName"], key.uses) == ("irisgate", len(LOGINS))


async def test_sessions_are_bounded_and_the_last_used_are_kept(monkeypatch):
    monkeypatch.setattr(aws_access, "MAX_SESSIONS", 10)
    settings = AwsSettings("us-east-1", assume_role=AssumeRole(ROLE, source_identity="<user>"))
    access = AwsAccess(settings, Clock(print), None, print)
    first = access.credential(Subject("ada", ""))
    for number in range(100):
        access.credential(Subject(f"user{number}", ""))
        assert access.credential(Subject("ada", "")) is first
    assert len(access._sessions) == 10


FAILURES = {
    # what is wrong: (role, members of the configuration, words of the log, words of the remedy)
    "an external id is missing": (Role(external_id="x1"), {}, "AccessDenied", "compare the external id"),
    "the external id is another": (Role(external_id="x1"), {"external_id": "x2"}, "AccessDenied", "the external id"),
    "the policy allows no tags": (Role(allows_tags=False), BY_CALLER, "AccessDenied", "sts:TagSession"),
    "there is no such role": (None, {}, "AccessDenied", "trust policy"),
}


@pytest.mark.parametrize("wrong", FAILURES)
async def test_a_role_that_cannot_be_assumed_is_told(tmp_path, aws, b, bedrock_sim, wrong):
    role, members, words, remedy = FAILURES[wrong]
    aws.roles = {} if role is None else {ROLE: role}
    async with gate(tmp_path, b(**members)) as gw:
        statuses = [status for status, _ in await asyncio.gather(*[served(gw) for _ in range(5)])]
        assert statuses == [502] * 5
        (line,) = await gw.lines.until("upstream.credentials_failed")
        assert f"{ROLE} cannot be assumed by env: {words}: " in line["message"]
        assert remedy in line["remedy"]
        assert bedrock_sim.requests == []


BROKEN = {
    # what is wrong: (environment, files of ~/.aws, members of the configuration, words of the log, words of the remedy)
    "nothing": ({}, "", {}, "no step of AWS's credential chain has credentials", "give the machine a role"),
    "no such profile": ({}, "", {"profile": "nope"}, "ProfileNotFound", "correct its name"),
    "half a key": ({"AWS_ACCESS_KEY_ID": "AKIA"}, "", {}, "PartialCredentialsError", "both halves"),
    "a file that is none": ({}, "[x\n", {"profile": "x"}, "ConfigParseError", "aws sts get-caller-identity"),
    "a process that fails": (
        {}, "[profile x]\ncredential_process = /bin/false\n", {"profile": "x"}, "CredentialRetrievalError",
        "run the profile's credential_process",
    ),
    "a process without JSON": (
        {}, "[profile x]\ncredential_process = /bin/echo hi\n", {"profile": "x"}, "JSONDecodeError",
        "aws sts get-caller-identity",
    ),
    "a container that is away": (
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/"}, "", {}, "CredentialRetrievalError", "",
    ),
    "an STS that is away": (
        {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "x"}, "",
        {"assume_role": {"role_arn": ROLE}}, "EndpointConnectionError", "let the gateway reach the address",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", BROKEN)
async def test_a_chain_without_credentials_is_told(tmp_path, home, monkeypatch, bedrock_sim, wrong):
    variables, text, members, words, remedy = BROKEN[wrong]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    home.config(text)
    async with gate(tmp_path, {"b": signed(bedrock_sim.url, aws=members)}) as gw:
        status, body = await served(gw)
        assert (status, b"no valid credential for b; tell an administrator" in body) == (502, True)
        (line,) = await gw.lines.until("upstream.credentials_failed")
        assert words in line["message"]
        assert remedy in line["remedy"]
