"""Tests of random faults in Gemini requests, on every conversion. Each request is sent, or refused with `Refused`. No
other exception is raised.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.contract.errors import Refused
from gateway.contract.flag import Members
from gateway_plugins.dialects.gemini_generate_content.signatures import packed
from tests.helpers.gemini_to import IMAGE, TRANSLATORS, call, model, response, user
from tests.helpers.json_faults import MISSING, changed, paths
from tests.plugins.translators.test_chat_request_faults import JUNK

SCHEMA = {
    "type": "OBJECT",
    "description": "A place.",
    "properties": {"city": {"type": "STRING", "nullable": True, "enum": ["x"], "minLength": "1"}},
    "required": ["city"],
    "propertyOrdering": ["city"],
    "anyOf": [{"type": "OBJECT"}],
}
WHOLE: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        user("Hi", IMAGE),
        model(
            {"text": "hm", "thought": True},
            {"text": "So.", "thoughtSignature": packed([{"thinking": "hm", "signature": "irisgate1:claude:s"}])},
            call(args={"a": [1]}, id="c1"),
            call("other"),
            {"executableCode": {"language": "PYTHON", "code": "1"}},
        ),
        user(response("other"), response(id="c1", parts=[IMAGE]), "Go on"),
    ],
    "tools": [
        {"functionDeclarations": [{"name": "look", "description": "d", "parameters": SCHEMA}, {"name": "other"}]},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
    "generationConfig": {
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 3,
        "seed": 1,
        "presencePenalty": 0.1,
        "maxOutputTokens": 9000,
        "stopSequences": ["END"],
        "candidateCount": 1,
        "responseMimeType": "application/json",
        "responseSchema": SCHEMA,
        "responseModalities": ["TEXT"],
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 2000, "thinkingLevel": "LOW"},
    },
    "serviceTier": "flex",
}
VARIANTS = [
    (conversion, caps)
    for conversion, translator in TRANSLATORS.items()
    for caps in (
        translator.model,
        replace(translator.model, json_schema=not translator.model.json_schema),
        replace(translator.model, reasoning="adaptive"),
    )
]


def opened(conversion, caps, body):
    translator = TRANSLATORS[conversion]
    request = replace(translator.request({}), top=Members(body if isinstance(body, bytes) else orjson.dumps(body)))
    return translator.module.open(request, translator.target(caps), lambda _: None)


@pytest.mark.parametrize(("conversion", "caps"), VARIANTS)
def test_the_request_that_the_faults_are_put_into_is_carried(conversion, caps):
    opened(conversion, caps, WHOLE)


COUNT = ("tools", 0, "functionDeclarations", 0, "parameters", "properties", "city", "minLength")


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(list(paths(WHOLE))), st.sampled_from([*JUNK, MISSING]), st.sampled_from(VARIANTS))
@example(("generationConfig", "maxOutputTokens"), 1e300, VARIANTS[0])
@example(("generationConfig", "seed"), 1e300, VARIANTS[-1])
@example(COUNT, "9" * 30, VARIANTS[0])
@example(COUNT, "9" * 5000, VARIANTS[0])
def test_a_member_of_any_wrong_type_is_carried_or_a_400(path, junk, variant):
    with suppress(Refused):
        opened(*variant, changed(WHOLE, path, junk))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(list(paths(WHOLE))), st.sampled_from([60, 130, 300, 5000]), st.sampled_from(VARIANTS), st.booleans()
)
def test_nesting_of_any_depth_is_carried_or_a_400(path, depth, variant, lists):
    nested = b"[" * depth + b"]" * depth if lists else b'{"a":' * depth + b"1" + b"}" * depth
    with suppress(Refused):
        opened(*variant, orjson.dumps(changed(WHOLE, path, "%DEEP%")).replace(b'"%DEEP%"', nested))
