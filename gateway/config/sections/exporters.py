"""The section `exporters`: where records of calls are to be exported.

Nothing is exported yet. The section is checked anyway, so that today's configurations still load in a later release
that exports records. The keys are those of Aperture's documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.reading import Reading
from gateway.config.section import Holds, Lacking, Section

NO_EXPORT: Final = Lacking("nothing is exported")


class S3Section(Section):
    """The S3 bucket to which records of calls are to be exported."""

    bucket_name: str = Field("", description='The bucket; the export is on if it is named: "usage".')
    endpoint: str = Field("", description='The address of a compatible store other than AWS: "https://s3.example.com".')
    region: str = Field("us-east-1", description='The region of the bucket: "us-east-1".')
    prefix: str = Field("", description='The beginning of the names of objects, without a "/" at its end: "irisgate".')
    access_key_id: str = Field("", description='The id of a static AWS key, with "access_secret": "AKIA...".')
    access_secret: str = Field("", description='The secret of that key: a literal, "env:NAME" or "file:PATH".')
    every: float = Field(3600, ge=0, description="Seconds between two exports, such as 3600.")
    limit: int = Field(1000, ge=0, description="Maximum number of records in one export, at most 10000, such as 1000.")


class ExportersSection(Section):
    s3: Annotated[dict[str, Any], Holds(S3Section)] = Field(
        default_factory=dict, description='An export to S3 or a compatible store: {"bucket_name": "usage"}.'
    )


def check_exporters(raw: Mapping[str, Any], reading: Reading) -> None:
    """Report the faults of the section `exporters`."""
    path: Path = ("exporters", "s3")
    reading.section(ExportersSection, raw, path[:1])
    section = reading.within(S3Section, raw, path)
    if section.prefix.endswith("/"):
        reading.report.warn((*path, "prefix"), "must not end with a slash")
    if bool(section.access_key_id) != bool(section.access_secret):
        reading.report.warn(path, '"access_key_id" and "access_secret" belong together; write both or neither')
