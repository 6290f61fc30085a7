"""Tests of the section `capabilities` of a provider: to which models its patterns apply, and which mistakes are
reported.
"""

from dataclasses import fields

import pytest

from gateway.config.load import loads
from gateway.config.section import keys
from gateway.config.sections.capabilities import CapabilitiesSection
from gateway.contract.capabilities import Caps, capabilities
from gateway.contract.registry import discover
from gateway.upstream.catalog import Catalog
from tests.config.examples import config, errors, warnings

CLAUDE = "us.anthropic.claude-opus-4-6-v1"
ARN = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"


def caps_of(model=CLAUDE, **members):
    loaded = loads(config({"models": [model], **members}))
    (offer,) = Catalog(loaded.config).offers
    return offer.caps


@pytest.mark.parametrize("pattern", [CLAUDE, "*", "us.anthropic.*", "anthropic.claude-opus-4-6*"])
def test_a_pattern_means_a_model_by_its_name_or_by_its_base_id(pattern):
    assert not capabilities(CLAUDE).prefill
    assert caps_of(capabilities={pattern: {"prefill": True}}).prefill
    assert caps_of(capabilities={pattern: {"prefill": True}}).family == "claude"


def test_of_two_patterns_that_fit_the_later_one_wins_field_by_field():
    rules = {"*": {"efforts": ["low"], "images": False}, "*opus*": {"efforts": ["low", "max"]}}
    capabilities = caps_of(capabilities=rules)
    assert (capabilities.efforts, capabilities.images) == (("low", "max"), False)


def test_a_pattern_reaches_the_model_behind_a_name_that_tells_nothing():
    capabilities = caps_of(ARN, base_models={ARN: CLAUDE}, capabilities={"anthropic.claude-opus-*": {"max_output": 5}})
    assert (capabilities.max_output, capabilities.family) == (5, "claude")


def test_the_keys_are_the_fields_of_the_capabilities():
    assert list(keys(CapabilitiesSection)) == [field.name for field in fields(Caps)]


def test_every_key_can_be_written_as_the_data_have_it():
    values = {name: getattr(capabilities(CLAUDE), name) for name in keys(CapabilitiesSection)}
    assert caps_of(capabilities={"*": values}) == capabilities(CLAUDE)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"*": {"prefil": True}}, 'providers.p.capabilities."*".prefil: is no capability; did you mean "prefill"?; there are family, '),
        ({"*": {"prefill": "no"}}, 'providers.p.capabilities."*".prefill: must be true or false, not a string'),
        ({"*": {"sampling": "some"}}, 'providers.p.capabilities."*".sampling: "some" is not one of both, one, none'),
        ({"*": {"efforts": ["low", "great"]}}, 'providers.p.capabilities."*".efforts[1]: "great" is not one of none, '),
        ({"*": {"max_output": -1}}, 'providers.p.capabilities."*".max_output: must be at least 0'),
        ({"*": []}, 'providers.p.capabilities."*": must be an object, not a list'),
        ([], "providers.p.capabilities: must be an object, not a list"),
    ],
)  # fmt: skip
def test_a_fault_is_told_at_its_place_with_what_would_be_right(rules, message):
    (error,) = errors(config({"capabilities": rules}))
    assert message in error, error
    assert error.startswith("config.hujson:")


def test_a_dialect_that_no_flag_has_is_told():
    text = config({"capabilities": {"m": {"native_dialect": "anthropic_message"}}})
    (told,) = errors(text, plugins=discover().known)
    assert 'capabilities.m.native_dialect: no flag has the dialect "anthropic_message"; there are ' in told
    assert told.endswith('did you mean "anthropic_messages"?')


def test_a_pattern_that_fits_no_model_is_told():
    message = 'providers.p.capabilities.nova: fits none of the provider\'s "models"; it has no effect'
    assert message in warnings(config({"capabilities": {"nova": {"images": False}}}))
