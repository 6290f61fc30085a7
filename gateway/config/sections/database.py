"""The section `database`: which bodies and headers of calls are stored, and for how long.

The keys are those of Aperture's documentation, except `max_bytes`, which only this gateway has. Aperture's
documentation does not say which section has the key `filterable` (the headers whose values are recorded); here it is
this section. The section `storage` says how long calls and sessions are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.fields import RecordedHeaders, Retention, retention_seconds
from gateway.config.model import Bodies
from gateway.config.reading import Reading
from gateway.config.section import PLANNED, Holds, Lacking, Section
from gateway.config.storage import Storage

MAX_BYTES: Final = 65536
"""Default for the maximum number of bytes stored of each body.

This is enough for the beginning of a long conversation. With this maximum, the bodies of 15,000 calls take about 2
GB."""
LARGEST: Final = 512 * 1024
"""Largest allowed value of `max_bytes`. Each call in flight may hold twice this number of bytes in memory."""

_NO_EXPORT: Final = Lacking("what is too old is removed all the same, whether it was exported or not")
_ONLY_BODIES: Final = Lacking("bodies are removed, and the names of tools stay with their calls")
_AS_THEY_CAME: Final = Lacking("bodies are stored as they came, with everything that is in them")


class RetentionSection(Section):
    """The time for which bodies of calls are stored."""

    duration: Retention = Field(
        "",
        description='How long bodies are stored, from "1h" to "3650d", but not longer than '
        'their calls; "" for ever, "0" not at all.',
    )
    require_export: Annotated[bool, PLANNED, _NO_EXPORT] = Field(
        False, description="Whether bodies are removed only after their export: true or false."
    )
    purge: Annotated[tuple[Literal["captures", "tools"], ...], PLANNED, _ONLY_BODIES] = Field(
        ("captures",),
        strict=False,
        description='What is removed after this time: ["captures"] or ["captures", "tools"].',
    )


class DatabaseSection(Section):
    retention: Annotated[dict[str, Any], Holds(RetentionSection)] = Field(
        default_factory=dict, description='How long bodies are stored: {"duration": "30d"}.'
    )
    save_raws: bool = Field(
        False,
        description="Whether bodies of requests and replies are stored: true or false.",
    )
    max_bytes: int = Field(
        MAX_BYTES,
        ge=1024,
        le=LARGEST,
        description="Maximum number of bytes that are stored of each body, such as 65536.",
    )
    filterable: RecordedHeaders = Field(
        (),
        description="Headers of requests and of providers' replies whose values are recorded with calls, at most 8. "
        'Grants say who may filter by them (`filterable_headers`): ["x-team", "x-project"].',
    )
    keep_encrypted_blobs: Annotated[bool, PLANNED, _AS_THEY_CAME] = Field(
        False, description="Whether encrypted parts of bodies are stored: true or false."
    )


class Database(NamedTuple):
    """The settings of the section `database`."""

    bodies: Bodies
    filterable_headers: tuple[str, ...]
    """Headers whose values are recorded with calls."""


def read_database(raw: Mapping[str, Any], storage: Storage, reading: Reading) -> Database:
    """Return the settings for storing bodies and values of headers.

    - Bodies are never stored longer than their calls.
    - If bodies are not kept at all (`retention.duration` is "0"), no header is recorded either, because headers are a
      part of what clients send.
    """
    path: Path = ("database",)
    section = reading.section(DatabaseSection, raw, path) or DatabaseSection.model_validate({})
    retention = retention_seconds(reading.within(RetentionSection, raw, (*path, "retention")).duration)
    bounds = [seconds for seconds in (retention, storage.retention) if seconds is not None]
    shortest = min(bounds, default=None)
    headers = section.filterable
    if headers and retention == 0:
        reading.report.warn((*path, "filterable"), 'no header is recorded while "retention.duration" is "0"')
        headers = ()
    return Database(Bodies(section.max_bytes if section.save_raws and shortest != 0 else 0, shortest), headers)
