"""Tests of the key `aws` of a provider, and of `"authorization": "sigv4"`."""

import pytest

from gateway.config.credentials import AssumeRole, AwsSettings
from gateway.config.document.hujson import parse
from gateway.config.document.redact import scrubber
from gateway.config.document.secret_spans import secrets_in
from gateway.config.load import loads
from gateway.config.sections import aws
from gateway.contract.registry import KnownPlugins
from tests.config.examples import KNOWN, config, errors

HOST = "https://bedrock-runtime.eu-west-3.amazonaws.com"
ROLE = "arn:aws:iam::123456789012:role/bedrock"


def provider(**members):
    return config({"baseurl": HOST, "apikey": "", "authorization": "sigv4", **members})


def settings(**members):
    return loads(provider(**members)).config.providers["p"].issuer


@pytest.mark.parametrize(
    ("baseurl", "region", "service"),
    [
        (HOST, "eu-west-3", "bedrock"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", "bedrock"),
        ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn", "cn-north-1", "bedrock"),
        ("https://bedrock-runtime.us-east-1.api.aws/anthropic", "us-east-1", "bedrock"),
        ("https://vpce-0a1b-2c3d.bedrock-runtime.ap-southeast-2.vpce.amazonaws.com", "ap-southeast-2", "bedrock"),
        ("https://bedrock-mantle.us-west-2.api.aws/v1", "us-west-2", "bedrock-mantle"),
    ],
)
def test_region_and_service_are_those_of_the_address(baseurl, region, service):
    assert settings(baseurl=baseurl) == AwsSettings(region, service)


def test_every_setting_is_read():
    role = {
        "role_arn": ROLE, "session_name": "<user>", "external_id": "irisgate-prod", "source_identity": "<user>",
        "session_tags": {"user": "<user>", "team": "research"}, "duration_seconds": 900,
    }  # fmt: skip
    tags = (("user", "<user>"), ("team", "research"))
    expected = AssumeRole(ROLE, "<user>", "irisgate-prod", "<user>", tags, 900)
    assert settings(aws={"region": "us-east-1", "profile": "work", "assume_role": role}) == AwsSettings(
        "us-east-1", profile="work", assume_role=expected
    )


def test_with_a_header_for_keys_short_term_keys_are_made():
    assert settings(authorization="bearer", aws={}) == AwsSettings("eu-west-3", signs=False)
    assert settings(authorization="bearer") is None


@pytest.mark.parametrize(
    ("members", "path", "message"),
    [
        (
            {"baseurl": "http://10.0.0.7:8000"},
            "aws",
            'the base URL names no region; write "aws": {"region": "us-east-1"}',
        ),
        ({"aws": {"region": "us east"}}, "aws.region", '"us east" is no region of AWS; write one such as "us-east-1"'),
        ({"aws": {"region": 1}}, "aws.region", "must be a string, not a number"),
        ({"aws": "work"}, "aws", "must be an object, not a string"),
        ({"apikey": "abc"}, "apikey", 'is not sent, because requests are signed with "authorization": "sigv4"'),
        (
            {"apikey": "abc", "authorization": "bearer", "aws": {}},
            "apikey",
            'is not sent, because keys are made from "aws"',
        ),
        ({"aws": {"assume_role": {}}}, "aws.assume_role", 'is missing; for example "role_arn": "arn:aws:iam::'),
        ({"aws": {"assume_role": "r"}}, "aws.assume_role", "must be an object, not a string"),
    ],
)
def test_a_fault_is_an_error_that_says_what_to_write(members, path, message):
    (line,) = errors(provider(**members))
    assert f"providers.p.{path}" in line
    assert message in line


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("role_arn", "bedrock", '"bedrock" is no ARN of a role; write "arn:aws:iam::123456789012:role/bedrock"'),
        ("role_arn", "arn:aws:iam::123456789012:user/x", "is no ARN of a role"),
        ("external_id", "a b", "must be the id in the trust policy"),
        ("session_name", "", '"" is no name; write "<user>"'),
        ("session_name", "a b", '"a b" is no name'),
        ("session_name", "<team>", '"<team>" is no name'),
        ("source_identity", "x", '"x" is no name'),
        ("session_tags", {"aws:x": "1"}, '"aws:x" is no key of a session tag'),
        ("session_tags", {"": "1"}, '"" is no key of a session tag'),
        ("session_tags", {"team": "a\nb"}, 'the value of "team" cannot be sent'),
        ("session_tags", {"team": 1}, "must be a string, not a number"),
        ("session_tags", {f"t{n}": "x" for n in range(51)}, "has 51 tags; AWS takes 50 at most"),
        ("duration_seconds", 60, "must be at least 900"),
        ("duration_seconds", 90_000, "must be at most 43200"),
    ],
)
def test_a_fault_in_a_role_is_an_error(member, value, message):
    (line,) = errors(provider(aws={"assume_role": {"role_arn": ROLE, member: value}}))
    assert f"providers.p.aws.assume_role.{member}" in line
    assert message in line


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"": "x"}, '"" is no key of metadata; write one such as "user"'),
        ({"a|b": "x"}, '"a|b" is no key of metadata'),
        ({"user": "é"}, 'the value of "user" cannot be sent; write one such as "research" or "<user>"'),
        ({"user": "<no<user>de>"}, 'the value of "user" cannot be sent; write one such as "research" or "<user>"'),
        ({"user": "<us<node>er>"}, 'the value of "user" cannot be sent; write one such as "research" or "<user>"'),
        ({"user": 1}, "must be a string, not a number"),
        ({f"k{n}": "v" for n in range(17)}, "has 17 entries; Bedrock takes 16 at most"),
        (["user"], "must be an object, not a list"),
    ],
)
def test_metadata_that_bedrock_refuses_is_an_error(value, message):
    (line,) = errors(provider(request_metadata=value))
    assert "providers.p.request_metadata" in line
    assert message in line


def test_metadata_that_no_flag_sends_is_a_warning():
    text = provider(request_metadata={"user": "<user>"}, compatibility={"anthropic_messages": True})
    warnings = [str(warning) for warning in loads(text, plugins=KnownPlugins(KNOWN)).warnings]
    assert any("is sent with bedrock_converse and bedrock_model_invoke only" in line for line in warnings), warnings


def test_without_botocore_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(aws, "find_spec", lambda _: None)
    (line,) = errors(provider())
    assert "providers.p.authorization: needs botocore; install irisgate[aws]" in line


def test_what_the_pages_show_has_the_settings():
    """Check that the pages show the AWS settings in full. A session tag is shown even if its name is `token`."""
    text = provider(aws={"assume_role": {"role_arn": ROLE, "external_id": "x1", "session_tags": {"token": "<user>"}}})
    document = parse(text)
    assert scrubber(secrets_in(document))(text) == text


@pytest.mark.parametrize("members", [{}, {"authorization": "bearer", "aws": {}}])
def test_a_provider_with_aws_credentials_needs_no_key(members):
    text = provider(**members).replace('"apikey": "",', "")
    assert "apikey" not in text
    assert [str(warning) for warning in loads(text).warnings if "apikey" in str(warning)] == []
