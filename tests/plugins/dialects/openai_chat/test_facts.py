"""Tests of the token counts that the gateway reads from Chat replies, for servers with different fields and
conventions.
"""

import pytest

from gateway.contract.flag import Usage
from gateway_plugins.dialects.openai_chat.usage import Reports
from gateway_plugins.shared.cache_marks import Marks


def reports_of(*reported):
    reports = Reports()
    for usage in reported:
        reports.add(usage)
    return reports


def usage_of(*reported):
    return reports_of(*reported).part(Marks()).usage


CACHED = [
    {"prompt_tokens_details": {"cached_tokens": 60}},
    {"prompt_tokens_details": {"cached_tokens": 0}, "prompt_cache_hit_tokens": 60},
    {"prompt_tokens_details": None, "prompt_cache_hit_tokens": 60, "prompt_cache_miss_tokens": 40},
    {"cached_tokens": 60},
    {"num_cached_tokens": 60},
    {"prompt_token_details": {"cached_tokens": 60}},
    {"input_tokens_details": {"cached_tokens": 60}},
    {"cache_read_input_tokens": 60, "prompt_tokens_details": {"cached_tokens": 60}},
    {"prompt_tokens_details": {"cached_read_tokens": 60}},
]


@pytest.mark.parametrize("told", CACHED)
def test_cached_tokens_count_once_by_each_name(told):
    usage = usage_of({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105, **told})
    assert usage == Usage(input=40, output=5, cache_read=60)


@pytest.mark.parametrize(
    "name", ["cache_write_tokens", "cache_creation_tokens", "cached_write_tokens", "cached_creation_tokens"]
)
def test_tokens_that_were_written_to_a_cache_are_no_plain_input(name):
    usage = usage_of({"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 60, name: 30}})
    assert (usage.input, usage.cache_read, usage.cache_write_5m) == (10, 60, 30)


def test_of_two_counts_of_what_was_written_openais_own_counts():
    details = {"cache_write_tokens": 30, "cache_creation_tokens": 20}
    assert usage_of({"prompt_tokens": 100, "prompt_tokens_details": details}).cache_write_5m == 30


def test_writes_of_an_hour_are_known_by_their_details():
    details = {"cache_creation_tokens": 30, "cache_creation_token_details": {"ephemeral_1h_input_tokens": 20}}
    usage = usage_of({"prompt_tokens": 100, "prompt_tokens_details": details})
    assert (usage.input, usage.cache_write_5m, usage.cache_write_1h) == (70, 10, 20)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        # more cached tokens than prompt tokens: the prompt excludes them, as in Anthropic's counts
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}}, Usage(input=10, cache_read=60)),
        (
            {"prompt_tokens": 90, "completion_tokens": 5, "total_tokens": 155, "cached_tokens": 60},
            Usage(input=90, output=5, cache_read=60),
        ),
    ],
)
def test_a_prompt_without_its_cached_tokens_is_whole_input(told, expected):
    assert usage_of(told) == expected


@pytest.mark.parametrize(
    ("told", "output", "exact"),
    [
        ({"completion_tokens": 5, "total_tokens": 105, "completion_tokens_details": {"reasoning_tokens": 3}}, 5, True),
        (
            {"completion_tokens": 5, "total_tokens": 405, "completion_tokens_details": {"reasoning_tokens": 300}},
            305,
            True,
        ),
        ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 300}}, 305, True),
        ({"completion_tokens": 5, "total_tokens": 405}, 305, False),
        ({"completion_tokens": 5, "total_tokens": 0}, 5, True),
    ],
)
def test_thinking_that_the_completion_leaves_out_is_output(told, output, exact):
    reports = reports_of({"prompt_tokens": 100, **told})
    assert (reports.part(Marks()).usage.output, reports.is_exact(Marks())) == (output, exact)


GOOD = {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 60}}


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ([GOOD, {}], Usage(input=40, output=20, cache_read=60)),
        ([GOOD, {"prompt_tokens": 0, "completion_tokens": 0}], Usage(input=40, output=20, cache_read=60)),
        ([{"prompt_tokens": 0, "completion_tokens": 0}, GOOD], Usage(input=40, output=20, cache_read=60)),
        ([{"prompt_tokens": 100, "completion_tokens": 20}, GOOD], Usage(input=40, output=20, cache_read=60)),
        ([GOOD, {"prompt_tokens": 100, "completion_tokens": 25}], Usage(input=40, output=25, cache_read=60)),
        ([GOOD, {"prompt_tokens": 90, "completion_tokens": 25}], Usage(input=90, output=25)),
        ([GOOD, {"completion_tokens": 25}], Usage(input=40, output=25, cache_read=60)),
        ([GOOD, {"prompt_tokens": 100}], Usage(input=40, output=20, cache_read=60)),
    ],
)
def test_the_last_report_counts(reported, expected):
    assert usage_of(*reported) == expected


@pytest.mark.parametrize(
    ("reported", "expected"),
    [({}, False), ({"prompt_tokens": 0, "completion_tokens": 0}, False), ({"completion_tokens": 1}, True)],
)
def test_usage_has_tokens_where_it_has_a_token(reported, expected):
    assert reports_of(reported).reported is expected


@pytest.mark.parametrize(
    ("told", "charged"),
    [
        ({}, None),
        ({"cost": 0.00014}, 140_000),
        ({"cost": 0}, 0),
        ({"cost": 1e-7, "is_byok": False}, 100),
        ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, 210_000_000),
        ({"cost": 0.01, "is_byok": True}, None),
        ({"cost": {"total_cost": 0.006}}, None),
        ({"cost": -1}, None),
        ({"cost": True}, None),
        ({"cost": "0.1"}, None),
    ],
)
def test_a_router_says_what_it_charged(told, charged):
    assert reports_of({"prompt_tokens": 1, **told}).charged == charged
