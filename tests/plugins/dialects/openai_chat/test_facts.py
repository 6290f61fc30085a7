"""Chat's counts of tokens in the gateway's vocabulary."""

import pytest

from gateway_plugins.dialects.openai_chat.facts import has_tokens, usage_of


@pytest.mark.parametrize("name", ["cache_write_tokens", "cache_creation_tokens"])
def test_tokens_that_were_written_to_a_cache_are_no_plain_input(name):
    usage = usage_of({"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 60, name: 30}})
    assert (usage.input, usage.cache_read, usage.cache_write_5m) == (10, 60, 30)


def test_of_two_counts_of_what_was_written_openais_own_counts():
    details = {"cache_write_tokens": 30, "cache_creation_tokens": 20}
    assert usage_of({"prompt_tokens": 100, "prompt_tokens_details": details}).cache_write_5m == 30


def test_more_cached_than_prompt_tokens_leave_no_plain_input():
    """Check that a report of more cached tokens than prompt tokens leaves no plain input."""
    assert usage_of({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}}).input == 0


@pytest.mark.parametrize(
    ("reported", "expected"),
    [({}, False), ({"prompt_tokens": 0, "completion_tokens": 0}, False), ({"completion_tokens": 1}, True)],
)
def test_usage_has_tokens_where_it_has_a_token(reported, expected):
    assert has_tokens(reported) is expected
