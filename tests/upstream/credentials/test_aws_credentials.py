"""Tests of AWS credentials from every step of botocore's chain: the simulated AWS issues them, and the simulated
Bedrock verifies the signature of every request.
"""

import json
from datetime import UTC, datetime

import pytest

from gateway.testkit.aws import Role
from tests.helpers.aws import ROLE, signed
from tests.helpers.gateway import HAIKU, KEY, NOVA, gate

CONVERSE = {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "Hi"}]}
MESSAGES = {"model": HAIKU, "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]}
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3"


async def served(gw, path="/model/{}/converse", body=CONVERSE, model=NOVA):
    reply = await gw.post(path.format(model.replace("/", "%2F").replace(":", "%3A")), body)
    return reply.status, await reply.read()


def environment(aws, home, monkeypatch):
    key = aws.account.issue()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret)
    return {}


def temporary_environment(aws, home, monkeypatch):
    key = aws.account.issue(3600)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret)
    monkeypatch.setenv("AWS_SESSION_TOKEN", key.token)
    return {}


def profile(aws, home, monkeypatch):
    key = aws.account.issue()
    home.credentials(f"[work]\naws_access_key_id = {key.id}\naws_secret_access_key = {key.secret}\n")
    return {"profile": "work"}


def role_profile(aws, home, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
    aws.roles[ROLE] = Role(external_id="irisgate-prod")
    profile(aws, home, monkeypatch)
    home.config(f"[profile r]\nrole_arn = {ROLE}\nsource_profile = work\nexternal_id = irisgate-prod\n")
    return {"profile": "r"}


def credential_process(aws, home, monkeypatch):
    key = aws.account.issue(3600)
    text = json.dumps(
        {
            "Version": 1, "AccessKeyId": key.id, "SecretAccessKey": key.secret, "SessionToken": key.token,
            "Expiration": datetime.fromtimestamp(key.expires_at, UTC).isoformat(),
        }
    )  # fmt: skip
    file = home.folder / "process.json"
    file.write_text(text)
    home.config(f"[profile p]\ncredential_process = /bin/cat {file}\n")
    return {"profile": "p"}


def sso(aws, home, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", aws.url)
    home.config(
        "[profile s]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Bedrock\n"
        "[sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = us-east-1\n"
    )
    home.sso_login("corp", aws.sso_token)
    return {"profile": "s"}


def web_identity(aws, home, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
    aws.roles[ROLE] = Role(web_identity="the-pods-token")
    file = home.folder / "token"
    file.write_text("the-pods-token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(file))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    return {}


def container(aws, home, monkeypatch):
    for name, value in aws.environment("container").items():
        monkeypatch.setenv(name, value)
    return {}


def instance(aws, home, monkeypatch):
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url)
    return {}


def assumed_role(aws, home, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
    aws.roles[ROLE] = Role(external_id="irisgate-prod")
    environment(aws, home, monkeypatch)
    return {"assume_role": {"role_arn": ROLE, "external_id": "irisgate-prod"}}


SOURCES = {
    # way to the credentials: step of the chain that the log names
    environment: "env", temporary_environment: "env", profile: "shared-credentials-file", role_profile: "assume-role",
    credential_process: "custom-process", sso: "sso", web_identity: "assume-role-with-web-identity",
    container: "container-role", instance: "iam-role", assumed_role: f"{ROLE} as irisgate",
}  # fmt: skip


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
async def test_each_step_of_the_chain_signs_calls(tmp_path, aws, home, monkeypatch, bedrock_sim, source):
    settings = source(aws, home, monkeypatch)
    bedrock_sim.account = aws.account
    async with gate(tmp_path, {"b": signed(bedrock_sim.url, aws=settings)}) as gw:
        assert (await served(gw))[0] == 200
        bedrock_sim.account = type(aws.account)()  # an account without keys refuses every key
        assert (await served(gw))[0] == 502
        (line,) = await gw.lines.until("upstream.key_refused")
        assert line["issuer"].startswith(SOURCES[source])
        assert line["native"] == "UnrecognizedClientException"


WAYS = {
    # client's way: (path, body, model)
    "converse": ("/model/{}/converse", CONVERSE, NOVA),
    "streamed": ("/model/{}/converse-stream", CONVERSE, NOVA),
    "an ARN with slashes": ("/model/{}/converse", CONVERSE, ARN),
    "invoke": ("/model/{}/invoke", {"anthropic_version": "bedrock-2023-05-31", **MESSAGES, "model": None}, HAIKU),
    "chat, translated": ("/v1/chat/completions", CHAT, HAIKU),
    "chat, streamed": ("/v1/chat/completions", {**CHAT, "stream": True}, HAIKU),
    "messages, in an envelope": ("/v1/messages", MESSAGES, HAIKU),
    "count": ("/v1/messages/count_tokens", {"model": HAIKU, "messages": MESSAGES["messages"]}, HAIKU),
    "2 MB": ("/model/{}/converse", {"messages": [{"role": "user", "content": [{"text": "x" * 2_000_000}]}]}, NOVA),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_key", [False, True], ids=["signature", "API key"])
async def test_every_way_to_bedrock_is_signed(tmp_path, aws, home, monkeypatch, bedrock_sim, way, is_key):
    path, body, model = WAYS[way]
    body = {name: value for name, value in body.items() if value is not None}
    temporary_environment(aws, home, monkeypatch)
    bedrock_sim.account = aws.account
    bedrock_sim.profiles[ARN] = NOVA
    options = {"authorization": "bearer"} if is_key else {}
    async with gate(tmp_path, {"b": signed(bedrock_sim.url, models=[HAIKU, NOVA, ARN], **options)}) as gw:
        assert (await served(gw, path, body, model))[0] == 200
        assert [seen.refused for seen in bedrock_sim.requests] == [""] * len(bedrock_sim.requests)
        authorization = bedrock_sim.requests[-1].headers["authorization"]
        assert authorization.startswith("Bearer bedrock-api-key-" if is_key else "AWS4-HMAC-SHA256 ")
        assert gw.lines.entries("upstream.credentials_failed") == []


async def test_a_token_that_aws_repeats_reaches_neither_client_nor_log(tmp_path, aws, home, monkeypatch, bedrock_sim):
    temporary_environment(aws, home, monkeypatch)
    bedrock_sim.account = aws.account
    (key,) = aws.account.keys.values()
    key.secret = "another-secret"
    async with gate(tmp_path, {"b": signed(bedrock_sim.url)}) as gw:
        status, body = await served(gw)
        assert (status, key.token.encode() in body) == (502, False)
        (line,) = await gw.lines.until("upstream.key_refused")
        assert line["message"].startswith("The request signature we calculated does not match")
        records = json.dumps(await gw.calls())
        assert "another-secret" not in records
        assert key.token not in records + gw.lines.data.decode()
    assert key.token in bedrock_sim.requests[0].refused


@pytest.mark.parametrize(
    "header", ["authorization", "x-api-key", "x-amz-security-token", "x-amz-date", "X-Amz-Content-Sha256"]
)
async def test_a_clients_own_credential_does_not_replace_the_signature(
    tmp_path, aws, home, monkeypatch, bedrock_sim, header
):
    """Check that a client's key or signature is not sent to the provider (litellm#37905)."""
    environment(aws, home, monkeypatch)
    bedrock_sim.account = aws.account
    async with gate(tmp_path, {"b": signed(bedrock_sim.url)}) as gw:
        reply = await gw.post(f"/model/{NOVA}/converse", CONVERSE, headers={header: "Bearer clients-canary"})
        assert reply.status == 200
    assert "clients-canary" not in str(bedrock_sim.requests[0].headers)


async def test_with_passthrough_a_clients_own_key_is_sent_without_a_signature(
    tmp_path, aws, home, monkeypatch, bedrock_sim
):
    environment(aws, home, monkeypatch)
    async with gate(tmp_path, {"b": signed(bedrock_sim.url, auth_mode="passthrough")}) as gw:
        headers = {"authorization": f"Bearer {KEY}"}
        assert (await gw.post(f"/model/{NOVA}/converse", CONVERSE, headers=headers)).status == 200
        bedrock_sim.account = aws.account
        assert (await gw.post(f"/model/{NOVA}/converse", CONVERSE)).status == 200
    sent = [seen.headers["authorization"].partition(" ")[0] for seen in bedrock_sim.requests]
    assert sent == ["Bearer", "AWS4-HMAC-SHA256"]
