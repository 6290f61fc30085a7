"""Tests that every number in a request is sent to the provider, or refused with a 400 that names the field, the value
and the range.

There is a table of the numeric fields in each client dialect, and a table of values that JSON can write. Each field is
tried with each value, on every conversion from the dialect.
"""

import json
from contextlib import suppress
from copy import deepcopy

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.errors import Refused
from tests.helpers.conversion import BASES, CONVERSIONS

INT32, INT64 = (1 << 31) - 1, (1 << 63) - 1
LIMIT, TOKENS, SEED = ("whole", 1, INT32), ("whole", 0, INT32), ("whole", -INT64 - 1, INT64)
SHARE, PENALTY, POSITIVE = ("real", 0, 1), ("real", -2, 2), ("real", 0, None)
BUDGET = {"thinking.type": "enabled"}
FIELDS = {
    # the client's dialect: the field, the numbers that it takes, other members that the field needs
    "openai_chat": [
        ("max_tokens", LIMIT, {}),
        ("max_completion_tokens", LIMIT, {}),
        ("temperature", POSITIVE, {}),
        ("top_p", SHARE, {}),
        ("top_k", TOKENS, {}),
        ("seed", SEED, {}),
        ("frequency_penalty", PENALTY, {}),
        ("presence_penalty", PENALTY, {}),
        ("thinking.budget_tokens", TOKENS, BUDGET),
        ("thinking_budget", TOKENS, {}),
        ("reasoning.max_tokens", TOKENS, {}),
    ],
    "openai_responses": [
        ("max_output_tokens", LIMIT, {}),
        ("temperature", POSITIVE, {}),
        ("top_p", SHARE, {}),
        ("frequency_penalty", PENALTY, {}),
        ("presence_penalty", PENALTY, {}),
    ],
    "anthropic_messages": [
        ("max_tokens", LIMIT, {}),
        ("temperature", POSITIVE, {}),
        ("top_p", SHARE, {}),
        ("top_k", TOKENS, {}),
        ("thinking.budget_tokens", TOKENS, BUDGET),
    ],
    "bedrock_converse": [
        ("inferenceConfig.maxTokens", LIMIT, {}),
        ("inferenceConfig.temperature", SHARE, {}),
        ("inferenceConfig.topP", SHARE, {}),
        ("additionalModelRequestFields.top_k", ("whole", 0, 500), {}),
        ("additionalModelRequestFields.inferenceConfig.topK", ("whole", 0, 500), {}),
        (
            "additionalModelRequestFields.thinking.budget_tokens",
            TOKENS,
            {"additionalModelRequestFields.thinking.type": "enabled"},
        ),
    ],
    "gemini_generate_content": [
        ("generationConfig.maxOutputTokens", LIMIT, {}),
        ("generationConfig.temperature", POSITIVE, {}),
        ("generationConfig.topP", SHARE, {}),
        ("generationConfig.topK", TOKENS, {}),
        ("generationConfig.seed", SEED, {}),
        ("generationConfig.presencePenalty", PENALTY, {}),
        ("generationConfig.frequencyPenalty", PENALTY, {}),
        ("generationConfig.candidateCount", ("whole", 0, INT32), {}),
        ("generationConfig.thinkingConfig.thinkingBudget", ("whole", -1, INT32), {}),
        ("generationConfig.responseSchema.minLength", ("whole", 0, INT64), {}),
        ("generationConfig.response_schema.items.max_items", ("whole", 0, INT64), {}),
    ],
}
NUMBERS = [
    "0", "1", "-1", "1.5", "-0.0", "1.0", "4e3", "4096.0", "1e19", "1e300", "-1e300", "2147483647", "2147483648",
    "9007199254740993", "9223372036854775807", "-9223372036854775808", "18446744073709551615", "18446744073709551616",
    "1000000000000000000000000000000", "1e-320",
]  # fmt: skip
OTHERS = [
    "true", "[]", "{}", "[1]", '{"a": 1}', '"4"', '"1e300"', '"-1"', '"1.5"', f'"{"9" * 30}"', f'"{"9" * 5000}"',
    '"NaN"', '"Infinity"', '"1_0"', '""', '"true"', '"0x10"',
]  # fmt: skip
TRANSLATED = [conversion for conversion in CONVERSIONS.values() if conversion.way == "translated"]
CASES = [
    pytest.param(conversion, *field, id=f"{conversion.name}: {field[0]}")
    for conversion in TRANSLATED
    for field in FIELDS[conversion.dialect]
]


def placed(body, field, value):
    *path, name = field.split(".")
    inner = body
    for step in path:
        inner = inner.setdefault(step, {})
    inner[name] = value


def outcome(conversion, field, text, more):
    """Return the problem with which a request with this value is refused, or None if the request is sent."""
    body = deepcopy(BASES[conversion.dialect])
    for name, value in {**more, field: json.loads(text)}.items():
        placed(body, name, value)
    try:
        orjson.loads(conversion.call(body).upstream_request.body)
    except Refused as refused:
        return refused.problem
    return None


def takes(field, kind, value):
    """Return whether a field accepts a value. `kind` is (form, minimum, maximum). Only the form "real" allows
    fractions.
    """
    if not is_number(value):
        return False
    if field.endswith("candidateCount"):  # only one can be made
        return value in {0, 1}
    form, lowest, highest = kind
    return (form == "real" or value == int(value)) and lowest <= value and (highest is None or value <= highest)


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def read(dialect, value):
    """Return the value as the dialect reads it. In Google's dialect, a string with a number is read as this number."""
    if dialect != "gemini_generate_content" or not isinstance(value, str):
        return value
    with suppress(orjson.JSONDecodeError):
        return number if is_number(number := orjson.loads(value)) else value
    return value


def shown(value):
    """Return the value in the form in which error messages show it."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value) if isinstance(value, int) else orjson.dumps(value).decode()
    return text if len(text) <= 50 else f"{text[:50]}..."


def fault(problem, field, value):
    """Return what is wrong with the gateway's refusal of a value, or "" if nothing is wrong. `problem` is None if the
    value was not refused.
    """
    if problem is None:
        return "it was carried"
    if field.endswith("candidateCount") and is_number(value):
        return "" if problem.param == field else problem.param
    right = problem.param == field and problem.message.startswith(f"{field}: {shown(value)} is not a ")
    return "" if right else f"{problem.param}: {problem.message}"


@pytest.mark.parametrize(("conversion", "field", "kind", "more"), CASES)
def test_a_number_is_carried_or_refused_with_its_range(conversion, field, kind, more):
    wrong = {}
    for text in [*NUMBERS, *OTHERS]:
        problem, value = outcome(conversion, field, text, more), read(conversion.dialect, json.loads(text))
        if takes(field, kind, value):
            wrong[text] = "" if problem is None else problem.message
        else:
            wrong[text] = fault(problem, field, value)
    assert {text: message for text, message in wrong.items() if message} == {}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(CASES),
    st.integers(-(1 << 80), 1 << 80)
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(-3, 3),
)
def test_any_number_is_carried_or_refused_with_its_range(case, number):
    conversion, field, kind, more = case.values
    problem = outcome(conversion, field, json.dumps(number), more)
    if takes(field, kind, number):
        assert problem is None
    else:
        assert fault(problem, field, number) == ""
