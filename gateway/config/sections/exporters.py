"""The section `exporters`: the places to which records of calls are exported.

`s3` has the keys of Aperture's documentation, and the keys `format`, `bodies`, `path_style`, `aws` and `ca_file`, which
only this gateway has. The exporter `folder` also exists only in this gateway.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path as FolderPath
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from gateway.config.document.hujson import Path
from gateway.config.exporters import Exporter, Format, S3Bucket
from gateway.config.fields import BaseUrl, FilePath
from gateway.config.reading import Reading
from gateway.config.section import Holds, Section
from gateway.config.sections.authorities import read_authorities
from gateway.config.sections.aws import AssumeRoleSection, read_assume_role

DEFAULT_LIMIT: Final = 1000
LARGEST_LIMIT: Final = 10_000
"""Maximum number of calls in one exported object. A larger `limit` is reduced to this number without a message, as in
Aperture, Tailscale's hosted gateway.
"""
SHORTEST: Final = 1.0
"""Minimum number of seconds between two exports."""
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,220}")
_CHINA: Final = "cn-"
"""Prefix of the regions in China, whose hosts are in another domain."""


def _folder(value: str) -> str:
    if not (value.strip() and value.isprintable()):
        raise ValueError('must be the path of a folder, such as "/var/lib/irisgate/export"')
    return value


def _bucket(value: str) -> str:
    if value and not _BUCKET.fullmatch(value):
        raise ValueError(f'{json.dumps(value[:80])} is no name of a bucket; write one such as "usage"')
    return value


class _ExporterSection(Section):
    """The configuration keys that all kinds of exporters have."""

    every: float = Field(3600, ge=0, description="Seconds between two exports, such as 3600.")
    limit: int = Field(
        DEFAULT_LIMIT, ge=0, description="Maximum number of records in one object, at most 10000, such as 1000."
    )
    format: Format = Field(
        "cbor.zstd",
        description='The format of the objects: "cbor.zstd" (a CBOR sequence, as Aperture exports it), "json.gz" (a '
        'line of JSON for each call) or "parquet" (a table; needs the extra `parquet`).',
    )
    bodies: bool = Field(
        False,
        description="Whether the stored bodies of calls (`database.save_raws`) are exported too: true or false.",
    )


class S3AwsSection(Section):
    """The AWS credentials for the bucket, from AWS's usual chain. Needs the extra `aws`."""

    profile: str = Field("", description='A profile of ~/.aws/config: "export". By default, the default chain is used.')
    assume_role: Annotated[dict[str, Any] | None, Holds(AssumeRoleSection)] = Field(
        None,
        description='A role whose credentials are used: {"role_arn": "arn:aws:iam::123456789012:role/export"}.',
    )


class S3Section(_ExporterSection):
    """The S3 bucket to which records of calls are exported."""

    bucket_name: Annotated[str, AfterValidator(_bucket)] = Field(
        "", description='The bucket; the export is on if it is named: "usage".'
    )
    endpoint: BaseUrl = Field(
        "", description='The address of a compatible store other than AWS: "https://s3.example.com".'
    )
    region: str = Field("us-east-1", description='The region of the bucket: "us-east-1".')
    prefix: str = Field("", description='The beginning of the names of objects, without a "/" at its end: "irisgate".')
    path_style: bool | None = Field(
        None,
        description="Whether the bucket is named in the path of requests (true) or in their host (false). By default, "
        "it is in the path if `endpoint` is set or the bucket's name has a dot.",
    )
    access_key_id: str = Field(
        "", description='The id of a static AWS key, with "access_secret": "AKIA..." or "env:NAME".'
    )
    access_secret: str = Field("", description='The secret of that key: a literal, "env:NAME" or "file:PATH".')
    aws: Annotated[dict[str, Any], Holds(S3AwsSection)] = Field(
        default_factory=dict,
        description="Where the credentials come from without a static key: "
        '{"assume_role": {"role_arn": "arn:aws:iam::123456789012:role/export"}}. By default, it is AWS\'s usual chain.',
    )
    ca_file: FilePath = Field(
        "",
        description="A file with the certificates of the authorities that may vouch for the store. "
        "Without it, those of the operating system are trusted.",
    )


class FolderSection(_ExporterSection):
    """The folder to which records of calls are exported."""

    path: Annotated[str, AfterValidator(_folder)] = Field(
        description='The folder, which is created if it is missing: "/var/lib/irisgate/export". A relative path begins '
        "at the folder of the configuration.",
        examples=['"path": "/var/lib/irisgate/export"'],
    )


class ExportersSection(Section):
    s3: Annotated[dict[str, Any] | None, Holds(S3Section)] = Field(
        None, description='An export to S3 or a compatible store: {"bucket_name": "usage"}.'
    )
    folder: Annotated[dict[str, Any] | None, Holds(FolderSection)] = Field(
        None, description='An export to files: {"path": "/var/lib/irisgate/export"}.'
    )


def read_exporters(raw: Mapping[str, Any], reading: Reading) -> tuple[Exporter, ...]:
    """Return the exporters that are switched on. Report the faults of the section."""
    path: Path = ("exporters",)
    reading.section(ExportersSection, raw, path)
    exporters = _read_s3(raw, (*path, "s3"), reading), _read_folder(raw, (*path, "folder"), reading)
    return tuple(each for each in exporters if each is not None)


def _check_format(section: _ExporterSection, path: Path, reading: Reading) -> None:
    if section.format != "parquet":
        return
    if find_spec("pyarrow") is None:
        reading.report.error((*path, "format"), "needs pyarrow; install irisgate[parquet]")
    if section.bodies:
        reading.report.error(
            (*path, "bodies"), 'are not in the format "parquet"; use "cbor.zstd" or "json.gz" for them'
        )


def _read_folder(raw: Mapping[str, Any], path: Path, reading: Reading) -> Exporter | None:
    section = reading.section(FolderSection, raw["folder"], path) if isinstance(raw.get("folder"), dict) else None
    if section is None:
        return None
    _check_format(section, path, reading)
    return _exporter("folder", reading.folder / section.path, section)


def _read_s3(raw: Mapping[str, Any], path: Path, reading: Reading) -> Exporter | None:
    section = reading.section(S3Section, raw["s3"], path) if isinstance(raw.get("s3"), dict) else None
    if section is None:
        return None
    if section.prefix.endswith("/"):
        reading.report.warn((*path, "prefix"), "must not end with a slash")
    if bool(section.access_key_id) != bool(section.access_secret):
        reading.report.warn(path, '"access_key_id" and "access_secret" belong together; write both or neither')
    if not section.bucket_name:
        return None
    _check_format(section, path, reading)
    return _exporter("s3", _read_bucket(section, path, reading), section)


def _read_bucket(section: S3Section, path: Path, reading: Reading) -> S3Bucket:
    has_key = bool(section.access_key_id and section.access_secret)
    if not has_key and find_spec("botocore") is None:
        message = 'needs botocore; install irisgate[aws], or write "access_key_id" and "access_secret"'
        reading.report.error(path, message)
    if has_key and section.aws:
        message = 'has no effect, because "access_key_id" and "access_secret" are used; leave one of the two out'
        reading.report.error((*path, "aws"), message)
    aws = reading.section(S3AwsSection, section.aws, (*path, "aws")) or S3AwsSection.model_validate({})
    named = "." in section.bucket_name or bool(section.endpoint)
    return S3Bucket(
        name=section.bucket_name,
        endpoint=section.endpoint.rstrip("/") or _of_region(section.region),
        is_path_style=named if section.path_style is None else section.path_style,
        region=section.region,
        prefix=section.prefix.strip("/"),
        access_key_id=reading.secret(section.access_key_id, (*path, "access_key_id")).value if has_key else "",
        secret=reading.secret(section.access_secret if has_key else None, (*path, "access_secret")),
        profile=aws.profile,
        assume_role=read_assume_role(aws.assume_role, (*path, "aws", "assume_role"), reading),
        authorities=read_authorities(section.ca_file, (*path, "ca_file"), reading),
    )


def _of_region(region: str) -> str:
    """Return the URL of S3 in a region."""
    return f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith(_CHINA) else ''}"


def _exporter(name: str, to: FolderPath | S3Bucket, section: _ExporterSection) -> Exporter:
    limit = min(section.limit or DEFAULT_LIMIT, LARGEST_LIMIT)
    return Exporter(name, to, section.format, max(section.every, SHORTEST), limit, section.bodies)
