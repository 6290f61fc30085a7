"""Bounds for texts that a client or a provider made up, so that none can be one that a store refuses."""

from __future__ import annotations

from typing import Final

MAX_TEXT: Final = 1024
"""Letters kept of one text; the longest honest ones are ARNs and error names."""


def bounded(value: str) -> str:
    """At most `MAX_TEXT` letters, none of them half a surrogate pair, which SQLite refuses."""
    if len(value) <= MAX_TEXT and value.isascii():
        return value
    text = value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"
    return text.encode("utf-8", "replace").decode()
