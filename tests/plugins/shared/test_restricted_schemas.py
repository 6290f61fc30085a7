"""Tests of schemas that Anthropic and Bedrock enforce: a constraint is expressed with keywords that they accept, or
reported as dropped.
"""

import pytest

from gateway_plugins.shared.all_of import merge_all_of
from gateway_plugins.shared.schemas import restrict_schema
from tests.helpers.cpu_time import cpu_units

TEXT, NUMBER, NULL = {"type": "string"}, {"type": "number"}, {"type": "null"}


def closed(**properties):
    return {"type": "object", "properties": properties, "additionalProperties": False}


CASES = {
    # case: (schema of the client, schema that is sent, pointers of what is lost)
    "both choices": (
        {"anyOf": [TEXT, NUMBER], "oneOf": [NUMBER, NULL]},
        {"anyOf": [TEXT, NUMBER], "allOf": [{"anyOf": [NUMBER, NULL]}]},
        [],
    ),
    "both choices, the other way round": (
        {"oneOf": [NUMBER, NULL], "anyOf": [TEXT, NUMBER]},
        {"anyOf": [TEXT, NUMBER], "allOf": [{"anyOf": [NUMBER, NULL]}]},
        [],
    ),
    "all three, in a property": (
        closed(x={"allOf": [NUMBER], "anyOf": [TEXT, NUMBER], "oneOf": [NUMBER, NULL]}),
        closed(x={"anyOf": [TEXT, NUMBER], "type": "number", "allOf": [{"anyOf": [NUMBER, NULL]}]}),
        [],
    ),
    "a choice in two parts": (
        {"allOf": [{"oneOf": [TEXT, NULL]}, {"oneOf": [TEXT, NUMBER]}]},
        {"anyOf": [TEXT, NULL], "allOf": [{"anyOf": [TEXT, NUMBER]}]},
        [],
    ),
    "both choices with references": (
        {"$defs": {"N": NUMBER}, "anyOf": [{"$ref": "#/$defs/N"}, TEXT], "oneOf": [{"$ref": "#/$defs/N"}, NULL]},
        {"$defs": {"N": NUMBER}, "anyOf": [{"$ref": "#/$defs/N"}, TEXT], "allOf": [{"anyOf": [NUMBER, NULL]}]},
        [],
    ),
    "inheritance": (
        closed(pet={"allOf": [{"$ref": "#/$defs/B"}, {"type": "object", "properties": {"n": NUMBER}, "required": ["n"]}]})
        | {"$defs": {"B": {"type": "object", "properties": {"s": TEXT}, "required": ["s"]}}},
        closed(pet=closed(s=TEXT, n=NUMBER) | {"required": ["s", "n"]}) | {"$defs": {"B": closed(s=TEXT) | {"required": ["s"]}}},
        [],
    ),
    "a reference with a description": (
        {"$defs": {"N": NUMBER}, "properties": {"n": {"allOf": [{"$ref": "#/$defs/N"}], "description": "How many."}}},
        {"$defs": {"N": NUMBER}, "properties": {"n": {"description": "How many.", "type": "number"}}, "additionalProperties": False},
        [],
    ),
    "a limit in a part": (
        {"allOf": [{"type": "integer", "minimum": 1, "description": "A number."}, {"type": "number", "maximum": 9}]},
        {"type": "integer", "description": "A number. (minimum: 1) (maximum: 9)"},
        ["/allOf/0/minimum", "/allOf/1/maximum"],
    ),
    "a part with additional properties": (
        {"allOf": [closed(a=TEXT), {"type": "object", "additionalProperties": True}]},
        closed(a=TEXT) | {"description": "(additionalProperties: True)"},
        ["/allOf/1/additionalProperties"],
    ),
    "any object": ({"type": "object"}, {"type": "object", "additionalProperties": False}, [""]),
    "an object that may have more": (
        closed(a=TEXT) | {"additionalProperties": True},
        closed(a=TEXT) | {"description": "(additionalProperties: True)"},
        ["/additionalProperties"],
    ),
    "a tuple": (
        {"type": "array", "prefixItems": [TEXT], "items": False},
        {"type": "array", "description": "(prefixItems: [{'type': 'string'}], items: False)"},
        ["/prefixItems", "/items"],
    ),
    "a list of anything": ({"type": "array", "items": True}, {"type": "array"}, []),
    "conditions": (
        {"type": "string", "not": {"const": "x"}, "if": {}, "then": {}, "else": {}},
        {"type": "string", "description": "(not: {'const': 'x'}, if: {}, then: {}, else: {})"},
        ["/not", "/if", "/then", "/else"],
    ),
    "formats": (
        closed(a={"type": "string", "format": "uuid"}, b={"type": "integer", "format": "int32"}),
        closed(a={"type": "string", "format": "uuid"}, b={"type": "integer", "description": "(format: int32)"}),
        ["/properties/b/format"],
    ),
    "a format that is none": (closed(a={"format": ["x"]}), closed(a={"description": "(format: ['x'])"}), ["/properties/a/format"]),
    "values": (
        closed(a={"enum": ["x", None]}, b={"enum": [{"x": 1}]}),
        closed(a={"enum": ["x", None]}, b={"description": "(enum: [{'x': 1}])"}),
        ["/properties/b/enum"],
    ),
    "a reference to another document": (
        closed(a={"$ref": "https://example.com/a.json", "type": "string"}),
        closed(a={"type": "string", "description": "($ref: https://example.com/a.json)"}),
        ["/properties/a/$ref"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_restricted_schema_keeps_its_meaning_or_reports_the_loss(case):
    schema, expected, lost = CASES[case]
    drops = []
    assert restrict_schema(schema, drops.append, "") == expected
    assert drops == lost


MERGED = {
    # case: (schema, schema with merged parts)
    "the same property": (
        {"allOf": [{"properties": {"a": {"description": "A", "minLength": 1}}}, {"properties": {"a": {"maxLength": 2}}}]},
        {"properties": {"a": {"description": "A", "minLength": 1, "maxLength": 2}}},
    ),
    "a property that nobody may have": (
        {"allOf": [{"properties": {"a": True, "b": True}}, {"properties": {"a": False, "b": TEXT}}]},
        {"properties": {"a": False, "b": TEXT}},
    ),
    "types": (
        {"allOf": [{"type": ["string", "number", "null"]}, {"type": ["null", "integer"]}]},
        {"type": ["null", "integer"]},
    ),
    "types that exclude each other": ({"type": "string", "allOf": [NUMBER]}, {"type": "string", "allOf": [NUMBER]}),
    "conditions": (
        {"if": {"required": ["a"]}, "then": {"required": ["b"]}, "allOf": [{"if": {"required": ["c"]}, "then": False}]},
        {"if": {"required": ["a"]}, "then": {"required": ["b"]}, "allOf": [{"if": {"required": ["c"]}, "then": False}]},
    ),
    "items that depend on others": (
        {"prefixItems": [TEXT], "items": False, "allOf": [{"items": TEXT}]},
        {"prefixItems": [TEXT], "items": False, "allOf": [{"items": TEXT}]},
    ),
    "parts within parts": (
        {"allOf": [{"allOf": [{"minimum": 1}, {"minimum": 2}]}, {"allOf": [{"minimum": 3}]}]},
        {"minimum": 1, "allOf": [{"minimum": 2}, {"minimum": 3}]},
    ),
    "what a part says of itself": (
        {"title": "Own", "default": None, "allOf": [{"title": "Part", "default": 1, "examples": [2]}]},
        {"title": "Own", "default": None, "examples": [2]},
    ),
    "always and never": ({"allOf": [True, False]}, {"allOf": [False]}),
    "additional properties": (
        {"allOf": [{"additionalProperties": True}, {"additionalProperties": TEXT}]}, {"additionalProperties": TEXT},
    ),
    "names and values that are no keywords": (
        {"properties": {"allOf": {"enum": [{"allOf": [TEXT]}]}}}, {"properties": {"allOf": {"enum": [{"allOf": [TEXT]}]}}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MERGED)
def test_parts_are_merged_where_the_result_means_the_same(case):
    schema, expected = MERGED[case]
    drops = []
    assert merge_all_of(schema, "", drops.append) == expected
    assert drops == []


@pytest.mark.parametrize(
    "part",
    [
        lambda number: {"properties": {f"p{number}": TEXT}, "required": [f"p{number}"], "description": f"d{number}"},
        lambda number: {"properties": {"a": {"properties": {f"p{number}": TEXT}}}},
        lambda number: {"minimum": number},
    ],
)
def test_merging_takes_time_in_proportion_to_the_parts(part):
    def merge():
        merge_all_of({"allOf": [part(number) for number in range(50_000)]}, "", lambda _: None)

    assert cpu_units(merge, enough=1300) < 1300
