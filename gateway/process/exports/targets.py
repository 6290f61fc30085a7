"""The destination of an exporter, by its settings."""

from __future__ import annotations

from gateway.config.exporters import Exporter
from gateway.process.exports.export import Target
from gateway.process.exports.folder import FolderTarget


def target_of(exporter: Exporter) -> Target:
    """Return the destination of an exporter. Nothing is opened yet."""
    return FolderTarget(exporter.folder)
