"""Tests of references in a tool's schema. For models that accept no references, each reference is replaced by its
definition.

`CASES` has the forms of references that schema generators write. Each form is sent from every dialect to every model
that accepts no references. One form is also sent as the schema for structured output, which the gateway sends as a
tool.
"""

from operator import attrgetter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.capabilities import capabilities
from gateway_plugins.shared.references import MAX_NODES, inline_references
from gateway_plugins.shared.tools import tool_schema
from tests.helpers.conversion import CONVERSIONS

NOVA, NOVA_2, GPT_OSS = "us.amazon.nova-pro-v1:0", "us.amazon.nova-2-lite-v1:0", "openai.gpt-oss-120b-1:0"
RANGE = {"type": "object", "properties": {"s": {"type": "string"}}, "required": ["s"]}


def root(properties, **more):
    return {"type": "object", "properties": properties, **more}


TREE = root({"value": {"type": "string"}, "child": {"$ref": "#/$defs/Tree"}})
SHALLOW = {"type": "object"}
CASES = {
    # case: (schema of the client, schema that is sent, pointers below the schema of what is lost)
    "pydantic's $defs": (
        root({"dr": {"$ref": "#/$defs/DR"}}, required=["dr"], title="T", **{"$defs": {"DR": RANGE}}),
        root({"dr": RANGE}, required=["dr"], title="T"),
        [],
    ),
    "older definitions": (root({"dr": {"$ref": "#/definitions/DR"}}, definitions={"DR": RANGE}), root({"dr": RANGE}), []),
    "definitions that nobody refers to": (root({}, definitions={"DR": RANGE}), root({}), []),
    "a description beside the reference": (
        root({"dr": {"$ref": "#/$defs/DR", "description": "when"}}, **{"$defs": {"DR": RANGE}}),
        root({"dr": RANGE | {"description": "when"}}),
        [],
    ),
    "limits beside the reference": (
        root({"dr": {"$ref": "#/$defs/DR", "properties": {"e": {}}, "required": ["e"]}}, **{"$defs": {"DR": RANGE}}),
        root({"dr": {"properties": {"e": {}}, "required": ["e"], "allOf": [RANGE]}}),
        [],
    ),
    "the definition's own values beside the reference": (
        root({"dr": {"$ref": "#/$defs/DR", "type": "object", "title": "T"}}, **{"$defs": {"DR": RANGE | {"title": "R"}}}),
        root({"dr": RANGE | {"title": "T"}}),
        [],
    ),
    "parts beside the reference": (
        root({"dr": {"$ref": "#/$defs/DR", "required": [], "allOf": [{"minProperties": 1}]}}, **{"$defs": {"DR": RANGE}}),
        root({"dr": {"required": [], "allOf": [{"minProperties": 1}, RANGE]}}),
        [],
    ),
    "in a list, a choice and a map": (
        root(
            {
                "all": {"type": "array", "items": {"$ref": "#/$defs/DR"}},
                "maybe": {"anyOf": [{"$ref": "#/$defs/DR"}, {"type": "null"}]},
                "map": {"type": "object", "additionalProperties": {"$ref": "#/$defs/DR"}},
            },
            **{"$defs": {"DR": RANGE}},
        ),
        root(
            {
                "all": {"type": "array", "items": RANGE},
                "maybe": {"anyOf": [RANGE, {"type": "null"}]},
                "map": {"type": "object", "additionalProperties": RANGE},
            }
        ),
        [],
    ),
    "a definition in a definition": (
        root({"a": {"$ref": "#/$defs/A"}}, **{"$defs": {"A": root({"b": {"$ref": "#/$defs/B"}}), "B": RANGE}}),
        root({"a": root({"b": RANGE})}),
        [],
    ),
    "definitions below a property": (
        root({"a": {"$ref": "#/properties/b/$defs/C", "$defs": {}}, "b": {"$defs": {"C": RANGE}}}),
        root({"a": RANGE, "b": {}}),
        [],
    ),
    "zod's pointer to a property": (
        root({"a": RANGE, "b": {"$ref": "#/properties/a"}}),
        root({"a": RANGE, "b": RANGE}),
        [],
    ),
    "names that must be escaped": (
        root({"a": {"$ref": "#/$defs/List%5BA~1B~0C%5D"}}, **{"$defs": {"List[A/B~C]": RANGE}}),
        root({"a": RANGE}),
        [],
    ),
    "the root is a reference": ({"$ref": "#/$defs/DR", "$defs": {"DR": RANGE}}, RANGE, []),
    "a definition that contains itself": (
        root({"tree": {"$ref": "#/$defs/Tree"}}, **{"$defs": {"Tree": TREE}}),
        root({"tree": root({"value": {"type": "string"}, "child": SHALLOW})}),
        ["/properties/tree/$ref/properties/child/$ref"],
    ),
    "two that contain each other": (
        root({"a": {"$ref": "#/$defs/A"}}, **{"$defs": {"A": root({"b": {"$ref": "#/$defs/B"}}), "B": root({"a": {"$ref": "#/$defs/A"}})}}),
        root({"a": root({"b": root({"a": SHALLOW})})}),
        ["/properties/a/$ref/properties/b/$ref/properties/a/$ref"],
    ),
    "a root that contains itself": (
        root({"next": {"$ref": "#"}}),
        root({"next": root({"next": SHALLOW})}),
        ["/properties/next/$ref/properties/next/$ref"],
    ),
    "a definition that is nowhere": (root({"a": {"$ref": "#/$defs/X"}}), root({"a": {}}), ["/properties/a/$ref"]),
    "a definition at an address": (
        root({"a": {"$ref": "https://example.com/a.json", "type": "string"}}),
        root({"a": {"type": "string"}}),
        ["/properties/a/$ref"],
    ),
    "properties with names of keywords": (
        root({"$ref": {"type": "string"}, "definitions": RANGE, "$defs": {"type": "integer"}}),
        root({"$ref": {"type": "string"}, "definitions": RANGE, "$defs": {"type": "integer"}}),
        [],
    ),
    "values that look like references": (
        root({"a": {"const": {"$ref": "#/x"}, "default": {"definitions": 1}, "enum": [{"$defs": {}}]}}),
        root({"a": {"const": {"$ref": "#/x"}, "default": {"definitions": 1}, "enum": [{"$defs": {}}]}}),
        [],
    ),
}  # fmt: skip
BODIES = {
    # dialect: (body with the tool, JSON pointer of its schema)
    "openai_chat": lambda schema: (
        {
            "messages": [{"role": "user", "content": "x"}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}],
        },
        "/tools/0/function/parameters",
    ),
    "openai_responses": lambda schema: (
        {"input": "x", "tools": [{"type": "function", "name": "f", "parameters": schema}]},
        "/tools/0/parameters",
    ),
    "anthropic_messages": lambda schema: (
        {
            "max_tokens": 50,
            "messages": [{"role": "user", "content": "x"}],
            "tools": [{"name": "f", "input_schema": schema}],
        },
        "/tools/0/input_schema",
    ),
    "bedrock_converse": lambda schema: (
        {
            "messages": [{"role": "user", "content": [{"text": "x"}]}],
            "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": schema}}}]},
        },
        "/toolConfig/tools/0/toolSpec/inputSchema/json",
    ),
    "gemini_generate_content": lambda schema: (
        {
            "contents": [{"parts": [{"text": "x"}]}],
            "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}],
        },
        "/tools/0/functionDeclarations/0/parametersJsonSchema",
    ),
}
ROADS = [
    pytest.param(conversion, model, id=f"{conversion.name}-{model}")
    for conversion in CONVERSIONS.values()
    for model, upstream in (
        (NOVA, "bedrock_converse"),
        (NOVA_2, "bedrock_converse"),
        (GPT_OSS, "bedrock_converse"),
        (GPT_OSS, "openai_chat"),
    )
    if conversion.upstream == upstream
]


def sent_schema(call):
    tools = call.sent["toolConfig"]["tools"] if "toolConfig" in call.sent else call.sent["tools"]
    return (
        tools[-1]["toolSpec"]["inputSchema"]["json"] if "toolSpec" in tools[-1] else tools[-1]["function"]["parameters"]
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("conversion", "model"), ROADS)
def test_a_reference_is_replaced_by_its_definition(conversion, model, case):
    schema, expected, lost = CASES[case]
    body, at = BODIES[conversion.dialect](schema)
    call = conversion.call(body, caps=capabilities(model))
    assert sent_schema(call) == expected
    assert call.dropped == [at + pointer for pointer in lost]


@pytest.mark.parametrize("case", CASES)
def test_a_model_that_takes_references_gets_the_schema_as_it_is(case):
    schema, _, _ = CASES[case]
    body, _ = BODIES["openai_chat"](schema)
    caps = capabilities(NOVA, {"schema_references": True})
    call = CONVERSIONS["openai_chat__bedrock_converse"].call(body, caps=caps)
    assert sent_schema(call)["properties"] == schema.get("properties", RANGE["properties"])


@pytest.mark.parametrize("taken", [True, False])
def test_the_configuration_decides_about_references(taken):
    caps = capabilities(NOVA, {"schema_references": taken})
    body, _ = BODIES["openai_chat"](CASES["pydantic's $defs"][0])
    call = CONVERSIONS["openai_chat__bedrock_converse"].call(body, caps=caps)
    assert ("$defs" in sent_schema(call)) is taken


@pytest.mark.parametrize(
    "conversion", [road.values[0] for road in ROADS if road.values[1] == NOVA], ids=attrgetter("name")
)
def test_our_own_tool_for_a_schema_has_no_references_either(conversion):
    """Check that the references in a client's schema for structured output are replaced too. The gateway sends this
    schema as a tool to models that accept no references.
    """
    schema, expected, _ = CASES["pydantic's $defs"]
    wanted = {"type": "json_schema", "schema": schema}
    plain = {"messages": [{"role": "user", "content": "x"}]}
    bodies = {
        "openai_chat": plain
        | {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}},
        "openai_responses": {"input": "x", "text": {"format": {"name": "n", **wanted}}},
        "anthropic_messages": plain | {"max_tokens": 50, "output_config": {"format": wanted}},
        "gemini_generate_content": {
            "contents": [{"parts": [{"text": "x"}]}],
            "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema},
        },
    }
    call = conversion.call(bodies[conversion.dialect], caps=capabilities(NOVA))
    assert sent_schema(call) == expected


def test_definitions_that_double_are_bounded_in_size():
    """Check that the expanded schema stays small if each of 40 definitions refers to the next one twice.

    Without a limit, the size would double with each definition. What the limit leaves out must be reported.
    """
    definitions = {
        f"d{n}": root({"a": {"$ref": f"#/$defs/d{n + 1}"}, "b": {"$ref": f"#/$defs/d{n + 1}"}}) for n in range(40)
    }
    lost = []
    made = inline_references(root({"x": {"$ref": "#/$defs/d0"}}, **{"$defs": definitions}), "", lost.append)
    assert lost
    assert str(made).count("'type': 'object'") < 3 * MAX_NODES
    orjson.dumps(made)  # not too deep for the writer


FOLDED = {
    # schema at the root: pointers of the constraints that are lost when it is folded into one object
    "alternatives": ({"anyOf": [RANGE, root({"n": {}})]}, ["/anyOf"]),
    "one of several": ({"oneOf": [RANGE, root({"n": {}})]}, ["/oneOf"]),
    "all of them": ({"allOf": [RANGE, root({"n": {}}, required=["n"])]}, []),
    "all of them, with limits": (
        {"allOf": [root({"n": {}}, minProperties=1), root({}, additionalProperties=False)]},
        ["/allOf/0/minProperties", "/allOf/1/additionalProperties"],
    ),
    "alternatives inside": ({"allOf": [{"anyOf": [RANGE]}]}, ["/allOf/0/anyOf"]),
    "a reference": ({"$ref": "#/$defs/DR", "$defs": {"DR": RANGE}}, []),
    "a reference to what has limits": (
        {"$ref": "#/$defs/DR", "$defs": {"DR": RANGE | {"maxProperties": 2}}},
        ["/$ref/maxProperties"],
    ),
    "nothing combined": (RANGE | {"minProperties": 1}, []),
}


@pytest.mark.parametrize("case", FOLDED)
@pytest.mark.parametrize(
    "conversion", [each for each in CONVERSIONS.values() if each.way == "translated"], ids=attrgetter("name")
)
def test_constraints_that_folding_loses_are_reported(conversion, case):
    schema, lost = FOLDED[case]
    body, at = BODIES[conversion.dialect](schema)
    call = conversion.call(body)
    assert call.dropped == [at + pointer for pointer in lost]


@pytest.mark.parametrize("additional", [None, True, False, {}, {"type": "string"}])
@pytest.mark.parametrize(
    "conversion", [each for each in CONVERSIONS.values() if each.upstream == "bedrock_converse"], ids=attrgetter("name")
)
def test_the_type_of_further_values_is_reported_if_a_model_refuses_it(conversion, additional):
    body, at = BODIES[conversion.dialect](root({"map": {"type": "object", "additionalProperties": additional}}))
    call = conversion.call(body, caps=capabilities("meta.llama3-1-70b-instruct-v1:0"))
    assert sent_schema(call) == root({"map": {"type": "object"}})
    assert call.dropped == ([f"{at}/properties/map/additionalProperties"] if additional == {"type": "string"} else [])


NAMES = st.sampled_from(["A", "B", "C"])
SCHEMAS = st.recursive(
    st.sampled_from([{"type": "string"}, {"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}, {"$ref": "#"}, {"$ref": 7}]),
    lambda inner: (
        st.fixed_dictionaries({"type": st.just("object"), "properties": st.dictionaries(NAMES, inner)})
        | st.fixed_dictionaries({"anyOf": st.lists(inner, max_size=2)})
        | st.fixed_dictionaries({"items": inner})
    ),
    max_leaves=8,
)


@given(schema=SCHEMAS, definitions=st.dictionaries(NAMES, SCHEMAS))
def test_any_schema_ends_without_references(schema, definitions):
    lost = []
    made = inline_references({**schema, "$defs": definitions}, "", lost.append)
    assert "$ref" not in str(made)
    assert "$defs" not in str(made)
    folded = tool_schema(made if made.get("type") == "object" else root({"x": made}), "f", "", lost.append)
    assert folded["type"] == "object"
