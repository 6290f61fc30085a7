"""Tests of the section `exporters`: the settings that are read from it, and which faults are reported."""

import json
from pathlib import Path

import pytest

from gateway.config.document.secrets import Secret
from gateway.config.exporters import Exporter, S3Bucket
from gateway.config.findings import ConfigError
from gateway.config.load import loads
from gateway.config.model import active_secrets
from gateway.config.sections import exporters as module
from tests.config.test_messages import assert_said


def exporters(**section):
    return loads(json.dumps({"exporters": section}), folder=Path("/etc/irisgate")).config.exporters


def test_nothing_is_exported_unless_a_destination_is_named():
    assert loads("{}").config.exporters == ()
    assert exporters() == ()


def test_a_folder_begins_at_that_of_the_configuration():
    assert exporters(folder={"path": "/out"}) == (Exporter("folder", Path("/out"), "cbor.zstd", 3600, 1000),)
    (export,) = exporters(folder={"path": "out", "format": "json.gz", "every": 60, "limit": 50, "bodies": True})
    assert export == Exporter("folder", Path("/etc/irisgate/out"), "json.gz", 60, 50, bodies=True)


KEY = {"access_key_id": "AKIA1", "access_secret": "s3cr3t-of-the-bucket"}


def bucket(**section):
    (export,) = exporters(s3={"bucket_name": "usage", **section})
    return export.to


def test_a_bucket_of_aws_is_part_of_the_host():
    assert bucket(**KEY) == S3Bucket(
        name="usage",
        endpoint="https://s3.us-east-1.amazonaws.com",
        access_key_id="AKIA1",
        secret=Secret(KEY["access_secret"]),
    )
    assert bucket(region="cn-north-1").endpoint == "https://s3.cn-north-1.amazonaws.com.cn"
    assert bucket(bucket_name="usage.example.com").is_path_style


def test_a_bucket_of_another_store_is_part_of_the_path():
    minio = bucket(endpoint="http://127.0.0.1:9000/", prefix="prod", **KEY)
    assert (minio.endpoint, minio.is_path_style, minio.prefix) == ("http://127.0.0.1:9000", True, "prod")
    assert not bucket(endpoint="https://s3.example.com", path_style=False).is_path_style


def test_without_a_key_credentials_come_from_the_chain_or_a_role():
    role = "arn:aws:iam::123456789012:role/export"
    assert bucket(aws={"profile": "p"}).profile == "p"
    assert bucket(aws={"assume_role": {"role_arn": role}}).assume_role.role_arn == role
    assert not bucket().secret


def test_an_export_without_a_bucket_is_off():
    assert exporters(s3={"region": "eu-west-1"}) == ()


def test_the_secret_of_the_bucket_is_known_as_a_secret():
    config = loads(json.dumps({"exporters": {"s3": {"bucket_name": "usage", **KEY}}})).config
    assert KEY["access_secret"] in active_secrets(config)
    assert KEY["access_secret"] not in repr(config)


def test_a_key_needs_no_botocore(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert bucket(**KEY).access_key_id == "AKIA1"
    with pytest.raises(ConfigError, match="needs botocore; install irisgate"):
        bucket()


def test_a_table_needs_pyarrow_and_has_no_bodies(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as error:
        exporters(folder={"path": "a", "format": "parquet", "bodies": True})
    assert [str(finding).partition(": ")[2] for finding in error.value.findings] == [
        "exporters.folder.format: needs pyarrow; install irisgate[parquet]",
        'exporters.folder.bodies: are not in the format "parquet"; use "cbor.zstd" or "json.gz" for them',
    ]


def test_each_destination_and_format_has_a_position_of_its_own():
    names = {
        exporters(folder={"path": path, "format": form})[0].name for path in "ab" for form in ("json.gz", "cbor.zstd")
    }
    assert len(names) == 4


@pytest.mark.parametrize(("given", "used"), [(0, 1000), (1, 1), (20_000, 10_000)])
def test_the_limit_is_at_most_ten_thousand_as_in_the_hosted_product(given, used):
    assert exporters(folder={"path": "out", "limit": given})[0].limit == used


def test_an_export_is_made_at_most_once_a_second():
    assert exporters(folder={"path": "out", "every": 0})[0].every == 1


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ('"exporters": {»"folder": {}}', "exporters.folder.path: is missing"),
        ('"exporters": {"folder": {»"path": ""}}', "exporters.folder.path: must be the path of a folder, such as"),
        (
            '"exporters": {"folder": {"path": "a", »"format": "csv"}}',
            'exporters.folder.format: "csv" is not one of cbor.zstd, json.gz, parquet',
        ),
        ('"exporters": {"folder": {"path": "a", »"limit": -1}}', "exporters.folder.limit: "),
        ('"exporters": {"s3": {»"prefix": "a/"}}', "warning: exporters.s3.prefix: must not end with a slash"),
        (
            '"exporters": {»"s3": {"access_key_id": "a"}}',
            'warning: exporters.s3: "access_key_id" and "access_secret" belong together; write both or neither',
        ),
        ('"exporters": {"s3": {»"bucket_name": "a/b"}}', 'exporters.s3.bucket_name: "a/b" is no name of a bucket'),
        ('"exporters": {"s3": {»"endpoint": "s3.example.com"}}', "exporters.s3.endpoint: must be an absolute http"),
        (
            '"exporters": {"s3": {"bucket_name": "usage", »"access_key_id": "env:NONE", "access_secret": "s"}}',
            "exporters.s3.access_key_id: the environment variable NONE is not set",
        ),
        (
            '"exporters": {"s3": {"bucket_name": "usage", "access_key_id": "a", "access_secret": "s", »"aws": {"profile": "p"}}}',
            'exporters.s3.aws: has no effect, because "access_key_id" and "access_secret" are used',
        ),
        (
            '"exporters": {"s3": {"bucket_name": "usage", "aws": {"assume_role": {»"role_arn": "x"}}}}',
            'exporters.s3.aws.assume_role.role_arn: "x" is no ARN of a role',
        ),
        ('"exporters": {»"files": {}}', "warning: exporters.files: unknown key; it has no effect"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(section, expected):
    assert_said(section, expected)
