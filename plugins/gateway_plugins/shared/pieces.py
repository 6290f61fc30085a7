"""Finds the sizes of pieces of text in events, without decoding the JSON of an event.

Nearly all events of a stream have one piece of text, and nothing else that the gateway must read. Decoding their JSON
would take longer than all other work on these events.
"""

from __future__ import annotations

import re

_TEXT = rb'\s*+:\s*+"([^"\\]*+)"'


def piece_pattern(*names: str) -> re.Pattern[bytes]:
    r"""Return a pattern for the text in an event whose field `delta` has only this text.

    The text is in a field of the delta, named by one of `names`. The delta may also have a field `type`. Without
    `names`, the delta is itself the text. A text with escapes does not match, because its bytes could not be counted.

    >>> piece_pattern("text").search(b'{"delta": {"type": "text_delta", "text": "hi"}}')[1]
    b'hi'
    """
    if not names:
        return re.compile(rb'"delta"' + _TEXT)
    alternatives = "|".join(names).encode()
    return re.compile(
        rb'"delta"\s*+:\s*+\{\s*+(?:"type"\s*+:\s*+"[a-z_]*+"\s*+,\s*+)?+"(?:%b)"%b\s*+\}' % (alternatives, _TEXT)
    )


def piece_bytes(pattern: re.Pattern[bytes], payload: bytes) -> int | None:
    """Return the number of bytes of the text in an event, or None if the event must be decoded to know.

    `pattern` finds the text (`piece_pattern`). The event must be decoded if the pattern does not match, or if the event
    has several fields `delta`.
    """
    piece = pattern.search(payload)
    return None if piece is None or payload.count(b'"delta"') != 1 else piece.end(1) - piece.start(1)
