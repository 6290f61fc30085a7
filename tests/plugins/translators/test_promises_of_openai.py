"""Tests of options that only OpenAI's servers carry out, such as moderation that blocks an answer.

A request with such an option is refused for any other provider, because the answer would lack what the client relies
on.
"""

import pytest

from gateway.contract.errors import Refused
from tests.helpers.conversion import ALL_CONVERSIONS, BASES, CONVERSIONS

OF_OPENAI = [each for each in CONVERSIONS.values() if each.client.name in ("openai_chat", "openai_responses")]
each_conversion = pytest.mark.parametrize("conversion", OF_OPENAI, ids=lambda conversion: conversion.name)
MODEL = "omni-moderation-latest"
REFUSED = {
    "prompt_cache_options.prewarm": {"prompt_cache_options": {"prewarm": True}},
    "moderation.policy.input": {"moderation": {"model": MODEL, "policy": {"input": {"mode": "block"}}}},
    "moderation.policy.output": {"moderation": {"model": MODEL, "policy": {"output": {"mode": "block"}}}},
}
REPORTED = {
    "prompt_cache_options": ({"ttl": "30m"}, {"prewarm": False, "mode": "implicit"}),
    "moderation": ({"model": MODEL}, {"model": MODEL, "policy": {"input": {"mode": "score"}, "output": None}}),
}


@each_conversion
@pytest.mark.parametrize("field", REFUSED)
def test_a_promise_that_would_be_broken_is_a_400_that_names_it(conversion, field):
    """Check that a request with an option that only OpenAI carries out is refused by a 400 that names the option.

    For OpenAI itself, the option is sent unchanged.
    """
    with pytest.raises(Refused) as refused:
        conversion.call({**BASES[conversion.dialect], **REFUSED[field]})
    assert refused.value.problem.param == field
    native = ALL_CONVERSIONS[f"{conversion.client.name}__{conversion.client.name}"]
    assert native.call({**BASES[conversion.dialect], **REFUSED[field]}).sent.keys() >= REFUSED[field].keys()


@each_conversion
@pytest.mark.parametrize(("field", "value"), [(name, value) for name, values in REPORTED.items() for value in values])
def test_a_wish_that_changes_no_answer_is_reported(conversion, field, value):
    assert conversion.call({**BASES[conversion.dialect], field: value}).dropped == [f"/{field}"]
