"""The tag on the signature of thinking, which a client stores for the gateway from turn to turn.

- A signature, or the data of redacted thinking, is valid only for the model family that made it: another family answers
  400, or reads noise.
- The client stores that string and sends it back unchanged, so the family travels inside it:
  `irisgate1:<family>:<signature>`.

All conversions share the tag. Nothing of a dialect's form belongs here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PREFIX: Final = "irisgate1:"
"""Start of every tag. A signature without it was not issued by a gateway of this kind."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Thinking of an earlier turn as the client sent it back, still tagged: text with a signature, or redacted `data`.

    Thinking with neither came from elsewhere, and no provider takes it back.
    """

    at: str
    """JSON pointer into the client's request."""
    text: str = ""
    signature: str = ""
    data: str = ""


def tagged(family: str, value: str) -> str:
    """Return a signature, or redacted data, as the client receives it."""
    return f"{PREFIX}{family}:{value}"


def untagged(family: str, value: str) -> str | None:
    """Return the value without its tag; None if another family made it, so that it must be reported as dropped.

    A value without a tag comes from elsewhere, such as a history that began with another gateway. It passes unchanged,
    and the provider judges it.
    """
    if not value.startswith(PREFIX):
        return value
    maker, _, signature = value[len(PREFIX) :].partition(":")
    return signature if maker == family else None
