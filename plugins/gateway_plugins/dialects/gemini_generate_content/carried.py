"""Encodes Gemini's thought signatures for clients of other dialects, and decodes the values that clients send back.

- Gemini signs a part of its reply, and wants the signature back on the same part. Gemini 3 refuses a function call
  without its signature. Other dialects have no field for a signature on a text or a function call.
- So the client gets Gemini's signature in a thinking block: as the block's own signature, or as redacted thinking. The
  value also names the kind of the signed part.
- A signature goes back only to the model family that made it. A value that a client changed or forged is ignored, and
  reported as dropped.

Source: Google's guide to thought signatures.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway_plugins.shared.reasoning import Maker

FORM: Final = "gemini"
CALL: Final = "call"
"""`Signature.kind` for the signature of a function call. The client gets it in a thinking block before the call."""
TEXT: Final = "text"
"""`Signature.kind` for the signature of a text. The client gets it in a thinking block after the text."""
THOUGHT: Final = "thought"
"""`Signature.kind` for the signature of thinking. The client gets it in the block with this thinking."""
_KINDS: Final = frozenset({CALL, TEXT, THOUGHT})


class Signature(NamedTuple):
    kind: str
    value: str


def encode(signature: Signature, maker: Maker) -> str:
    """Return a signature, encoded for the client, or "" if it is too large."""
    return maker.encoded(FORM, [signature.kind, signature.value])


def decode(value: str, maker: Maker) -> Signature | None:
    """Return the signature in a value that `encode` made for the same model family, or None for any other value."""
    match maker.decoded(FORM, value):
        case [str(kind), str(signature)] if kind in _KINDS and signature:
            return Signature(kind, signature)
    return None
