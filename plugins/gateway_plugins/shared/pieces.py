"""Finds the sizes of pieces of text in events, without decoding the JSON of an event.

Nearly all events of a stream have one piece of text, and nothing else that the gateway must read. Decoding their JSON
would take longer than all other work on these events.
"""

from __future__ import annotations

import re

_TEXT = rb'\s*+:\s*+"([^"\\]*+)"'


def piece_pattern(*names: str) -> re.Pattern[bytes]:
    r"""Return a pattern for a `delta` that is an object with one text. The text's key is one of `names`.

    The object may begin with a field `type`. If `names` is empty, the pattern is for a `delta` that is itself a text.
    The pattern matches only a text without escapes, so that the bytes of the text can be counted.

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
    """Return the number of bytes of the text that `pattern` finds in an event.

    Return None if the event has another form, so that its JSON must be decoded.
    """
    piece = pattern.search(payload)
    return None if piece is None or payload.count(b'"delta"') != 1 else piece.end(1) - piece.start(1)
