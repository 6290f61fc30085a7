"""Tests of schemas in the form that Gemini accepts.

Each case comes from a report about a gateway that lost a keyword, or sent a keyword that Gemini refuses.
"""

import pytest

from gateway_plugins.dialects.gemini_generate_content.schemas import json_schema

TEXT, NUMBER, NULL = {"type": "string"}, {"type": "number"}, {"type": "null"}


def root(properties, **more):
    return {"type": "object", "properties": properties, **more}


CASES = {
    # report: (schema of the client, schema that is sent, pointers of what is lost)
    "router-for-me/CLIProxyAPI#4545, a list with null": (
        root({"s": {"type": ["string", "null"], "enum": ["a", "b", None], "description": "How far."}}),
        root({"s": {"description": "How far.", "anyOf": [{"type": "string", "enum": ["a", "b"]}, NULL]}}),
        [],
    ),
    "null without a type": (root({"s": {"enum": ["a", 1, None]}}), root({"s": {"anyOf": [{"enum": ["a", 1]}, NULL]}}), []),
    "null that the type forbids": (
        root({"s": {"type": "string", "enum": ["a", None]}}), root({"s": {"type": "string", "enum": ["a"]}}), [],
    ),
    "only null": (root({"s": {"enum": [None]}, "t": {"const": None}}), root({"s": NULL, "t": NULL}), []),
    "several types with null": (
        root({"s": {"type": ["string", "number", "null"], "enum": ["a", 1, None]}}),
        root({"s": {"anyOf": [{"type": ["string", "number"], "enum": ["a", 1]}, NULL]}}),
        [],
    ),
    "anomalyco/opencode#33316, an empty text": (
        root({"s": {"anyOf": [{"type": "string", "enum": ["", "a"]}, {"type": "string", "enum": [""]}]}}),
        root({"s": {"anyOf": [{"type": "string", "enum": ["a"]}, TEXT]}}),
        ["/properties/s/anyOf/0/enum", "/properties/s/anyOf/1/enum"],
    ),
    "an empty constant": (root({"s": {"const": "", "type": "string"}}), root({"s": TEXT}), ["/properties/s/const"]),
    "QuantumNous/new-api#7455, a constant among values": (
        root({"s": {"const": "a", "enum": ["a", "b"]}}), root({"s": {"enum": ["a"]}}), [],
    ),
    "BerriAI/litellm#19029, an object or null": (
        root({"s": root({"a": TEXT}, type=["object", "null"], required=["a"])}),
        root({"s": root({"a": TEXT}, type=["object", "null"], required=["a"])}),
        [],
    ),
    "microsoft/autogen#7594, parts with references": (
        root({"s": {"allOf": [{"$ref": "#/$defs/T"}], "description": "D"}}, **{"$defs": {"T": TEXT}}),
        root({"s": {"description": "D", "type": "string"}}),
        [],
    ),
    "parts of an object": (
        root({"s": {"allOf": [root({"a": TEXT}, required=["a"]), root({"b": NUMBER})]}}),
        root({"s": root({"a": TEXT, "b": NUMBER}, required=["a"])}),
        [],
    ),
    "parts that cannot be merged": (
        root({"s": {"allOf": [{"anyOf": [TEXT, NULL]}, {"anyOf": [TEXT, NUMBER]}]}}),
        root({"s": {"anyOf": [TEXT, NULL], "allOf": [{"anyOf": [TEXT, NUMBER]}]}}),
        ["/properties/s/allOf"],
    ),
    "names that are no keywords": (
        root({"allOf": TEXT, "enum": {"type": "array", "items": {"enum": [1, None]}}, "const": NUMBER}),
        root({"allOf": TEXT, "enum": {"type": "array", "items": {"anyOf": [{"enum": [1]}, NULL]}}, "const": NUMBER}),
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_sent_schema_keeps_its_meaning_or_reports_the_loss(case):
    schema, expected, lost = CASES[case]
    drops = []
    assert json_schema(schema, "", drops.append) == expected
    assert drops == lost
