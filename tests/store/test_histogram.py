"""Tests of percentiles that are computed from the counts in a histogram's buckets."""

from random import Random
from statistics import quantiles

import pytest

from gateway.store.histogram import BOUNDS, count, percentile, unpacked


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("middle", "spread"), [(6.0, 0.3), (8.5, 1.0), (7.0, 2.0)])
def test_percentiles_are_near_the_exact_ones(seed, middle, spread):
    chance = Random(seed)
    durations = [chance.lognormvariate(middle, spread) for _ in range(5_000)]
    durations = [min(max(duration, BOUNDS[0]), BOUNDS[-1]) for duration in durations]
    exact = quantiles(durations, n=20)
    counts = unpacked(count(durations))
    for fraction, right in ((0.5, exact[9]), (0.95, exact[18])):
        assert percentile(counts, fraction) == pytest.approx(right, rel=0.22)


def test_counts_of_several_batches_are_added():
    one, other = [10, 60, 600, 1e9], [60, 499_999]
    sums = [a + b for a, b in zip(count(one), count(other), strict=True)]
    assert unpacked(sums) == unpacked(count([*one, *other]))
    assert sum(unpacked(sums)) == 6


def test_no_durations_have_no_percentile():
    assert percentile(unpacked(count([])), 0.95) is None


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.95])
@pytest.mark.parametrize("duration", [0, 1, 30, 49.9, 50])
def test_durations_below_the_first_bound_count_as_the_bound(duration, fraction):
    """Check that no percentile is below the first bound of the histogram, 50 ms.

    The histogram does not tell how much shorter than 50 ms a call was, so an interpolated value such as 48 ms would be
    wrong.
    """
    assert percentile(unpacked(count([duration] * 100)), fraction) == BOUNDS[0]
    assert percentile(unpacked(count([duration] * 100 + [60] * 900)), 0.5) > BOUNDS[0]


def test_durations_beyond_the_last_bound_count_as_the_bound():
    assert percentile(unpacked(count([1e9])), 0.5) == BOUNDS[-1]
