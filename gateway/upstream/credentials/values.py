"""Keys that are obtained at run time and sent as they are. `sigv4.py` has the credentials that sign requests."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Key:
    """A key that was obtained at run time."""

    value: str = field(repr=False)
    source: str
    """The origin of the key as text, for log and error messages."""
