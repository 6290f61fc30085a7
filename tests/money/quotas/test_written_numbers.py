"""Tests of the numbers in a request that determine its reservation: the maximum number of searches, the number of
answers, and the output limit.

Such a number has the same effect in every dialect, and however a client writes it. The gateway forwards it unchanged.
"""

import json

import pytest

from gateway.contract.billing import SEARCHES
from gateway.contract.flag import Members
from gateway.money.quotas.contents import MAX_ANSWERS, MAX_SEARCHES
from gateway.money.quotas.estimate import MAX_OUTPUT, UNLIMITED, estimate, measure
from tests.money.quotas.test_estimate import CHAT, CONVERSE, FLAGS, INVOKE, MESSAGES, request_of

NONE, HUGE = None, "huge"
WRITTEN = {
    "an integer": (3, 3),
    "a fraction of 0": (3.0, 3),
    "a string": ("3", 3),
    "a string with a fraction of 0": ("3.0", 3),
    "a fraction": (3.5, NONE),
    "a string with a fraction": ("3.5", NONE),
    "a word": ("many", NONE),
    "an empty string": ("", NONE),
    "a string that is true": ("true", NONE),
    "true": (True, NONE),
    "null": (None, NONE),
    "a list": ([3], NONE),
    "an object": ({"value": 3}, NONE),
    "zero": (0, NONE),
    "a negative integer": (-3, NONE),
    "a negative fraction of 0": (-3.0, NONE),
    "a negative string": ("-3", NONE),
    "an integer of 64 bits": (2**63 - 1, HUGE),
    "an integer of 70 bits": (2**70, HUGE),
    "a huge number": (1e300, HUGE),
    "a huge string": ("1" + "0" * 5_000, NONE),
}
"""Pairs of a value that a client may write, and the number that the gateway reads from it. The number is `NONE` for an
unusable value.
"""
WEB_SEARCH, FILE_SEARCH = {"type": "web_search_20250305", "name": "web_search"}, {"type": "file_search"}
SEARCHING = {
    "max_uses of Messages": ("anthropic_messages", lambda value: {"tools": [WEB_SEARCH | {"max_uses": value}]}),
    "max_uses of InvokeModel": ("bedrock_model_invoke", lambda value: {"tools": [WEB_SEARCH | {"max_uses": value}]}),
    "max_uses of Converse": (
        "bedrock_converse", lambda value: {"additionalModelRequestFields": {"tools": [WEB_SEARCH | {"max_uses": value}]}},
    ),
    "max_tool_calls of Responses": (
        "openai_responses", lambda value: {"tools": [{"type": "web_search"}], "max_tool_calls": value},
    ),
}  # fmt: skip
ANSWERING = {
    "n of Chat": ("openai_chat", lambda value: {"n": value}),
    "candidateCount": ("gemini_generate_content", lambda value: {"generationConfig": {"candidateCount": value}}),
    "candidate_count": ("gemini_generate_content", lambda value: {"generation_config": {"candidate_count": value}}),
}
RESPONSES = ("openai_responses", "/v1/responses")
GEMINI = ("gemini_generate_content", "/v1beta/models/{model:.+}:generateContent")
LIMITS = {
    "max_tokens of Messages": (MESSAGES, lambda value: {"max_tokens": value}),
    "max_tokens of Chat": (CHAT, lambda value: {"max_tokens": value}),
    "max_completion_tokens of Chat": (CHAT, lambda value: {"max_completion_tokens": value}),
    "max_output_tokens of Responses": (RESPONSES, lambda value: {"max_output_tokens": value}),
    "maxOutputTokens": (GEMINI, lambda value: {"generationConfig": {"maxOutputTokens": value}}),
    "max_output_tokens of Gemini": (GEMINI, lambda value: {"generation_config": {"max_output_tokens": value}}),
    "maxTokens of Converse": (CONVERSE, lambda value: {"inferenceConfig": {"maxTokens": value}}),
    "max_tokens of a model's own fields": (CONVERSE, lambda value: {"additionalModelRequestFields": {"max_tokens": value}}),
    "max_tokens of InvokeModel": (INVOKE, lambda value: {"max_tokens": value}),
    "max_new_tokens of Nova": (INVOKE, lambda value: {"inferenceConfig": {"max_new_tokens": value}}),
    "maxTokenCount of Titan": (INVOKE, lambda value: {"textGenerationConfig": {"maxTokenCount": value}}),
}  # fmt: skip

every_form = pytest.mark.parametrize(("value", "number"), WRITTEN.values(), ids=WRITTEN)


def size_of(flag, members):
    return measure(Members(json.dumps({"model": "m", **members}).encode()), FLAGS[flag].billed_parts)


@pytest.mark.parametrize(("flag", "members"), SEARCHING.values(), ids=SEARCHING)
@every_form
def test_the_searches_of_a_request_are_read_in_every_form(flag, members, value, number):
    expected = {NONE: SEARCHES, HUGE: MAX_SEARCHES}.get(number, number)
    assert size_of(flag, members(value)).searches == expected


@every_form
def test_the_fee_of_searches_in_files_is_read_in_every_form(value, number):
    size = size_of("openai_responses", {"tools": [FILE_SEARCH], "max_tool_calls": value})
    expected = {NONE: SEARCHES * 2_500_000, HUGE: 2**53}.get(number, 3 * 2_500_000)
    assert size.fees == expected


@pytest.mark.parametrize(("flag", "members"), ANSWERING.values(), ids=ANSWERING)
@every_form
def test_the_answers_of_a_request_are_read_in_every_form(flag, members, value, number):
    assert size_of(flag, members(value)).answers == {NONE: 1, HUGE: MAX_ANSWERS}.get(number, number)


@pytest.mark.parametrize(("where", "members"), LIMITS.values(), ids=LIMITS)
@every_form
def test_the_output_limit_is_read_in_every_form(where, members, value, number):
    plugin, request = request_of(*where, **members(value))
    held = estimate(request, plugin.limit(request), (), measure(request.top, plugin.billed_parts))
    assert held.output == {NONE: UNLIMITED, HUGE: MAX_OUTPUT}.get(number, number)


@pytest.mark.parametrize(
    ("where", "members"),
    [
        (CHAT, lambda value: {"max_tokens": 100, "n": value}),
        (GEMINI, lambda value: {"generationConfig": {"maxOutputTokens": 100, "candidateCount": value}}),
    ],
)
@every_form
def test_the_limit_of_all_answers_is_read_in_every_form(where, members, value, number):
    plugin, request = request_of(*where, **members(value))
    held = estimate(request, plugin.limit(request), (), measure(request.top, plugin.billed_parts))
    assert held.output == {NONE: 100, HUGE: MAX_ANSWERS * MAX_OUTPUT}.get(number, 300)
