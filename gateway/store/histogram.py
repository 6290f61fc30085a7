"""Counts of durations by buckets, from which percentiles are computed.

- The bounds of the buckets grow by a constant factor of 1.8. A percentile is off by this factor at most, and usually by
  a few percent.
- Counts can be added, so the percentiles of any range of time can be computed from sums.
- Two counts are packed into one integer, because sums over many columns are slow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

BOUNDS: Final = tuple(round(50 * 10 ** (step / 4)) for step in range(17))
"""Upper bounds of the buckets in milliseconds, from 50 ms to 500 s, four for each factor of ten. One more bucket counts
longer durations."""
SHIFT: Final = 31
"""Number of bits for the lower of the two counts in a packed integer. Each count must stay below two billion."""
SIZE: Final = (len(BOUNDS) + 1) // 2
"""Number of packed integers for the counts of all buckets."""

_PLACES: Final = tuple((bucket // 2, 1 << SHIFT * (bucket % 2)) for bucket in range(len(BOUNDS) + 1))


def place(duration: float) -> tuple[int, int]:
    """Return two values: the index of the packed integer that counts a duration, and the number to add to this integer.

    `duration` is in milliseconds.
    """
    return _PLACES[bisect_left(BOUNDS, duration)]


def count(durations: Iterable[float]) -> list[int]:
    """Return the number of durations in each bucket, with two counts packed into each integer.

    `durations` are in milliseconds.
    """
    counts = [0] * SIZE
    for duration in durations:
        index, one = place(duration)
        counts[index] += one
    return counts


def unpacked(counts: Iterable[int]) -> tuple[int, ...]:
    """Return the number of durations in each bucket. `counts` are packed integers, such as the result of `count`."""
    mask = (1 << SHIFT) - 1
    return tuple(number for pair in counts for number in (pair & mask, pair >> SHIFT))


def percentile(counts: Sequence[int], fraction: float) -> float | None:
    """Return an estimate of a percentile in milliseconds, or None if there are no durations. `counts` has one number
    for each bucket. For the 95th percentile, `fraction` is 0.95.

    The durations in a bucket are assumed to be spread evenly on a logarithmic scale. The result 50 ms (the first bound)
    means at most 50 ms. The result 500 s (the last bound) means at least 500 s.
    """
    rank = fraction * sum(counts)
    below = counts[0]
    if below and below >= rank:
        return float(BOUNDS[0])
    for low, high, amount in zip(BOUNDS, BOUNDS[1:], counts[1:], strict=False):
        if amount and below + amount >= rank:
            return float(low * (high / low) ** ((rank - below) / amount))
        below += amount
    return float(BOUNDS[-1]) if any(counts) else None
