"""Divides a stream into chunks, and finds the fewest chunk borders with which a law (a rule for plugins) fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

CHUNK_SIZES: Final = (1, 2, 3, 7, 64)
"""Sizes of chunks in bytes. With the size 1, a stream is cut between all bytes."""
MAX_WORK: Final = 2_000_000
"""Maximum number of bytes that a law (rule for plugins) decodes to test one stream with many different cuts. Decoding
them takes about a second in Python."""
_CONTEXT: Final = 20
"""Number of bytes that `shown_borders` shows before and after each border between two chunks."""


def chunkings(data: bytes) -> Iterator[list[bytes]]:
    """Yield lists of chunks of the data. There is one list for each chunk size in `CHUNK_SIZES`."""
    for size in CHUNK_SIZES:
        yield [data[start : start + size] for start in range(0, len(data), size)]


def divided(data: bytes, borders: Sequence[int]) -> list[bytes]:
    """Return the data as chunks that end at the borders."""
    ends = [*borders, len(data)]
    return [data[start:end] for start, end in zip([0, *borders], ends, strict=True)]


def fewest_borders(data: bytes, borders: Sequence[int], fails: Callable[[list[bytes]], bool]) -> list[int]:
    """Return as few of `borders` as possible with which the law still fails (Zeller's delta debugging).

    Borders are the offsets at which `data` is divided into chunks. `fails` returns whether the law fails for a list of
    chunks. It must return True for the chunks of all `borders`.

    The search first leaves out half of the borders at once, then fewer, and at last single borders.
    """
    kept, size = list(borders), len(borders) // 2
    while size:
        start = 0
        while start < len(kept):
            fewer = kept[:start] + kept[start + size :]
            if fails(divided(data, fewer)):
                kept = fewer
            else:
                start += size
        size //= 2
    return kept


def shown_borders(data: bytes, borders: Sequence[int]) -> str:
    """Return the bytes around each border, with a bar at the border."""
    places = [f"{data[max(0, at - _CONTEXT) : at]!r} | {data[at : at + _CONTEXT]!r} (byte {at})" for at in borders]
    return "; ".join(places) or "the stream in one piece"


def cuts(data: bytes, end: int) -> range:
    """Return the positions at which a law (rule for plugins) cuts the stream `data`, evenly spread from 0 to `end`.

    `MAX_WORK` limits the number of positions.
    """
    many = max(100, MAX_WORK // max(1, len(data)))
    return range(0, end, max(1, end // many))
