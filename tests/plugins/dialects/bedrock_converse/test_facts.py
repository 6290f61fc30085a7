"""Tests of the token counts that the gateway reads from Converse's replies."""

from __future__ import annotations

import pytest

from gateway.contract.flag import Usage
from gateway_plugins.dialects.bedrock_converse.facts import Reports
from gateway_plugins.shared.cache_marks import Marks


def usage_of(*reported):
    reports = Reports()
    for usage in reported:
        reports.add({"usage": usage})
    return reports.part(Marks()).usage


@pytest.mark.parametrize(
    ("written", "details", "expected"),
    [
        (8, [], (8, 0)),
        (8, [("5m", 8)], (8, 0)),
        (8, [("5m", 3), ("1h", 5)], (3, 5)),
        (8, [("1h", 8)], (0, 8)),
        (8, [("1h", 3)], (5, 3)),
        (None, [("5m", 2), ("5m", 3)], (5, 0)),
        (None, [("5m", 2), ("1h", 3)], (2, 3)),
        (2, [("1h", 8)], (0, 8)),
    ],
)
def test_cache_writes_have_lifetimes_even_without_their_sum(written, details, expected):
    """Check that cache writes are counted by lifetime, even if the report lacks their total."""
    reported = {"inputTokens": 1, "cacheDetails": [{"ttl": ttl, "inputTokens": count} for ttl, count in details]}
    usage = usage_of(reported | ({} if written is None else {"cacheWriteInputTokens": written}))
    assert (usage.cache_write_5m, usage.cache_write_1h) == expected


@pytest.mark.parametrize("details", [None, "x", [1], [{"ttl": "5m"}], [{"ttl": "5m", "inputTokens": "7.5"}]])
def test_details_of_a_wrong_type_count_as_missing(details):
    assert usage_of({"cacheDetails": details, "cacheWriteInputTokens": 4}).cache_write_5m == 4


@pytest.mark.parametrize("ending", ["InputTokens", "InputTokenCount"])
def test_counts_of_the_cache_are_known_by_both_of_their_names(ending):
    usage = usage_of({f"cacheRead{ending}": 7, f"cacheWrite{ending}": 8})
    assert (usage.cache_read, usage.cache_write_5m) == (7, 8)


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ({"inputTokens": 3, "outputTokens": 9, "cacheReadInputTokens": 4}, Usage(input=3, output=9, cache_read=4)),
        ({"inputTokens": 0, "outputTokens": 0}, Usage(input=7, output=5)),
        ({"inputTokens": None, "outputTokens": 6}, Usage(input=7, output=6)),
        (None, Usage(input=7, output=5)),
    ],
)
def test_the_last_metadata_counts(later, expected):
    assert usage_of({"inputTokens": 7, "outputTokens": 5}, later) == expected
