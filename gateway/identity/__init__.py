"""Who is calling: one value, whatever the listener's mode found it out by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller. `login` is never empty: a caller without one is refused before a call exists."""

    login: str
    """A user's login name; for a tagged node all its tags, sorted and joined by ","; `(loopback)` on this machine."""
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    node: str = ""
    """Stable id of the node that called, where the mode knows it."""


LOOPBACK: Final = Identity("(loopback)")
