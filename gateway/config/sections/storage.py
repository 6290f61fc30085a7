"""The section `storage`: where calls and sessions are stored, and for how long.

The settings for the bodies of calls are in the section `database`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from gateway.config.fields import Retention, SqliteUrl, retention_seconds
from gateway.config.model import Storage
from gateway.config.reading import Reading
from gateway.config.section import Section


class StorageSection(Section):
    url: SqliteUrl = Field(None, description='Where records are stored: "sqlite:/var/lib/irisgate/irisgate.db".')
    retention: Retention = Field(
        "",
        description='How long calls and sessions are stored, such as "90d"; "" is for ever. '
        "The totals by hour and day are never deleted.",
    )
    sync: bool = Field(
        default=False,
        description="Send a call only when its line is on the disk, so that a power cut loses the cost of no call.",
    )


def read_storage(raw: Any, reading: Reading) -> Storage:
    section = reading.section(StorageSection, raw, ("storage",))
    if section is None:
        return Storage()
    return Storage(section.url, retention_seconds(section.retention), section.sync)
