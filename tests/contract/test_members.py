"""Tests of `Members`, which finds the fields of a JSON body without decoding their values.

Some fields can then be replaced, and the bytes of all others stay unchanged.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.errors import Refused
from gateway.contract.members import MAX_MEMBERS, Members
from tests.helpers.cpu_time import cpu_units

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
separators = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")])


@given(st.dictionaries(st.text(), values, max_size=6), separators, st.booleans())
def test_every_member_decodes_to_what_json_says(data, how, ascii_only):
    text = json.dumps(data, separators=how, ensure_ascii=ascii_only)
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    members = Members(body)
    assert list(members) == list(data)
    for name, value in members.items():
        assert json.loads(value) == data[name]


@given(st.dictionaries(st.text(alphabet="abc", min_size=1), values, min_size=1, max_size=5), st.data())
def test_a_member_named_twice_is_refused_wherever_it_stands(data, draw):
    name = draw.draw(st.sampled_from(list(data)))
    parts = [f"{json.dumps(key)}:{json.dumps(value)}" for key, value in data.items()]
    escaped = "".join(f"\\u{ord(character):04x}" for character in name)
    again = draw.draw(st.sampled_from([json.dumps(name), f'"{escaped}"']))
    parts.insert(draw.draw(st.integers(0, len(parts))), f"{again}:{json.dumps(draw.draw(values))}")
    with pytest.raises(Refused) as refused:
        Members(("{" + ",".join(parts) + "}").encode())
    assert refused.value.problem.param == name


def test_splicing_leaves_the_other_members_as_they_came():
    body = b'{ "model" : "a",  "n":1.0, "big": 123456789012345678901234567890, "gone": [1], "u":"\\u00e9" }'
    spliced = Members(body).spliced({"model": b'"b"', "gone": None, "new": b"true"})
    assert spliced == b'{"model" : "b","n":1.0,"big": 123456789012345678901234567890,"u":"\\u00e9","new":true}'


def test_splicing_an_empty_object_adds_the_first_member():
    assert Members(b" {} ").spliced({"a": b"1"}) == b'{"a":1}'


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{", b'{"a":1}x', b'{"a":1,}', b"\xff", b"nul"])
def test_what_is_no_json_object_is_refused_with_the_reason(body):
    with pytest.raises(Refused, match="the body is not a JSON object: "):
        Members(body)


@pytest.mark.parametrize("value", [b'"\xff"', b"[" * 5000 + b"]" * 5000, b"1" * 5000 + b"."])
def test_a_value_that_cannot_be_read_is_a_refusal_and_no_crash(value):
    with pytest.raises(Refused):
        Members(b'{"a":' + value + b"}").decode("a")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"model":"m","model":"\xff"}', "model"),
        (b'{"model":"m","model":' + b"9" * 6000 + b"}", "model"),
        (b'{"model":"m","x":' + b"9" * 6000 + b',"model":"n"}', "model"),
        (b'{"a":12,"b":0,"a":1}', "a"),
        (b'{"a":12,"a":1}', "a"),
        (b'{"a":1,"b":2,"a":1,"c":3}', "a"),
        (b'{"a":1,"b":2,"b":2}', "b"),
        (b'{"a":[1],"b":[2],"b":{}}', "b"),
    ],
)
def test_the_name_of_a_repeated_member_is_found_whatever_the_values_are(body, name):
    with pytest.raises(Refused, match="twice") as refused:
        Members(body)
    assert refused.value.problem.param == name


@given(st.dictionaries(st.text(alphabet="abc", min_size=1), st.binary(max_size=6), min_size=1), st.data())
def test_a_repeated_member_with_any_bytes_in_it_is_a_refusal_and_no_crash(data, draw):
    parts = [f'"{name}":'.encode() + value for name, value in data.items()]
    parts.append(f'"{draw.draw(st.sampled_from(list(data)))}":"x"'.encode())
    with pytest.raises(Refused):
        Members(b"{" + b",".join(parts) + b"}")


def test_a_refused_large_body_is_not_decoded():
    """Check that a body of many megabytes with a repeated name is refused quickly, without decoding its values."""
    values = b",".join([b'{"a":[1,2,3]}'] * 1_000_000)
    body = b'{"model":"m","x":[' + values + b'],"model":"n"}'

    def refused():
        with pytest.raises(Refused, match='names "model" twice'):
            Members(body)

    assert cpu_units(refused) < 60


def test_a_repeated_name_is_shown_by_its_beginning():
    name = b'"' + b"n" * 5000 + b'"'
    with pytest.raises(Refused) as refused:
        Members(b"{" + name + b":1," + name + b":2}")
    assert len(refused.value.problem.message) < 200


def test_a_body_of_too_many_members_is_refused_before_they_are_walked():
    def body(count):
        return b"{" + b",".join(b'"k%d":1' % index for index in range(count)) + b"}"

    assert len(Members(body(MAX_MEMBERS))) == MAX_MEMBERS
    with pytest.raises(Refused, match="300000 members at its top; at most 1000 are taken"):
        Members(body(300_000))


@pytest.mark.parametrize("value", [b"[]", b'"' + b"x" * 100 + b'"', b"null"])
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_a_replaced_member_is_found_with_all_others_where_they_then_stand(name, value):
    before = Members(b' { "a" : 1.0 , "b":{"c":[2]},"c" : "x"} ')
    after = before.replaced(name, value)
    assert dict(after) == {**before, name: value}
    assert list(after) == list(before)
    assert dict(Members(after.body)) == dict(after)
    assert after.spliced({name: before[name]}) == before.spliced({})
