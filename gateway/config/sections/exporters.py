"""The section `exporters`: where records of calls are exported to.

The keys of `s3` are those of Aperture's documentation. `folder` is of this gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from gateway.config.document.hujson import Path
from gateway.config.exporters import Exporter, Format
from gateway.config.reading import Reading
from gateway.config.section import PLANNED, Holds, Lacking, Section

DEFAULT_LIMIT: Final = 1000
LARGEST_LIMIT: Final = 10_000
"""Maximum number of calls in one object. Aperture reduces a larger `limit` to it without a message."""
SHORTEST: Final = 1.0
"""Minimum number of seconds between two exports."""
_NO_S3: Final = Lacking("nothing is exported to S3")


def _folder(value: str) -> str:
    if not (value.strip() and value.isprintable()):
        raise ValueError('must be the path of a folder, such as "/var/lib/irisgate/export"')
    return value


class _ExporterSection(Section):
    """The keys of every exporter."""

    every: float = Field(3600, ge=0, description="Seconds between two exports, such as 3600.")
    limit: int = Field(
        DEFAULT_LIMIT, ge=0, description="Maximum number of records in one object, at most 10000, such as 1000."
    )


class S3Section(_ExporterSection):
    """The S3 bucket to which records of calls are to be exported."""

    bucket_name: str = Field("", description='The bucket; the export is on if it is named: "usage".')
    endpoint: str = Field("", description='The address of a compatible store other than AWS: "https://s3.example.com".')
    region: str = Field("us-east-1", description='The region of the bucket: "us-east-1".')
    prefix: str = Field("", description='The beginning of the names of objects, without a "/" at its end: "irisgate".')
    access_key_id: str = Field("", description='The id of a static AWS key, with "access_secret": "AKIA...".')
    access_secret: str = Field("", description='The secret of that key: a literal, "env:NAME" or "file:PATH".')


class FolderSection(_ExporterSection):
    """The folder to which records of calls are exported."""

    path: Annotated[str, AfterValidator(_folder)] = Field(
        description='The folder, which is created if it is missing: "/var/lib/irisgate/export". A relative path begins '
        "at the folder of the configuration.",
        examples=['"path": "/var/lib/irisgate/export"'],
    )
    format: Format = Field(
        "cbor.zstd",
        description='The format of the files: "cbor.zstd" (a CBOR sequence, as Aperture exports it) or "json.gz" (a '
        "line of JSON for each call).",
    )
    bodies: bool = Field(
        False,
        description="Whether the stored bodies of calls (`database.save_raws`) are exported too: true or false.",
    )


class ExportersSection(Section):
    s3: Annotated[dict[str, Any], Holds(S3Section), PLANNED, _NO_S3] = Field(
        default_factory=dict, description='An export to S3 or a compatible store: {"bucket_name": "usage"}.'
    )
    folder: Annotated[dict[str, Any] | None, Holds(FolderSection)] = Field(
        None, description='An export to files: {"path": "/var/lib/irisgate/export"}.'
    )


def read_exporters(raw: Mapping[str, Any], reading: Reading) -> tuple[Exporter, ...]:
    """Return the exporters that are switched on. Report the faults of the section."""
    path: Path = ("exporters",)
    reading.section(ExportersSection, raw, path)
    _check_s3(raw, (*path, "s3"), reading)
    folder = _read_folder(raw, (*path, "folder"), reading)
    return () if folder is None else (folder,)


def _check_s3(raw: Mapping[str, Any], path: Path, reading: Reading) -> None:
    section = reading.within(S3Section, raw, path)
    if section.prefix.endswith("/"):
        reading.report.warn((*path, "prefix"), "must not end with a slash")
    if bool(section.access_key_id) != bool(section.access_secret):
        reading.report.warn(path, '"access_key_id" and "access_secret" belong together; write both or neither')


def _read_folder(raw: Mapping[str, Any], path: Path, reading: Reading) -> Exporter | None:
    section = reading.section(FolderSection, raw["folder"], path) if isinstance(raw.get("folder"), dict) else None
    if section is None:
        return None
    return Exporter("folder", reading.folder / section.path, section.format, *_pace(section), section.bodies)


def _pace(section: _ExporterSection) -> tuple[float, int]:
    """Return the seconds between two exports, and the maximum number of calls in one object."""
    return max(section.every, SHORTEST), min(section.limit or DEFAULT_LIMIT, LARGEST_LIMIT)
