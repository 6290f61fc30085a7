"""Tests that a remembered schema equals the result of a new conversion, and that the same losses are reported."""

import pytest

from gateway.contract.errors import Refused
from gateway.contract.flag import Caps
from gateway_plugins.dialects.bedrock_converse.tools import tool_spec
from gateway_plugins.shared import remembered_schemas
from gateway_plugins.shared.remembered_schemas import converted

SCHEMA = {"type": "object", "properties": {"path": {"$ref": "#/nowhere"}, "size": {"type": "integer", "maximum": 1.0}}}


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    remembered_schemas._made.cache_clear()
    yield
    remembered_schemas._made.cache_clear()


class Conversion:
    """A converter of schemas that counts its calls, and reports the part `/lost` of every schema as dropped."""

    def __init__(self):
        self.calls = 0

    def __call__(self, schema, name, at, options, drop):
        self.calls += 1
        drop(f"{at}/lost")
        return {"of": schema, "for": name, "with": options}


def test_equal_arguments_are_converted_once_and_report_the_same_losses():
    convert, lost = Conversion(), []
    made = [converted(convert, {"a": [1, 1.0]}, "read", "/tools/0", True, lost.append) for _ in range(3)]
    assert made == [{"of": {"a": [1, 1.0]}, "for": "read", "with": True}] * 3
    assert (convert.calls, lost) == (1, ["/tools/0/lost"] * 3)


def test_a_change_of_a_result_changes_no_later_one():
    convert = Conversion()
    converted(convert, {"a": {}}, "read", "/tools/0", None, [].append)["of"]["a"]["b"] = 1
    assert converted(convert, {"a": {}}, "read", "/tools/0", None, [].append)["of"] == {"a": {}}


@pytest.mark.parametrize(
    "other",
    [({"a": 1.0}, "read", "/tools/0", True), ({"a": 1}, "write", "/tools/0", True), ({"a": 1}, "read", "/tools/1", True),
     ({"a": 1}, "read", "/tools/0", False), ({"a": True}, "read", "/tools/0", True)],
)  # fmt: skip
def test_other_arguments_are_converted_anew(other):
    convert = Conversion()
    first = converted(convert, {"a": 1}, "read", "/tools/0", True, [].append)
    second = converted(convert, *other, [].append)
    assert convert.calls == 2
    assert repr(second) != repr(first) or other[2] != "/tools/0"


@pytest.mark.parametrize("schema", [{"maximum": 2**70}, {"description": "x" * 10_000}, "nested"])
def test_a_schema_that_cannot_be_remembered_is_converted_every_time(schema):
    if schema == "nested":
        schema = {}
        for _ in range(300):
            schema = {"items": schema}
    convert = Conversion()
    for _ in range(2):
        assert converted(convert, schema, "read", "/tools/0", None, [].append)["of"] is schema
    assert convert.calls == 2


def test_a_refused_schema_is_refused_every_time():
    for _ in range(2):
        with pytest.raises(Refused, match=r"tools\[0\].*must name a type"):
            tool_spec("read", "", {"type": "object", "properties": {"a": {"type": 1}}}, "/tools/0", Caps(), [].append)


def test_the_capabilities_of_a_model_decide_what_is_lost():
    lost = []
    for references in (True, False, True, False):
        caps = Caps(schema_references=references)
        lost.append([])
        tool_spec("read", "", SCHEMA, "/tools/0", caps, lost[-1].append)
    assert lost[0] == lost[2]
    assert lost[1] == lost[3] == ["/tools/0/properties/path/$ref"]
