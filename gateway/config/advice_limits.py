"""Warnings about limits of the section `server` that contradict each other."""

from __future__ import annotations

from typing import Final

from gateway.config.document.hujson import Path
from gateway.config.findings import Report
from gateway.config.server import Limits

_LIMITS: Final[Path] = ("server", "limits")


def advise_limits(limits: Limits, report: Report) -> None:
    if limits.buffer_bytes < limits.body_bytes:
        report.warn(
            _written("buffer_bytes", "body_bytes", report),
            f"bodies of more than {limits.buffer_bytes} bytes ({_name('buffer_bytes')}) are always refused, although "
            f"{limits.body_bytes} ({_name('body_bytes')}) are allowed; raise the first or lower the second",
        )
    for part, whole, most in (
        ("calls_per_identity", "calls", limits.calls),
        ("connections_per_peer", "connections", limits.connections),
    ):
        # the default of the part may be above a small limit of the whole, and does no harm there
        path = (*_LIMITS, part)
        if most is not None and path in report.document.offsets and getattr(limits, part) > most:
            report.warn(path, f"has no effect: {_name(whole)} allows {most} in all")


def _written(first: str, second: str, report: Report) -> Path:
    """Return the path of `first` if the document sets this limit. If not, return the path of `second`, which it must
    set.
    """
    return next(path for name in (first, second) if (path := (*_LIMITS, name)) in report.document.offsets)


def _name(limit: str) -> str:
    return ".".join((*map(str, _LIMITS), limit))
