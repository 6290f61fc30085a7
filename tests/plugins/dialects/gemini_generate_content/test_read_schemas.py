"""Tests that `nullable` in Google's `Schema` allows null in JSON Schema, whatever else the schema has."""

import pytest

from gateway_plugins.dialects.gemini_generate_content.read_schema import json_schema

TEXT, NULL = {"type": "string"}, {"type": "null"}
CASES = {
    # case: (schema of the client, without nullable; schema that is sent)
    "a type": ({"type": "STRING"}, {"type": ["string", "null"]}),
    "several types": ({"type": ["STRING", "NUMBER"]}, {"type": ["string", "number", "null"]}),
    "the type null": ({"type": "NULL"}, NULL),
    "values": ({"type": "STRING", "enum": ["a"]}, {"type": ["string", "null"], "enum": ["a", None]}),
    "alternatives": ({"anyOf": [{"type": "STRING"}]}, {"anyOf": [TEXT, NULL]}),
    "alternatives with null": ({"anyOf": [{"type": "STRING"}, {"type": "NULL"}]}, {"anyOf": [TEXT, NULL]}),
    "alternatives beside a type": (
        {"type": "OBJECT", "anyOf": [{"required": ["a"]}]},
        {"type": ["object", "null"], "anyOf": [{"required": ["a"]}, NULL]},
    ),
    "one of several": ({"oneOf": [{"type": "STRING"}]}, {"oneOf": [TEXT, NULL]}),
    "a reference": (
        {"ref": "#/$defs/T", "description": "D"}, {"description": "D", "anyOf": [{"$ref": "#/$defs/T"}, NULL]},
    ),
    "parts": ({"allOf": [{"type": "STRING"}]}, {"anyOf": [{"allOf": [TEXT]}, NULL]}),
    "a constant": ({"type": "STRING", "const": "a"}, {"anyOf": [{"type": "string", "const": "a"}, NULL]}),
    "nothing else": ({"description": "D"}, {"description": "D"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_nullable_allows_null(case):
    schema, expected = CASES[case]
    assert json_schema({**schema, "nullable": True}, "") == expected
    inner = json_schema({"type": "OBJECT", "properties": {"a": {**schema, "nullable": True}}}, "")
    assert inner == {"type": "object", "properties": {"a": expected}}


@pytest.mark.parametrize("case", CASES)
def test_without_nullable_nothing_is_added(case):
    assert json_schema({**CASES[case][0], "nullable": False}, "") == json_schema(CASES[case][0], "")
