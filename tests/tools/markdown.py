"""Helpers for the tools that write Markdown pages."""

from __future__ import annotations

import re
import textwrap
from typing import Final

WIDTH: Final = 120
"""Maximum length of a line, as everywhere in this repository."""


def wrapped(text: str, indent: str = "") -> list[str]:
    """Return the text as lines. A code span or a link is never broken, so that it can be searched for and copied."""
    whole = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)", lambda span: span[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(whole, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]


def anchor(heading: str) -> str:
    """Return the anchor that a Markdown page gives to a heading: lower case, hyphens for spaces, no punctuation."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
