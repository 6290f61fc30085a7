"""Counts of durations by buckets, from which percentiles are computed.

The bounds of the buckets grow by a constant factor of 1.8. So a percentile is mostly off by a few percent, whatever its
size, and by this factor if all durations in its bucket are alike. Counts can be added, so percentiles of any range of
time come from sums. Two counts share an integer, because sums over many columns are slow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

BOUNDS: Final = tuple(round(50 * 10 ** (step / 4)) for step in range(17))
"""Upper bounds of the buckets in milliseconds, from 50 ms to 500 s, four for each factor of ten. One more bucket counts
longer durations."""
SHIFT: Final = 31
"""Number of bits of the first of the two counts in an integer. So the sum of a count must be below two billion."""
SIZE: Final = (len(BOUNDS) + 1) // 2
"""Number of integers that have the counts of all buckets."""


def count(durations: Iterable[float]) -> list[int]:
    """Return the number of durations in each bucket, two counts in each integer; the durations are in milliseconds."""
    counts = [0] * SIZE
    for duration in durations:
        bucket = bisect_left(BOUNDS, duration)
        counts[bucket // 2] += 1 << SHIFT * (bucket % 2)
    return counts


def unpacked(counts: Iterable[int]) -> tuple[int, ...]:
    """Return the number of durations in each bucket from integers that have two counts each."""
    mask = (1 << SHIFT) - 1
    return tuple(number for pair in counts for number in (pair & mask, pair >> SHIFT))


def percentile(counts: Sequence[int], fraction: float) -> float | None:
    """Return an estimate of a percentile in milliseconds from the number in each bucket; None without durations.

    The logarithms of the durations in a bucket are taken as evenly spread. Nothing is known of the durations within the
    first bucket and beyond the last bound. The first bound then means at most this bound, and the last bound at least.
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
