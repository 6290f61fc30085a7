"""Encodes thinking blocks into the field `thoughtSignature`, for replies to clients of Gemini's API.

- A reply has parts. In the next request, clients send the parts back, each with its `thoughtSignature`. Some clients
  (Gemini CLI) leave out the parts that have thinking. So the thinking and its signature are also encoded in the
  `thoughtSignature` of the part that follows.
- The value of the field is base64, because the field is of type bytes. SDKs decode the value, and encode it again in
  the standard or the URL-safe alphabet.
- The value may have several thinking blocks, readable or redacted. The signature of each block has the tag of the model
  family that made it (`shared/reasoning.py`).

Sources: Google's guide to thought signatures, google-genai's type `Part`, Gemini CLI's history.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final

import orjson

_MARK: Final = b"irisgate1+"
"""Beginning of each signature that the gateway writes, before base64. A signature with another beginning comes from
another server."""
_MARK_CHARACTERS: Final = 16
"""Number of base64 characters that contain `_MARK`."""
_STANDARD: Final = str.maketrans("-_", "+/")
_PLACEHOLDERS: Final = frozenset({
    text
    for plain in ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
    for text in (plain.translate(_STANDARD), base64.b64encode(plain.encode()).decode().rstrip("="))
})  # fmt: skip
"""Values that clients send in place of a missing signature, plain and in base64 (Google's guide to thought signatures).

The plain values have `/` instead of `_`, because `is_placeholder` makes the same replacement in the client's value."""


def packed(blocks: Sequence[Mapping[str, str]]) -> str:
    """Return a `thoughtSignature` in which thinking blocks are encoded.

    Each block has `thinking` and `signature`, or `data`. The signature or data must begin with the gateway's tag for
    its model family (`shared/reasoning.py`).
    """
    return base64.b64encode(_MARK + orjson.dumps(blocks)).decode()


def unpacked(value: str) -> list[dict[str, str]] | None:
    """Return the blocks in a value that `packed` made, or None for any other value."""
    plain = value.translate(_STANDARD).rstrip("=")
    try:
        if not base64.b64decode(plain[:_MARK_CHARACTERS]).startswith(_MARK):
            return None
        decoded = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        blocks = orjson.loads(decoded[len(_MARK) :])
    except (binascii.Error, ValueError):
        return None
    if not isinstance(blocks, list) or not all(map(_is_block, blocks)):
        return None
    return blocks


def is_placeholder(value: str) -> bool:
    """Return whether `value` is a placeholder, which clients send if they have no signature."""
    return value.translate(_STANDARD).rstrip("=") in _PLACEHOLDERS


def _is_block(block: object) -> bool:
    return isinstance(block, dict) and all(isinstance(value, str) for value in block.values())
