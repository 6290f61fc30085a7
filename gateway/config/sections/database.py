"""Reads `database`: what is kept of the bodies of calls. Calls and sessions are `storage`, in `server.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.config.document.hujson import Path
from gateway.config.fields import retention_seconds
from gateway.config.model import Bodies, Storage
from gateway.config.reading import Reading
from gateway.config.sections.database_model import DatabaseSection, RetentionSection


def read_bodies(raw: Mapping[str, Any], storage: Storage, reading: Reading) -> Bodies:
    """Bodies never outlive their calls, whatever the section says."""
    path: Path = ("database",)
    section = reading.section(DatabaseSection, raw, path) or DatabaseSection.model_validate({})
    retention = retention_seconds(reading.within(RetentionSection, raw, (*path, "retention")).duration)
    bounds = [seconds for seconds in (retention, storage.retention) if seconds is not None]
    shortest = min(bounds, default=None)
    return Bodies(section.max_bytes if section.save_raws and shortest != 0 else 0, shortest)
