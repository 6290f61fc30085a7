"""The tag on reasoning that a client carries for us over turns.

A signature (or the data of redacted thinking) is worth something only to the family of models that made it: another
one answers 400, or reads it as noise. The client keeps the string and sends it back, so the family travels inside it:
`irisgate1:<family>:<signature>`. Shared by all conversions; nothing of a dialect's shape belongs here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PREFIX: Final = "irisgate1:"
"""How every tag begins; nothing without it is ours."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Thinking of an earlier turn, as the client got it from us, tags and all: text with a signature, or `data` of a
    redacted one. Neither: it came from elsewhere, and no provider takes it back.
    """

    at: str
    """JSON pointer of its place in the client's request."""
    text: str = ""
    signature: str = ""
    data: str = ""


def tagged(family: str, value: str) -> str:
    """The signature (or redacted data) as the client gets it."""
    return f"{PREFIX}{family}:{value}"


def untagged(family: str, value: str) -> str | None:
    """What `tagged` was given; None if another family made it, so that it must be dropped aloud.

    A value without our tag comes from elsewhere (a history that began with another gateway): it is left as it is, and
    the provider judges it.
    """
    if not value.startswith(PREFIX):
        return value
    made_by, _, signature = value[len(PREFIX) :].partition(":")
    return signature if made_by == family else None
