r"""Joins characters that a provider's stream splits between two events.

- Some servers cut a stream's text between UTF-16 units, as `"\ud83d"` and `"\ude00"`, or between bytes of UTF-8. Each
  event alone has only a part of the character.
- An event whose text ends inside a character is held back. If the text of a later event begins with the rest of the
  character, the first part is moved to this later event.
- If the rest does not come within a few events, the events are passed on unchanged. The parser then replaces each part
  by U+FFFD (`gateway/contract/lenient_json.py`).

Only JSON text is changed here, so this works in every dialect. Events without a split character are passed on at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.contract.flag import Event

MAX_WAIT: Final = 4
"""Number of events: at most so many are held back to wait for the second part of a character. Between two pieces of a
text, a stream has at most a few pings."""

_ESCAPED_END: Final = re.compile(rb'(\\u[dD][89abAB][0-9a-fA-F]{2})"')
_ESCAPED_START: Final = re.compile(rb'"(\\u[dD][c-fC-F][0-9a-fA-F]{2})')
_BYTES_END: Final = re.compile(rb'([\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})"')
_BYTES_START: Final = re.compile(rb'"([\x80-\xbf]{1,3})')


class _Split(NamedTuple):
    """Offsets of the first part of a split character in a payload: `start` and `end`.

    `rest` is a pattern for the second part, which comes in a later payload.
    """

    start: int
    end: int
    rest: re.Pattern[bytes]


class SplitCharacters:
    """Joins the characters of one stream that are split between two events."""

    def __init__(self) -> None:
        self._held: list[Event] = []
        """Events that are held back. The text of the first one ends within a character."""
        self._split: _Split | None = None

    def feed(self, event: Event) -> Sequence[Event]:
        """Take the next event of the stream. Return the events that can be passed on now."""
        if self._split is None:
            self._split = _find(event.payload)
            if self._split is None:
                return (event,)
            self._held.append(event)
            return ()
        first, split = self._held[0], self._split
        rests = list(split.rest.finditer(event.payload))
        if len(rests) == 1:
            part, at = first.payload[split.start : split.end], rests[0].start(1)
            self._held[0] = Event(first.kind, first.payload[: split.start] + first.payload[split.end :])
            joined = Event(event.kind, event.payload[:at] + part + event.payload[at:])
            return (*self.close(), *self.feed(joined))
        self._held.append(event)
        return self.close() if len(self._held) > MAX_WAIT or rests else ()

    def close(self) -> Sequence[Event]:
        """Return the events that are held back."""
        held, self._held, self._split = self._held, [], None
        return held


def _find(payload: bytes) -> _Split | None:
    """Return the incomplete character at the end of a text in a JSON payload, or None if each text ends with a complete
    character.

    Return None as well if several texts end with an incomplete character.
    """
    if b"\\ud" not in payload and b"\\uD" not in payload and _is_utf8(payload):
        return None  # true of nearly all payloads; the searches below take longer
    escaped = [match for match in _ESCAPED_END.finditer(payload) if _is_escape(payload, match.start())]
    cut = list(_BYTES_END.finditer(payload))
    if len(escaped) + len(cut) != 1:
        return None
    match, rest = (escaped[0], _ESCAPED_START) if escaped else (cut[0], _BYTES_START)
    return _Split(match.start(1), match.end(1), rest)


def _is_utf8(payload: bytes) -> bool:
    try:
        return payload.isascii() or bool(payload.decode())
    except UnicodeDecodeError:
        return False


def _is_escape(payload: bytes, at: int) -> bool:
    """Return whether the backslash at `at` begins an escape: an even number of backslashes precedes it."""
    before = payload[:at]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 0
