"""The credentials that expire and are not signers (`sigv4.py`)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Key:
    """A key that was obtained at run time."""

    value: str = field(repr=False)
    source: str
    """The origin of the key, for people."""
