"""Divides a stream into chunks, and finds few borders between chunks with which a law still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

CHUNK_SIZES: Final = (1, 2, 3, 7, 64)
"""Sizes of chunks in bytes. Chunks of one byte break a stream at every place."""
MAX_WORK: Final = 2_000_000
"""Maximum number of bytes that a law decodes for one stream. A decoder in Python takes about a second for them."""
_CONTEXT: Final = 20
"""Number of bytes that are shown on each side of a border."""


def chunkings(data: bytes) -> Iterator[list[bytes]]:
    """Yield the data as a list of chunks, once for each size of a chunk."""
    for size in CHUNK_SIZES:
        yield [data[start : start + size] for start in range(0, len(data), size)]


def divided(data: bytes, borders: Sequence[int]) -> list[bytes]:
    """Return the data as chunks that end at the borders."""
    ends = [*borders, len(data)]
    return [data[start:end] for start, end in zip([0, *borders], ends, strict=True)]


def fewest_borders(data: bytes, borders: Sequence[int], fails: Callable[[list[bytes]], bool]) -> list[int]:
    """Return a minimal part of the borders with which the law still fails.

    `fails` returns whether the law fails for a list of chunks. With all borders, it must return True. Halves are
    removed first, and then smaller groups down to single borders (Zeller's delta debugging).
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
    """Return evenly spread positions below `end` at which to cut a stream. `MAX_WORK` limits their number."""
    many = max(100, MAX_WORK // max(1, len(data)))
    return range(0, end, max(1, end // many))
