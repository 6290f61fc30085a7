"""The section `database`: whether the bodies of calls are stored, how much of them, and for how long.

The keys are those of Aperture's documentation, apart from `max_bytes`, which is a key of this gateway. How long calls
and sessions are stored is in the section `storage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.fields import Retention, retention_seconds
from gateway.config.model import Bodies, Storage
from gateway.config.reading import Reading
from gateway.config.section import PLANNED, Holds, Lacking, Section

MAX_BYTES: Final = 65536
"""Default for the maximum number of bytes stored of each body.

This is enough for the beginning of a long conversation. With this maximum, the bodies of 15,000 calls take about 2
GB."""
LARGEST: Final = 512 * 1024
"""Largest allowed value of `max_bytes`. Each call in flight may hold twice this number of bytes in memory."""

_NO_EXPORT: Final = Lacking("nothing is exported, and what is too old is removed all the same")
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
    keep_encrypted_blobs: Annotated[bool, PLANNED, _AS_THEY_CAME] = Field(
        False, description="Whether encrypted parts of bodies are stored: true or false."
    )


def read_bodies(raw: Mapping[str, Any], storage: Storage, reading: Reading) -> Bodies:
    """Return the settings for storing bodies. Bodies are never stored longer than their calls."""
    path: Path = ("database",)
    section = reading.section(DatabaseSection, raw, path) or DatabaseSection.model_validate({})
    retention = retention_seconds(reading.within(RetentionSection, raw, (*path, "retention")).duration)
    bounds = [seconds for seconds in (retention, storage.retention) if seconds is not None]
    shortest = min(bounds, default=None)
    return Bodies(section.max_bytes if section.save_raws and shortest != 0 else 0, shortest)
