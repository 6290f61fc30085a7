"""The tag on the signature of thinking, which names the model family that made the signature.

- A signature, or the data of redacted thinking, is valid only for the model family that made it. Another family answers
  400, or cannot use it.
- The client stores the signature or data and sends it back unchanged in the next turn. So the gateway puts the family
  before the signature or data: `irisgate1:<family>:<signature>`.

The tag is the same in all dialects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PREFIX: Final = "irisgate1:"
"""Beginning of every tag. A signature without a tag does not come from this gateway."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Thinking of an earlier turn that the client sent back: text with a signature, or redacted `data`.

    The signature or data still has its tag. Providers that check signatures refuse thinking without them.
    """

    at: str
    """JSON pointer of the thinking in the client's request."""
    text: str = ""
    signature: str = ""
    data: str = ""


def tagged(family: str, value: str) -> str:
    """Return a signature, or redacted data, with the tag of the model family that made it."""
    return f"{PREFIX}{family}:{value}"


def untagged(family: str, value: str) -> str | None:
    """Return the signature or redacted data without its tag, or None if its tag names another family than `family`.

    The caller reports thinking of another family as dropped. A value without a tag comes from elsewhere, such as a
    conversation that began with another gateway. It is returned unchanged, and the provider accepts or refuses it.
    """
    if not value.startswith(PREFIX):
        return value
    maker, _, signature = value[len(PREFIX) :].partition(":")
    return signature if maker == family else None
