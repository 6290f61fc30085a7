"""Values of the section `exporters`, as the gateway uses them (`model.py`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gateway.config.credentials import AssumeRole
from gateway.config.document.secrets import Secret

Format = Literal["cbor.zstd", "json.gz", "parquet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Bucket:
    """A bucket in S3 or in a compatible store, and the credentials for it."""

    name: str
    endpoint: str
    """The URL of the store, without the bucket and without a slash at its end."""
    is_path_style: bool = False
    """True if the path of a request names the bucket. False if the host names it."""
    region: str = "us-east-1"
    prefix: str = ""
    """The beginning of the names of objects, without slashes at its ends."""
    access_key_id: str = ""
    secret: Secret = field(default_factory=Secret)
    """The secret access key. It is empty if the credentials come from AWS's usual chain."""
    profile: str = ""
    """The profile in the AWS configuration files. It is "" for the default chain."""
    assume_role: AssumeRole | None = None
    authorities: str = field(default="", repr=False)
    """The accepted CA certificates in PEM format. The value is "" if the system's CA certificates are accepted."""

    @property
    def url(self) -> str:
        """The URL of the bucket with the prefix, as it is shown to people."""
        return "/".join(filter(None, (self.endpoint, self.name, self.prefix)))


@dataclass(frozen=True, slots=True)
class Exporter:
    """An export of all calls to a folder or to a bucket."""

    id: str
    """The key in the section `exporters`."""
    to: Path | S3Bucket
    format: Format = "cbor.zstd"
    every: float = 3600
    """Seconds between two exports."""
    limit: int = 1000
    """Maximum number of calls in one exported file or S3 object."""
    bodies: bool = False
    """True if the stored bodies of calls are exported too."""

    @property
    def name(self) -> str:
        """The name under which the store keeps the progress of the export.

        The name consists of the exporter's key in the configuration, the destination and the format. If one of these
        changes, all calls are exported again.
        """
        return f"{self.id}:{self.destination} {self.format}"

    @property
    def destination(self) -> str:
        """The folder or bucket of the export, as it is shown to people."""
        return self.to.url if isinstance(self.to, S3Bucket) else str(self.to)
