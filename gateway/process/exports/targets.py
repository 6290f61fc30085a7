"""Creates the destination of an exporter, a folder or S3, from its settings."""

from __future__ import annotations

from gateway.config.exporters import Exporter, S3Bucket
from gateway.process.exports.export import Target
from gateway.process.exports.folder import FolderTarget
from gateway.process.exports.s3 import S3Target


def target_of(exporter: Exporter) -> Target:
    """Return the destination of an exporter. Nothing is opened yet."""
    return S3Target(exporter.to) if isinstance(exporter.to, S3Bucket) else FolderTarget(exporter.to)
