"""Shortens JSON text: the middle of each long string, such as the base64 of an image, is cut out.

So searching or decoding the text is fast, even if the body contains large media.

- A run is a sequence of bytes without quotes and backslashes. In each run of at least `MIN_RUN` bytes, a marker such as
  `~70000~` replaces the inner part. Names of fields are much shorter, so all names are kept.
- A long run can also be outside of a string, as in a list of many numbers. Then the shortened text is not valid JSON.
- Equal strings are shortened equally in all requests of a chat, because the cuts depend only on the runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
MIN_RUN: Final = 64 * 1024
"""Minimum size in bytes of a run that is shortened. A run is a sequence of bytes without quotes and backslashes in a
JSON text, such as the base64 of an image.
"""
KEPT: Final = 1024
"""Number of bytes that are kept at each end of a shortened run."""


class Cut(NamedTuple):
    """A part that was cut out of a text."""

    start: int
    """The offset in the whole text at which the part that was cut out begins."""
    shortening: int
    """The number of bytes by which the cut shortens the text: the size of the part that was cut out, minus the size of
    the marker in its place.
    """


class Shortened(NamedTuple):
    """A shortened text, with the parts that were cut out of it."""

    text: bytes
    cuts: tuple[Cut, ...]

    def place(self, offset: int) -> int:
        """Convert an offset in the whole text to the offset of the same byte in the shortened text.

        The byte must not have been cut out.
        """
        return offset - sum([cut.shortening for cut in self.cuts if cut.start < offset])

    def whole_places(self, offsets: Iterable[int]) -> Iterator[int]:
        """Convert offsets in the shortened text to the offsets of the same bytes in the whole text.

        `offsets` must be in ascending order.
        """
        cuts = iter(self.cuts)
        cut, left_out = next(cuts, None), 0
        for offset in offsets:
            while cut is not None and cut.start <= offset + left_out:
                left_out += cut.shortening
                cut = next(cuts, None)
            yield offset + left_out

    def replaced(self, start: int, end: int, value: bytes) -> Shortened:
        """Return the shortened form of the text that results from this change: `value` replaces the bytes from `start`
        to `end`.

        `start` and `end` are offsets in the whole text. They must not be inside a part that was cut out. `value` is not
        shortened.
        """
        growth = len(value) - (end - start)
        text = self.text[: self.place(start)] + value + self.text[self.place(end) :]
        others = [cut for cut in self.cuts if not start <= cut.start < end]
        return Shortened(
            text, tuple([cut._replace(start=cut.start + growth) if cut.start >= end else cut for cut in others])
        )


def shortened(text: bytes) -> Shortened | None:
    """Return JSON text without the middles of its long runs, or None if no run is long.

    A run is a sequence of bytes without quotes and backslashes. It is long if it has at least `MIN_RUN` bytes.

    >>> long_strings.shortened(b'{"image": "' + b"A" * 100_000 + b'"}').text.count(b"A")
    2048
    """
    if len(text) < MIN_RUN:
        return None
    pieces: list[bytes] = []
    cuts: list[Cut] = []
    kept_from = 0
    quote = backslash = -1
    # every run of `MIN_RUN` bytes has one of these places, and begins after the place before it
    for place in range(MIN_RUN - 1, len(text), MIN_RUN):
        quote = quote if quote >= place else _found(text, b'"', place)
        backslash = backslash if backslash >= place else _found(text, b"\\", place)
        end = min(quote, backslash)
        if end == place:
            continue
        floor = max(kept_from, place - MIN_RUN)
        start = max(text.rfind(b'"', floor, place), text.rfind(b"\\", floor, place), kept_from - 1) + 1
        if end - start < MIN_RUN:
            continue
        cut_from, cut_to = start + KEPT, end - KEPT
        marker = b"~%d~" % (cut_to - cut_from)
        cuts.append(Cut(cut_from, cut_to - cut_from - len(marker)))
        pieces += [text[kept_from:cut_from], marker]
        kept_from = cut_to
    return Shortened(b"".join([*pieces, text[kept_from:]]), tuple(cuts)) if cuts else None


def text_size(body: bytes) -> int:
    """Return the size in bytes of a JSON body after its long strings are shortened (`shortened`).

    Return the size of the whole body if the shortened body is not valid JSON, as for a list of many numbers.
    """
    short = shortened(body)
    if short is None:
        return len(body)
    try:
        _ANY.decode(short.text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return len(body)
    return len(short.text)


def _found(text: bytes, sign: bytes, start: int) -> int:
    at = text.find(sign, start)
    return len(text) if at < 0 else at
