"""Tests of exports to a simulated S3, which verifies signatures, hashes and conditions."""

import json

import pytest

from gateway.config.credentials import AssumeRole
from gateway.config.document.secrets import Secret
from gateway.config.exporters import Exporter, S3Bucket
from gateway.process.exports import task
from gateway.process.exports.export import Export, ExportFailed
from gateway.process.exports.s3 import S3Target, address
from gateway.testkit.aws import AwsSim, Role
from gateway.testkit.aws_account import AwsAccount
from gateway.testkit.s3 import S3Sim
from tests.helpers.aws import ROLE
from tests.helpers.gateway import bedrock, gate
from tests.helpers.records import NOON, Kept, record
from tests.helpers.waiting import eventually
from tests.process.exports.reading import cbor_records, json_records


@pytest.fixture
async def s3():
    async with S3Sim(AwsAccount(), "usage") as sim:
        yield sim


def bucket(s3, **more):
    key = s3.account.issue()
    own = {"access_key_id": key.id, "secret": Secret(key.secret), "is_path_style": True}
    return S3Bucket(**{"name": "usage", "endpoint": s3.url, **own, **more})


async def put(to, name="object", data=b"content", *, again=False):
    target = S3Target(to)
    try:
        await target.put(name, data, again=again)
    finally:
        await target.close()


async def test_an_object_is_signed_and_stored(s3):
    await put(bucket(s3, prefix="prod/räume & more+"), "a b.cbor.zstd")
    assert s3.buckets["usage"] == {"prod/räume & more+/a b.cbor.zstd": b"content"}


async def test_an_object_that_exists_is_left_as_it_is(s3):
    to = bucket(s3)
    await put(to)
    await put(to, data=b"less", again=True)
    assert s3.buckets["usage"] == {"object": b"content"}
    s3.refusals.append((501, "NotImplemented"))
    await put(to, data=b"the same", again=True)
    assert s3.buckets["usage"] == {"object": b"the same"}


async def test_an_object_is_stored_in_a_bucket_with_object_lock(s3):
    s3.locked.add("usage")
    await put(bucket(s3))
    assert s3.buckets["usage"] == {"object": b"content"}


async def test_a_refusal_names_the_bucket_the_object_and_the_reason(s3):
    with pytest.raises(ExportFailed, match=r"/usage refuses object: 403 InvalidAccessKeyId: ") as error:
        await put(bucket(s3, access_key_id="AKIANOBODY"))
    with pytest.raises(ExportFailed, match="403 SignatureDoesNotMatch"):
        await put(bucket(s3, secret=Secret("not-this-secret")))
    with pytest.raises(ExportFailed, match="404 NoSuchBucket"):
        await put(bucket(s3, name="another"))
    with pytest.raises(ExportFailed, match="cannot be reached"):
        await put(bucket(s3, endpoint="http://127.0.0.1:9"))
    assert "not-this-secret" not in str(error.value)


async def test_a_wrong_clock_is_corrected_by_the_stores():
    async with S3Sim(AwsAccount(offset=3600), "usage") as s3:
        await put(bucket(s3))
        assert len(s3.requests) == 2
        assert s3.buckets["usage"] == {"object": b"content"}


async def test_credentials_come_from_the_chain_or_a_role(s3, monkeypatch):
    key = s3.account.issue(3600)
    for name, value in (("ACCESS_KEY_ID", key.id), ("SECRET_ACCESS_KEY", key.secret), ("SESSION_TOKEN", key.token)):
        monkeypatch.setenv(f"AWS_{name}", value)
    unsigned = {"access_key_id": "", "secret": Secret()}
    await put(bucket(s3, **unsigned), "by the chain")
    assert key.uses == 1
    async with AwsSim(s3.account) as aws:
        aws.roles[ROLE] = Role()
        for name, value in aws.environment("sts").items():
            monkeypatch.setenv(name, value)
        await put(bucket(s3, **unsigned, assume_role=AssumeRole(ROLE)), "by the role")
    assert sorted(s3.buckets["usage"]) == ["by the chain", "by the role"]
    assert next(each for each in s3.account.keys.values() if each.session).uses == 1


def test_a_bucket_is_named_in_the_path_or_in_the_host():
    aws = {"name": "usage", "endpoint": "https://s3.eu-west-1.amazonaws.com", "prefix": "a b"}
    assert address(S3Bucket(**aws), "x+y") == ("https://usage.s3.eu-west-1.amazonaws.com", "/a%20b/x%2By")
    assert address(S3Bucket(**aws, is_path_style=True), "x") == (aws["endpoint"], "/usage/a%20b/x")
    minio = S3Bucket(name="usage", endpoint="http://minio:9000")
    assert address(minio, "x") == ("http://usage.minio:9000", "/x")


async def test_an_answer_that_is_lost_leaves_no_duplicate(s3, tmp_path):
    """Check that no call is exported twice if the server stores an object, but its reply to the upload is lost."""
    store = Kept(tmp_path / "irisgate.db")
    for name in "abc":
        store.put(record(id=name))
    await store.flush()
    target = S3Target(bucket(s3))
    export = Export(Exporter("s3", bucket(s3), "json.gz", limit=2), store.exports, target, None)
    s3.after.append(True)
    with pytest.raises(ExportFailed):
        await export.all(lambda _: None)
    assert len(s3.buckets["usage"]) == 1
    store.put(record(id="later", at=NOON - 60))
    await store.flush()
    await export.all(lambda _: None)
    objects = [json_records(data) for _, data in sorted(s3.buckets["usage"].items())]
    assert [[each["capture_id"] for each in calls] for calls in objects] == [["a", "b"], ["c", "later"]]
    await target.close()
    await store.close()


async def test_a_gateway_exports_to_s3_and_shows_no_secret(s3, tmp_path, bedrock_sim, monkeypatch):
    monkeypatch.setattr(task, "LOOK_SECONDS", 0.05)
    key = s3.account.issue()
    settings = {"bucket_name": "usage", "endpoint": s3.url, "prefix": "prod", "every": 1}
    more = {"exporters": {"s3": {**settings, "access_key_id": key.id, "access_secret": key.secret}}}
    provider = bedrock(bedrock_sim.url)
    s3.refusals.append((503, "SlowDown"))
    monkeypatch.setattr(task, "RETRY_SECONDS", (0.05,))
    async with gate(tmp_path, {"b": provider}, more=more) as gw:
        reply = await gw.post(
            "/v1/chat/completions", {"model": provider["models"][0], "messages": [{"role": "user", "content": "hi"}]}
        )
        await eventually(lambda: s3.buckets["usage"])
        ((name, data),) = s3.buckets["usage"].items()
        assert name.startswith("prod/irisgate-export-")
        assert [each["capture_id"] for each in cbor_records(data)] == [reply.headers["x-request-id"]]
        await gw.lines.until("export.recovered")
        (line,) = gw.lines.entries("export.failed")
        assert line["to"] == f"{s3.url}/usage/prod"
        assert "503 SlowDown" in line["reason"]
        assert key.secret not in json.dumps(line)
    assert key.secret.encode() not in bytes(gw.lines.data)


async def test_a_failure_is_logged_again_when_its_reason_changes(s3, tmp_path, bedrock_sim, monkeypatch):
    monkeypatch.setattr(task, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(task, "RETRY_SECONDS", (0.05,))
    key = s3.account.issue()
    settings = {"bucket_name": "usage", "endpoint": s3.url, "access_key_id": key.id, "access_secret": key.secret}
    provider = bedrock(bedrock_sim.url)
    s3.refusals.extend([(503, "SlowDown"), (503, "SlowDown"), (500, "InternalError"), (500, "InternalError")])
    async with gate(tmp_path, {"b": provider}, more={"exporters": {"s3": {**settings, "every": 1}}}) as gw:
        await gw.post(
            "/v1/chat/completions", {"model": provider["models"][0], "messages": [{"role": "user", "content": "hi"}]}
        )
        (recovered,) = await gw.lines.until("export.recovered")
        assert recovered["failures"] == 4
        reasons = [line["reason"] for line in gw.lines.entries("export.failed")]
        assert [reason.split()[-5] for reason in reasons] == ["SlowDown:", "InternalError:"]
