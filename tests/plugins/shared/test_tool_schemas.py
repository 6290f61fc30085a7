"""Tests of names, ids and schemas of tools, independent of any dialect."""

from __future__ import annotations

import pytest

from gateway.contract.errors import Refused
from gateway_plugins.shared.tools import ToolIds, tool_schema, unused
from tests.helpers.cpu_time import cpu_units


def root(schema):
    return tool_schema(schema, "look", "/tools/0/function/parameters")


@pytest.mark.parametrize("kind", [None, "object", "custom", ["object", "null"]])
def test_a_root_that_can_be_an_object_becomes_one(kind):
    assert root({"type": kind, "properties": {"a": {}}}) == {"type": "object", "properties": {"a": {}}}


@pytest.mark.parametrize("kind", ["array", "objects", 1, True, ["string"], {"a": 1}, [["object"]]])
def test_a_root_of_another_type_is_refused_by_its_field(kind):
    with pytest.raises(Refused, match="must be") as refused:
        root({"type": kind})
    assert refused.value.problem.param == "tools[0].function.parameters"


@pytest.mark.parametrize("properties", [1, "x", ["a"], True])
def test_properties_that_are_no_object_are_refused(properties):
    with pytest.raises(Refused, match="properties"):
        root({"properties": properties})


@pytest.mark.parametrize("required", [None, True, "a", {"a": 1}])
def test_a_required_that_is_no_list_is_left_out(required):
    assert "required" not in root({"properties": {"a": {}}, "required": required})


def test_a_member_is_required_only_where_all_parts_require_it():
    """Check that properties that `allOf` requires stay required, but properties that one branch of `anyOf` requires do
    not.
    """
    schema = {
        "required": ["a"],
        "allOf": [{"required": ["a", "b"], "properties": {"b": {}}}, {"required": None, "properties": None}],
        "anyOf": [{"required": ["c"], "properties": {"c": {}}}, {"properties": 7}],
    }
    assert root(schema) == {"type": "object", "required": ["a", "b"], "properties": {"b": {}, "c": {}}}


@pytest.mark.parametrize("first", [True, False])
def test_a_definition_that_is_used_twice_keeps_what_it_requires(first):
    """Check that the required properties of a definition stay required if the definition is used in `allOf`.

    It is used a second time, in a branch of `anyOf`. There, its properties would be optional.
    """
    inner = {"allOf": [{"properties": {"x": {}}, "required": ["x"]}]}
    uses = [{"$ref": "#/$defs/a"}, {"anyOf": [{"$ref": "#/$defs/a"}, {"properties": {"y": {}}}]}]
    made = root({"$defs": {"a": inner}, "allOf": uses if first else uses[::-1]})
    assert (made["properties"].keys(), made["required"]) == ({"x", "y"}, ["x"])


def lost(schema):
    """Return the JSON pointers of the constraints that are reported as dropped."""
    dropped = []
    tool_schema(schema, "look", "", dropped.append)
    return dropped


@pytest.mark.parametrize("kind", ["array", ["string", "null"], 1])
def test_a_part_of_another_type_is_reported(kind):
    assert lost({"allOf": [{"type": kind}, {"type": "object"}, {"type": ["object", "null"]}]}) == ["/allOf/0/type"]
    assert lost({"$ref": "#/$defs/a", "$defs": {"a": {"type": kind}}}) == ["/$ref/type"]


@pytest.mark.parametrize("inner", [{"allOf": [{"required": ["a"]}]}, {"anyOf": [{"required": ["a"]}]}])
def test_constraints_too_deep_to_merge_are_reported(inner):
    schema = inner
    for _ in range(9):
        schema = {"allOf": [schema]}
    assert lost(schema) == [f"{'/allOf/0' * 9}/{next(iter(inner))}"]
    assert lost(schema["allOf"][0]) == [f"{'/allOf/0' * 8}/anyOf"] * ("anyOf" in inner)


def test_circular_references_cost_no_more_than_the_schema():
    circle = {"allOf": [{"$ref": "#/$defs/a"}] * 300, "properties": {"x": {}}}
    assert root({"$defs": {"a": circle}, **circle})["properties"] == {"x": {}}
    assert cpu_units(lambda: root({"$defs": {"a": circle}, **circle}), enough=1300) < 1300


def test_a_name_of_ours_stays_clear_of_the_clients():
    assert unused("answer", {"answer", "answer_"}) == "answer__"


def test_an_id_of_an_earlier_turn_answers_nothing_any_more():
    ids = ToolIds()
    ids.assistant_turn()
    ids.call("a")
    assert ids.waiting
    assert ids.answer({"id": "a", "content": []}, "id", "/messages/1")
    ids.assistant_turn()
    with pytest.raises(Refused, match="answers no tool call"):
        ids.answer({"id": "a", "content": []}, "id", "/messages/3")
