"""Tests that the error for a misspelt name suggests the name that was probably meant."""

import pytest

from gateway.upstream.near_names import MAX_COMPARED, near_names
from tests.helpers.gateway import HAIKU, NOVA, SONNET

GRANTED = ["us.anthropic.claude-opus-4-6-v1", SONNET, HAIKU, NOVA, "us.amazon.nova-pro-v1:0", "gpt-down"]


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("claude-haiku-4-5", HAIKU),
        ("haiku", HAIKU),
        ("HAIKU", HAIKU),
        ("claude-haiku-4-5-20251001", HAIKU),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", HAIKU),
        ("eu.anthropic.claude-haiku-4-5-20251001-v1:0", HAIKU),
        ("claude-4.5-haiku", HAIKU),
        ("Claude Haiku 4.5", HAIKU),
        ("cluade-haiku-4-5", HAIKU),
        ("claude-sonnet-4-6", SONNET),
        ("nova-lite", NOVA),
        ("amazon.nova-lite-v1:0", NOVA),
        ("bedrock/us.amazon.nova-lite-v1:0", NOVA),
        ("nova-light", NOVA),
        ("gpt-dwon", "gpt-down"),
    ],
)
def test_a_name_that_is_nearly_right_gets_the_one_that_was_meant(wanted, meant):
    assert near_names(wanted, GRANTED)[:1] == [meant]


def test_a_name_that_contains_it_stands_before_one_that_only_looks_like_it():
    assert near_names("gpt-5", ["gpt-down", "gpt-4", "openai.gpt-5.4"]) == ["openai.gpt-5.4", "gpt-4"]


@pytest.mark.parametrize("wanted", ["gpt-5", "grok", "", "a", "x" * 3000])
def test_nothing_is_suggested_for_a_name_that_is_like_none(wanted):
    assert near_names(wanted, GRANTED) == []


def test_a_number_that_goes_on_is_another_number():
    assert near_names("model-4", ["model-45-with-a-long-name", "vendor.model-4-with-a-long-name"])[0].startswith("ven")


@pytest.mark.parametrize("wanted", ["haiku", "claude-haiku-4-5", "haiku-4.5"])
def test_of_thousands_of_names_the_meant_one_is_found(wanted):
    names = [f"vendor.model-{number}" for number in range(20 * MAX_COMPARED)]
    assert near_names(wanted, [*names, HAIKU])[:1] == [HAIKU]
